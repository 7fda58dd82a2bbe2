"""Train the two small models that ship with vocabalign and that the quickstart starts from.

    python scripts/train_demo_models.py source      # Llama, untied, byte-level BPE of 4,096 tokens, for prose
    python scripts/train_demo_models.py teacher     # GPT-NeoX, larger, SentencePiece unigram of 6,000 pieces

The text is Python's own standard library (vocabalign/text/standard_library.py) without the held-out
modules: for the teacher all of it, for the source its documentation alone. So the source is a model of
English prose with a tokenizer for prose, and the quickstart brings both to code.

Interrupt it at any time: the same command goes on from the last checkpoint under ``--work``. Each run
appends its held-out bits per byte to ``scripts/demo_training_curves.jsonl``.

The learning rate is constant, then falls linearly over the last ``decay_epochs``; after that the
model is trained for whole epochs at the final rate until one of them improves the held-out bits per
byte by less than 0.5 %. Only then is it called converged and written in half precision.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from demo_tokenizers import CONTEXT, train_byte_level_bpe, train_unigram
from tokenizers import Tokenizer
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from vocabalign.memory import keep_freed_memory
from vocabalign.text.standard_library import documentation, is_heldout, passages

ROOT = Path(__file__).resolve().parents[1]
CURVES = ROOT / "scripts" / "demo_training_curves.jsonl"
CONVERGED_GAIN = 0.005


@dataclass(frozen=True)
class Recipe:
    """How one of the two models is trained."""

    epochs: int
    decay_epochs: int
    learning_rate: float
    batch: int = 16
    warmup_steps: int = 200
    final_rate: float = 0.05
    seed: int = 0


RECIPES = {
    "source": Recipe(epochs=5, decay_epochs=4, learning_rate=4e-3, warmup_steps=60),
    "teacher": Recipe(epochs=7, decay_epochs=3, learning_rate=2.5e-3),
}


# -------------------------------------------------------------------- models


def make_source(vocab_size: int) -> PreTrainedModel:
    """Llama, untied, 1.1 M parameters."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


def make_teacher(vocab_size: int) -> PreTrainedModel:
    """GPT-NeoX, tied, 2.5 M parameters."""
    config = GPTNeoXConfig(
        vocab_size=vocab_size,
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=3,
        num_attention_heads=4,
        rotary_pct=0.5,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    return GPTNeoXForCausalLM(config)


# ------------------------------------------------------------------ training


def encode(tokenizer: Tokenizer, texts: list[str], bos: int, eos: int) -> list[torch.Tensor]:
    """One document a passage: BOS, its tokens, and EOS where EOS is another token."""
    end = [] if eos == bos else [eos]
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    return [torch.tensor([bos, *encoding.ids, *end]) for encoding in encodings]


def blocks_of_epoch(documents: list[torch.Tensor], seed: int, epoch: int) -> torch.Tensor:
    """The documents in a new order, joined and cut: (num_blocks, CONTEXT + 1)."""
    order = list(range(len(documents)))
    random.Random(seed * 1000 + epoch).shuffle(order)
    stream = torch.cat([documents[i] for i in order])
    num_blocks = (len(stream) - 1) // CONTEXT
    return torch.stack([stream[i * CONTEXT : i * CONTEXT + CONTEXT + 1] for i in range(num_blocks)])


def loss_of(model: PreTrainedModel, block: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(block[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), block[:, 1:].flatten(), reduction=reduction)


@torch.no_grad()
def heldout_bits_per_byte(model: PreTrainedModel, documents: list[torch.Tensor], num_bytes: int) -> float:
    """In windows without overlap: a little above the sliding-window figure that ``evaluate`` prints."""
    model.eval()
    nats = 0.0
    for document in documents:
        for start in range(0, len(document) - 1, CONTEXT):
            nats += float(loss_of(model, document[None, start : start + CONTEXT + 1], "sum"))
    model.train()
    return nats / math.log(2) / num_bytes


def learning_rate_at(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    decay_start = (recipe.epochs - recipe.decay_epochs) * steps_per_epoch
    progress = (step - decay_start) / (recipe.decay_epochs * steps_per_epoch)
    factor = 1 - (1 - recipe.final_rate) * min(1.0, max(0.0, progress))
    return recipe.learning_rate * factor * min(1.0, (step + 1) / recipe.warmup_steps)


def train(name: str, recipe: Recipe, work: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()
    torch.manual_seed(recipe.seed)
    folder = work / name
    everything = list(documentation() if name == "source" else passages())
    training_texts = [p.text for p in everything if not is_heldout(p.module)]
    heldout_texts = [p.text for p in everything if is_heldout(p.module)]
    heldout_bytes = sum(len(text.encode()) for text in heldout_texts)

    tokenizer_path = folder / "tokenizer.json"
    if tokenizer_path.exists():
        tokenizer = Tokenizer.from_file(str(tokenizer_path))
    else:
        tokenizer = (train_byte_level_bpe if name == "source" else train_unigram)(training_texts, folder)
    model = (make_source if name == "source" else make_teacher)(tokenizer.get_vocab_size())
    bos, eos = model.config.bos_token_id, model.config.eos_token_id
    training = encode(tokenizer, training_texts, bos, eos)
    heldout = encode(tokenizer, heldout_texts, bos, eos)
    num_tokens = sum(map(len, training))
    print(f"{name}: {model.num_parameters():,} parameters, {num_tokens:,} training tokens", flush=True)

    decayed = [p for p in model.parameters() if p.ndim == 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)
    step, history = 0, []
    checkpoint_path = folder / "checkpoint.pt"
    if checkpoint_path.exists():
        checkpoint = torch.load(checkpoint_path, weights_only=True)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        step, history = checkpoint["step"], checkpoint["history"]
        print(f"resumed at step {step}", flush=True)

    steps_per_epoch = ((num_tokens - 1) // CONTEXT) // recipe.batch
    while not (len(history) > recipe.epochs and history[-2] / history[-1] - 1 < CONVERGED_GAIN):
        epoch = step // steps_per_epoch
        blocks = blocks_of_epoch(training, recipe.seed, epoch)
        started, running = time.time(), 0.0
        for index in range(step - epoch * steps_per_epoch, steps_per_epoch):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, steps_per_epoch, recipe)
            loss = loss_of(model, blocks[index * recipe.batch : (index + 1) * recipe.batch])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            running += loss.item()
            step += 1
            if step % 100 == 0:
                print(f"step {step} loss {running / 100:.4f} {time.time() - started:.0f} s", flush=True)
                running = 0.0
            if step % 200 == 0 and step % steps_per_epoch:
                save_checkpoint(checkpoint_path, model, optimizer, step, history)
        history.append(heldout_bits_per_byte(model, heldout, heldout_bytes))
        save_checkpoint(checkpoint_path, model, optimizer, step, history)
        rate = learning_rate_at(step, steps_per_epoch, recipe)
        row = {
            "model": name,
            "epoch": epoch + 1,
            "step": step,
            "tokens": step * recipe.batch * CONTEXT,
            "learning_rate": rate,
            "heldout_bits_per_byte": round(history[-1], 5),
        }
        with CURVES.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)

    save_model(model, folder, ROOT / "vocabalign" / "demo" / name)


def save_checkpoint(
    path: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, step: int, history: list[float]
) -> None:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "history": history}
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def save_model(model: PreTrainedModel, tokenizer_folder: Path, out: Path) -> None:
    """Half precision, with its tokenizer, as an ordinary Hugging Face folder."""
    model.half().save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model"):
        if (tokenizer_folder / name).exists():
            (out / name).write_bytes((tokenizer_folder / name).read_bytes())
    print(f"written to {out}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(RECIPES))
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "demo", help="checkpoints and tokenizers")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    train(arguments.model, RECIPES[arguments.model], arguments.work, arguments.threads)
