"""Tiny tokenizers of every kind, and text of many scripts."""

import json

from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from tests.conftest import TEXT, make_byte_level_tokenizer, make_metaspace_tokenizer
from vocabalign.tokenizer_tools.components import make_components
from vocabalign.tokenizer_tools.state import rebuild
from vocabalign.tokenizer_tools.train import train

MARKER = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def make_folders(root):
    """name -> folder of a tokenizer; "metaspace" has tokens with a space inside or at the end."""
    folders = {
        "byte-level": make_byte_level_tokenizer(root / "byte-level", 500),
        "metaspace": make_metaspace_tokenizer(root / "metaspace", 480),
    }
    folders["ignore-merges"] = _changed(folders["byte-level"], root / "ignore-merges")
    for kind in ("sentencepiece-unigram", "sentencepiece-bpe"):
        folders[kind] = save(root / kind, *trained(kind, 420))
    state, components = trained("sentencepiece-bpe", 420)
    folders["llama-like"] = save(root / "llama-like", {**state, "pre_tokenizer": None}, components)
    folders["wordpiece"] = _wordpiece(root / "wordpiece")
    return folders


def trained(kind, size, texts=TEXT, **options):
    components = make_components(kind)
    return train(kind, texts * 4, size, components=components, **options), components


def save(folder, state, components):
    rebuild(state, None, components.roles).save_pretrained(folder)
    return folder


def _changed(source, folder):
    """As Llama 3: whole words are looked up first, and special tokens lie behind the model's."""
    folder.mkdir()
    state = json.loads((source / "tokenizer.json").read_text())
    state["model"]["ignore_merges"] = True
    size = len(state["model"]["vocab"])
    state["added_tokens"] += [{"id": size + i, "content": f"<|marker_{i}|>", **MARKER} for i in range(3)]
    begin = {"SpecialToken": {"id": "<|marker_1|>", "type_id": 0}}
    state["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|marker_1|>": {"id": "<|marker_1|>", "ids": [size + 1], "tokens": ["<|marker_1|>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(state))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|marker_1|>", "eos_token": "<|marker_2|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": "{{ bos_token }}x"}))
    return folder


def _wordpiece(folder):
    folder.mkdir()
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(TEXT * 4, trainers.WordPieceTrainer(vocab_size=220, special_tokens=["[UNK]"]))
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


WORDS = " ".join(TEXT).split()
# Text of the toy corpus' words mixed with whatever Unicode has (no surrogates: they are no text), and byte tokens.
ANY_TEXT = st.lists(
    st.sampled_from(WORDS)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
    | st.sampled_from(["\r\n", "\0", "<0x0A>", "\u0301", "a" * 40, "\U0001f469\u200d\U0001f469", "नमस्ते", "  ", "世界"]),
    max_size=12,
).map(" ".join)
