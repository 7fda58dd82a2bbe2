"""Make a small English-Russian model with a tokenizer biased to English, for pipelines/second-language.yaml.

    python scripts/second_language.py --english TEXT [TEXT ...] --russian TEXT [TEXT ...] \\
        --english-heldout TEXT --russian-heldout TEXT
    vocabalign run pipelines/second-language.yaml

The texts are JSON lines with a ``text`` each. Both languages get as much text, in bytes, as the smaller one has; the
tokenizer sees ``--biased-share`` of Russian only, as tokenizers of published models do, so that Russian costs the model
twice the tokens that a balanced tokenizer would need. The model, a Llama of 1.3 M parameters, is then trained from
random weights on both languages alike by ``vocabalign finetune``.

Interrupt it at any time: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from vocabalign.api import finetune
from vocabalign.stages import STAGES, TokenizerTrainConfig
from vocabalign.text.corpus import read_texts
from vocabalign.text.tokenizers import load_vocabulary, save_tokenizer

ROOT = Path(__file__).resolve().parents[1]
CONTEXT = 256
LANGUAGES = ("english", "russian")


def num_bytes(texts: Iterable[str]) -> int:
    """Bytes of the texts in UTF-8."""
    return sum(len(text.encode()) for text in texts)


def take(texts: Iterable[str], most: int) -> Iterator[str]:
    """Whole documents, from the first on, of at most so many bytes together."""
    for text in texts:
        most -= len(text.encode())
        if most < 0:
            return
        yield text


def write(texts: Iterable[str], path: Path) -> None:
    """JSON lines, under the final name only when whole."""
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    new.replace(path)


def write_texts(work: Path, training: dict[str, list[str]], heldout: dict[str, str], biased_share: float) -> None:
    """``LANGUAGE.jsonl`` in equal amounts, ``heldout-LANGUAGE.jsonl``, and ``biased.jsonl`` for the first tokenizer."""
    texts = {language: list(read_texts(training[language])) for language in LANGUAGES}
    size = min(map(num_bytes, texts.values()))
    texts = {language: list(take(found, size)) for language, found in texts.items()}
    for language in LANGUAGES:
        write(texts[language], work / f"{language}.jsonl")
        write(read_texts([heldout[language]]), work / f"heldout-{language}.jsonl")
    russian = take(texts["russian"], int(num_bytes(texts["english"]) * biased_share / (1 - biased_share)))
    write([*texts["english"], *russian], work / "biased.jsonl")


def write_random_model(tokenizer: Path, folder: Path, hidden_size: int, num_layers: int) -> None:
    """A Llama with random weights (seed 0) and this tokenizer."""
    vocabulary = load_vocabulary(tokenizer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 8 // 3,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=vocabulary.roles.get("bos"),
        eos_token_id=vocabulary.roles.get("eos"),
        pad_token_id=None,
    )
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    LlamaForCausalLM(config).save_pretrained(new)
    save_tokenizer(tokenizer, new)
    new.replace(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for language in LANGUAGES:
        parser.add_argument(f"--{language}", nargs="+", required=True, metavar="TEXT", help="training text")
        parser.add_argument(f"--{language}-heldout", required=True, metavar="TEXT", help="text for scores only")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "second-language")
    parser.add_argument("--biased-share", type=float, default=0.02, help="share of Russian that the tokenizer sees")
    parser.add_argument("--vocab-size", type=int, default=2048)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1200, help="of 16 sequences of 256 tokens")
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "biased.jsonl").exists():  # written last
        training = {language: getattr(arguments, language) for language in LANGUAGES}
        heldout = {language: getattr(arguments, f"{language}_heldout") for language in LANGUAGES}
        write_texts(work, training, heldout, arguments.biased_share)
    if not (work / "tokenizer").exists():
        biased = str(work / "biased.jsonl")
        config = TokenizerTrainConfig(corpus=[biased], size=arguments.vocab_size, out=work / "tokenizer")
        STAGES["tokenizer-train"].run(config)
    if not (work / "random").exists():
        write_random_model(work / "tokenizer", work / "random", arguments.hidden_size, arguments.layers)
    if not (work / "model").exists():
        finetune(
            model=work / "random",
            corpus=[str(work / f"{language}.jsonl") for language in LANGUAGES],
            heldout=[str(work / f"heldout-{language}.jsonl") for language in LANGUAGES],
            out=work / "model",
            rows_share=0.0,
            learning_rate=4e-3,
            training={
                "steps": arguments.steps,
                "batch_size": 16,
                "context": CONTEXT,
                "betas": [0.9, 0.95],
                "weight_decay": 0.1,
                "warmup_share": 0.05,
                "final_learning_rate_share": 0.05,
                "checkpoint_every": 100,
                "evaluate_every": 400,
            },
        )
    print(f"{work / 'model'} is ready: vocabalign run pipelines/second-language.yaml")


if __name__ == "__main__":
    main()
