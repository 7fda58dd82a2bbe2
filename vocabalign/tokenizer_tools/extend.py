"""More tokens for a tokenizer that exists: learned from text, or for given words; the old ids stay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vocabalign.errors import TokenizerError
from vocabalign.progress import logger
from vocabalign.tokenizer_tools.additions import Growing, grow
from vocabalign.tokenizer_tools.pieces import CONTROLS, LONGEST_PIECE, UNSPACED, Pieces
from vocabalign.tokenizer_tools.state import State, added_ids, read_state


@dataclass
class Extension:
    """What was added.

    Attributes:
        state: content of the new ``tokenizer.json``.
        added: raw token -> id of new tokens, in order.
        merges: new merges.
        learned: new tokens learned from text.
        words: word -> the raw token for each of its forms, of the words that got one or had one.
        parts: new tokens that were needed only to build words.
        not_produced: word -> why it is no token.
        literal: words that were added to be cut out of text before the model sees it.
    """

    state: State
    added: dict[str, int] = field(default_factory=dict)
    merges: int = 0
    learned: int = 0
    words: dict[str, list[str]] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    not_produced: dict[str, str] = field(default_factory=dict)
    literal: list[str] = field(default_factory=list)


def extend(
    state: Mapping[str, Any],
    *,
    texts: Iterable[str] = (),
    num_tokens: int = 0,
    words: Sequence[str] = (),
    word_forms: str = "auto",
    min_count: int = 2,
    max_token_length: int = 32,
    literal: bool = False,
) -> Extension:
    """Add words first, then what text teaches.

    Args:
        state: content of a ``tokenizer.json``; left as it is.
        texts: to learn from; read once.
        num_tokens: how many tokens to learn from the texts.
        words: to become one token each.
        word_forms: "spaced" (as behind a space), "bare", "both", or "auto": spaced where the script writes spaces.
        min_count: least occurrences that make a token.
        max_token_length: most characters in a learned token (bytes, for byte-level tokenizers).
        literal: add words that the model cannot produce so that they are cut out of text before it.

    Raises:
        TokenizerError: this kind of tokenizer cannot be extended so.
    """
    import copy

    from tokenizers import Tokenizer

    growing = grow(copy.deepcopy(dict(state)))
    pieces = Pieces(Tokenizer.from_str(_dump(state)), state)
    result = Extension(growing.state, growing.added)
    merges_before = len(growing.state["model"].get("merges", ()))
    _add_words(growing, pieces, words, word_forms, result)
    result.parts = [raw for raw in growing.added if raw not in {r for forms in result.words.values() for r in forms}]
    if num_tokens:
        result.learned = _learn(growing, pieces, texts, num_tokens, min_count, max_token_length)
    if literal:
        _add_literally(growing, result)
    result.merges = len(growing.state["model"].get("merges", ())) - merges_before
    return result


def _learn(
    growing: Growing, pieces: Pieces, texts: Iterable[str], num_tokens: int, min_count: int, max_length: int
) -> int:
    from vocabalign.tokenizer_tools.pair_learning import PairLearner

    table = growing.learning_table()
    counts = pieces.count(texts)
    words = [(growing.tokens(word[:LONGEST_PIECE]), count) for word, count in sorted(counts.items())]
    taboo = set(added_ids(growing.state))

    def allowed(raw: str) -> bool:
        return len(raw) <= max_length and raw not in taboo and not CONTROLS.search(raw)

    fallback = growing.components.byte_fallback
    learner = PairLearner(words, table, set(growing.vocabulary), allowed, lambda c: len(c.encode()) if fallback else 2)
    steps = learner.learn(num_tokens, min_count)
    for step in steps:
        growing.take(step)
    found = sum(step.is_new for step in steps)
    if found < num_tokens:
        logger.warning(
            "only %d of %d tokens could be learned: nothing else of at most %d characters occurs %d times",
            *(found, num_tokens, max_length, min_count),
        )
    return found


def _add_words(growing: Growing, pieces: Pieces, words: Sequence[str], forms: str, result: Extension) -> None:
    for word in words:
        for text in _forms(word, forms):
            inside = pieces.inside(text)
            if len(inside) != 1:
                shown = " | ".join(pieces.readable(piece) for piece in inside) or "nothing"
                result.not_produced[word] = f"the pre-tokenizer makes of it: {shown}"
                continue
            reason = None if growing.tokens(inside[0]) == inside else growing.join(inside[0])
            if reason is not None:
                result.not_produced[word] = reason
            else:
                result.words.setdefault(word, []).append(inside[0])


def _forms(word: str, forms: str) -> list[str]:
    if forms == "auto":
        from tokenizers import Regex, normalizers

        unspaced = normalizers.Replace(Regex(f"^[{UNSPACED}]"), "").normalize_str(word) != word
        forms = "bare" if unspaced else "spaced"
    return [text for form, text in (("spaced", f" {word}"), ("bare", word)) if forms in (form, "both")]


def _add_literally(growing: Growing, result: Extension) -> None:
    for word in list(result.not_produced):
        if word in growing.vocabulary:
            continue
        token_id = growing.number(word)
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
        growing.state["added_tokens"].append({"id": token_id, "content": word, **flags})
        vocabulary = growing.state["model"]["vocab"]
        if isinstance(vocabulary, dict):
            vocabulary[word] = token_id
        else:
            vocabulary.append([word, 0.0])
        result.literal.append(word)
        del result.not_produced[word]


def _dump(state: Mapping[str, Any]) -> str:
    import json

    return json.dumps(state, ensure_ascii=False)


def read_words(path: str) -> list[str]:
    """A file with one word a line; blank lines and repetitions are left out.

    Raises:
        TokenizerError: the file is missing, not UTF-8, or holds no words.
    """
    from pathlib import Path

    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{path} cannot be read as a list of words in UTF-8: {error}.") from error
    words = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not words:
        raise TokenizerError(f"{path} holds no words: expected one a line.")
    return words


__all__ = ["Extension", "extend", "read_state", "read_words"]
