"""What the tests share: tiny tokenizers and models made in memory, and the real material where it is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Without a GPU, Triton's kernels run in its interpreter. Triton looks when it is first imported, by whomever.
if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

TEXT = [
    "The cat sat on the mat, and the dog lay by the door.",
    "def add(first, second):\n    return first + second\n",
    "Once upon a time there was a little girl who lived in a small house near the wood.",
    'She said: "I\'m going to the market to buy 3 apples, 12 pears and 250 nuts!"',
    "Жила-была маленькая девочка, и была у неё красная шапочка.",
    "Der Müller hatte drei Söhne, eine Mühle, einen Esel und einen Kater.",
    "for index in range(10):\n        print(index, '\\t', index ** 2)\n",
    "L'été, la forêt était pleine d'oiseaux; à Noël, elle était blanche.",
]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """A toy corpus: prose, code and several scripts."""
    return TEXT


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy corpus as a JSON-lines file, repeated so that there is enough to train on."""
    import json

    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for repeat in range(20):
            for text in TEXT:
                file.write(json.dumps({"text": f"{text} {repeat}"}, ensure_ascii=False) + "\n")
    return path


@pytest.fixture(scope="session")
def heldout_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like the corpus, and no document of it."""
    import json

    path = tmp_path_factory.mktemp("corpus") / "heldout.jsonl"
    lines = [json.dumps({"text": f"{text} Apart {repeat}"}, ensure_ascii=False) for repeat in range(5) for text in TEXT]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _save_tokenizer(tokenizer, folder: Path, **special_tokens: str) -> Path:
    import json

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **special_tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def make_byte_level_tokenizer(folder: Path, vocab_size: int = 400, texts: list[str] = TEXT) -> Path:
    """Byte-level BPE, one special token for BOS and EOS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts * 4, trainer)
    return _save_tokenizer(tokenizer, folder, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def make_metaspace_tokenizer(folder: Path, vocab_size: int = 480, texts: list[str] = TEXT) -> Path:
    """SentencePiece-like BPE as in Llama 2: dummy leading space, byte fallback, <unk> <s> </s>."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(texts * 4, trainer)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    # The trainer registers the bytes as added tokens; in real vocabularies they are ordinary ones.
    import json

    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < 3]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    return _save_tokenizer(tokenizer, folder, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def make_llama(folder: Path, vocab_size: int, *, tied: bool = False, hidden_size: int = 32, seed: int = 0) -> Path:
    """A tiny random Llama without a tokenizer, in float32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def byte_level_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a byte-level BPE tokenizer."""
    return make_byte_level_tokenizer(tmp_path_factory.mktemp("byte-level"))


@pytest.fixture(scope="session")
def metaspace_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a SentencePiece-like BPE tokenizer with byte fallback."""
    return make_metaspace_tokenizer(tmp_path_factory.mktemp("metaspace"))


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny untied Llama with the byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    make_byte_level_tokenizer(folder)
    return make_llama(folder, 400)


@pytest.fixture(scope="session")
def material() -> Path:
    """The folder of real models, tokenizers and text; the test is skipped where there is none."""
    path = os.environ.get("VOCABALIGN_MATERIAL")
    if not path or not Path(path).is_dir():
        pytest.skip("VOCABALIGN_MATERIAL is not set")
    return Path(path)
