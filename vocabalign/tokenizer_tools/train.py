"""New tokenizers from text: byte-level BPE, and SentencePiece unigram and BPE with byte fallback.

All are trained from counts of words, so memory follows the number of different words and not the text. Words are cut
by the normalizer and pre-tokenizer that the tokenizer will have: its own, or those of an existing one.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.errors import ConfigError, TokenizerError
from vocabalign.tokenizer_tools.components import Components, make_components
from vocabalign.tokenizer_tools.pieces import CONTROLS, Pieces
from vocabalign.tokenizer_tools.state import State
from vocabalign.tokenizer_tools.viterbi import BYTE_CHARACTERS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTES = 256
Trainer = Callable[[State, Iterable[str], int, Mapping[str, Any]], State]
# SentencePiece refuses to make a table of pieces that is larger; longer words are cut there.
_LONGEST_WORD = 1000


def train(
    kind: str,
    texts: Iterable[str],
    size: int,
    *,
    components: Components | None = None,
    min_count: int = 2,
    max_token_length: int = 32,
    character_coverage: float = 0.9995,
) -> State:
    """Train a tokenizer.

    Args:
        kind: one of ``KINDS``.
        texts: to learn from; read once.
        size: tokens in all, special ones and bytes included.
        components: what surrounds the model, and the special tokens; the kind's own by default.
        min_count: byte-level BPE: least occurrences of a pair that becomes a token.
        max_token_length: most characters in a token (bytes, for byte-level BPE).
        character_coverage: SentencePiece: share of the text whose characters become tokens; the others are written
            in bytes.

    Returns:
        The content of a ``tokenizer.json``. It may have fewer tokens than asked for, where the text gives no more.

    Raises:
        ConfigError: the size has no room for special tokens, bytes and characters.
        TokenizerError: the library refuses the text.
    """
    components = components or make_components(kind)
    least = len(components.special) + _BYTES
    if size <= least:
        raise ConfigError(
            f"A vocabulary of {size} has no room for words: special tokens and the 256 bytes alone are {least}; "
            "ask for more."
        )
    options = {
        "min_count": min_count,
        "max_token_length": max_token_length,
        "coverage": character_coverage,
        "unknown": components.roles.get("unk", ""),
    }
    return KINDS[kind](_frame(components), texts, size, options)


def _frame(components: Components) -> State:
    """A ``tokenizer.json`` whose model has nothing but the special tokens."""
    added = [token.as_added(token_id) for token_id, token in enumerate(components.special)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": components.normalizer,
        "pre_tokenizer": components.pre_tokenizer,
        "post_processor": components.post_processor,
        "decoder": components.decoder,
        "model": {"type": "BPE", "vocab": {token["content"]: token["id"] for token in added}, "merges": []},
    }


def _byte_level(state: State, texts: Iterable[str], size: int, options: Mapping[str, Any]) -> State:
    """BPE on bytes (Sennrich et al. 2016; bytes as in GPT-2) by the tokenizers library, which counts words itself."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    specials = [token["content"] for token in state["added_tokens"]]
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(specials),
        min_frequency=options["min_count"],
        max_token_length=options["max_token_length"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    frame, raw = _as_tokenizer(state), Tokenizer(models.BPE())
    raw.normalizer, raw.pre_tokenizer = frame.normalizer, frame.pre_tokenizer
    raw.train_from_iterator(texts, trainer)
    trained = json.loads(raw.to_str())["model"]
    ordered = sorted(trained["vocab"], key=trained["vocab"].__getitem__)
    state["model"] = {**trained, "vocab": {token: i for i, token in enumerate([*specials, *ordered])}}
    return state


def _as_tokenizer(state: Mapping[str, Any]) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps(state, ensure_ascii=False))


def _sentencepiece(model_type: str) -> Trainer:
    def train_pieces(state: State, texts: Iterable[str], size: int, options: Mapping[str, Any]) -> State:
        import sentencepiece

        specials = [token["content"] for token in state["added_tokens"]]
        # SentencePiece cuts further by itself, and finds candidates for pieces in what differs around them.
        words = Pieces(_as_tokenizer(state), state).count(texts, fine=False)
        with tempfile.TemporaryDirectory() as folder:
            # One more for the unknown token that SentencePiece insists on; ours is among the special ones.
            path = _run_sentencepiece(model_type, Path(folder), words, size - len(specials) + 1, options)
            processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        ids = [i for i in range(processor.get_piece_size()) if not processor.is_unknown(i)]
        scores = {processor.id_to_piece(i): processor.get_score(i) for i in ids}
        num_bytes = sum(processor.is_byte(i) for i in ids)
        taken = [raw for raw in scores if raw not in specials]
        make = _merge_model if model_type == "bpe" else _score_model
        state["model"] = make(specials, {raw: scores[raw] for raw in taken}, num_bytes, options["unknown"])
        return state

    return train_pieces


def _merge_model(specials: Sequence[str], scores: Mapping[str, float], num_bytes: int, unknown: str) -> State:
    """BPE: two pieces are merged wherever they make a piece, the piece with the best score first."""
    from transformers.convert_slow_tokenizer import generate_merges

    ids = {raw: token_id for token_id, raw in enumerate([*specials, *scores])}
    skipped = [*specials, *list(scores)[:num_bytes]]
    merges = generate_merges(ids, dict(scores) | dict.fromkeys(specials, 0.0), skipped)
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": ids,
        "merges": [list(pair) for pair in merges],
    }


def _score_model(specials: Sequence[str], scores: Mapping[str, float], num_bytes: int, unknown: str) -> State:
    """Unigram: the cut with the highest sum of scores."""
    # The tokenizers library would take the text "<0x0A>" for a byte token, with SentencePiece's score of 0 for it.
    least = 10 * min(scores.values()) - 100
    pieces = [[raw, least if number < num_bytes else score] for number, (raw, score) in enumerate(scores.items())]
    vocabulary = [[raw, 0.0] for raw in specials] + pieces
    return {"type": "Unigram", "unk_id": list(specials).index(unknown), "vocab": vocabulary, "byte_fallback": True}


def _run_sentencepiece(
    model_type: str, folder: Path, words: Counter[str], size: int, options: Mapping[str, Any]
) -> Path:
    """Train by the sentencepiece library on (word, count) lines; returns the model file."""
    import sentencepiece

    with (folder / "words.tsv").open("w", encoding="utf-8", newline="\n") as file:
        for word, count in sorted(words.items()):
            # These cannot be written in this format; they become byte tokens.
            if not CONTROLS.search(word):
                file.write(f"{word[:_LONGEST_WORD]}\t{count}\n")
    try:
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "words.tsv"),
            input_format="tsv",
            model_prefix=str(folder / "model"),
            model_type=model_type,
            vocab_size=size,
            byte_fallback=True,
            character_coverage=options["coverage"],
            required_chars=BYTE_CHARACTERS if model_type == "unigram" else "",
            max_sentencepiece_length=options["max_token_length"],
            max_sentence_length=8 * _LONGEST_WORD,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            hard_vocab_limit=False,
            bos_id=-1,
            eos_id=-1,
            num_threads=_THREADS,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        sizes = re.search(r"required_chars\. (\d+) vs (\d+)", str(error))
        if sizes:
            extra = int(sizes[2]) - int(sizes[1])
            raise ConfigError(
                f"The vocabulary is {extra} tokens too small for bytes and the characters of the text: ask for "
                "more, or lower character_coverage so that fewer characters get a token."
            ) from error
        raise TokenizerError(f"SentencePiece cannot train on this text: {' '.join(str(error).split())}") from error
    return folder / "model.model"


# Results depend on the number of threads (sums of floats), so it is not the machine's.
_THREADS = 4

KINDS: dict[str, Trainer] = {
    "byte-level-bpe": _byte_level,
    "sentencepiece-unigram": _sentencepiece("unigram"),
    "sentencepiece-bpe": _sentencepiece("bpe"),
}
