"""Pairs of vocabularies built so that one kind of evidence is right and the others are not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.alignment.toy import SINGLE_BYTES, WORDS, make_vocabulary
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.token_embeddings import TokenEmbeddings

DIMENSIONS = 16


@dataclass(frozen=True)
class Case:
    """A built pair.

    Attributes:
        source: S tokens.
        target: T tokens.
        texts: documents.
        winner: the kind of evidence that is right.
        embeddings: of source and target where they are not to be learned.
    """

    source: Vocabulary
    target: Vocabulary
    texts: list[str]
    winner: str
    embeddings: tuple[TokenEmbeddings, TokenEmbeddings] | None = None


def _text_of(rng: np.random.Generator, words: list[str]) -> str:
    """The words of a document among common ones, and a full stop."""
    filling = [WORDS[i] for i in rng.integers(len(WORDS), size=30)]
    return "".join(rng.permutation([*words, *filling])) + "."


def compounds() -> Case:
    """Each document has compounds of its own, which the source cuts at their seam: its own cut knows all of them."""
    rng = np.random.default_rng(0)
    stems = [
        f"{start}{end}" for start in ("gar", "hol", "wim", "buk", "zen", "dor") for end in ("an", "el", "is", "ut")
    ]
    pairs = [(a, b) for a in stems for b in stems if a != b]
    chosen = [f" {pairs[i][0]}{pairs[i][1]}" for i in rng.permutation(len(pairs))[:480]]
    source = make_vocabulary([None, *SINGLE_BYTES, *map(str.encode, WORDS + stems + [f" {stem}" for stem in stems])])
    target = make_vocabulary([None, *SINGLE_BYTES, *map(str.encode, WORDS + chosen)])
    texts = [_text_of(rng, [*chosen[start : start + 4]] * 2) for start in range(0, len(chosen), 4)]
    return Case(source, target, texts, "segmentation")


def seams() -> Case:
    """The source joins the end of a word and the space behind it: a token's own cut is not its cut in running text."""
    rng = np.random.default_rng(1)
    endings = sorted({word[-2:] for word in WORDS})
    joined = [f"{ending} " for ending in endings]
    starts = sorted({word[1:-2] for word in WORDS})
    source = make_vocabulary([None, *SINGLE_BYTES, *map(str.encode, joined + starts)])
    target = make_vocabulary([None, *SINGLE_BYTES, *map(str.encode, endings + [f" {start}" for start in starts])])
    return Case(source, target, [_text_of(rng, []) for _ in range(200)], "cooccurrence")


def stems_of_a_new_script() -> Case:
    """A script of which the source has whole words alone and else bytes, where the target has stems and endings.

    Each document has words of its own, so what was counted says nothing of the next; the source's cut of a stem is
    bytes that never cover it. Vectors that were learned from more text know which words a stem is used like.
    """
    rng = np.random.default_rng(2)
    letters = "бвгджзклмнпрстфхцчш"
    stems = ["".join(letters[i] for i in rng.permutation(len(letters))[:4]) for _ in range(160)]
    endings = ["ова", "еми", "уют"]
    forms = [f"{stem}{ending}" for stem in stems for ending in endings]
    pieces = sorted({byte for form in forms for byte in form.encode()})
    fragments = [bytes([byte]) for byte in pieces]
    common = [*SINGLE_BYTES, *map(str.encode, WORDS)]
    source = make_vocabulary([None, *common, *fragments, *map(str.encode, forms)])
    target = make_vocabulary([None, *common, *fragments, *map(str.encode, stems + endings)])
    texts = [
        _text_of(rng, [f" {stem}{ending}" for stem in stems[start : start + 2] for ending in endings])
        for start in range(0, len(stems), 2)
    ]
    embeddings = _vectors(rng, source, target, dict(zip(forms, np.repeat(stems, len(endings)), strict=True)))
    return Case(source, target, texts, "distributional", embeddings)


def _vectors(
    rng: np.random.Generator, source: Vocabulary, target: Vocabulary, meanings: dict[str, str]
) -> tuple[TokenEmbeddings, TokenEmbeddings]:
    """Vectors as of a large text, in two spaces that a rotation connects: tokens of one meaning are alike."""
    rotation = np.linalg.qr(rng.standard_normal((DIMENSIONS, DIMENSIONS)))[0]
    known: dict[str, np.ndarray] = {}
    sides = []
    for side, turn in ((source, np.eye(DIMENSIONS)), (target, rotation)):
        rows = np.zeros((len(side), DIMENSIONS))
        for token_id, token in enumerate(side.token_bytes):
            if token is None:
                continue
            text = token.decode("utf-8", "backslashreplace")
            meaning = known.setdefault(str(meanings.get(text, text)), rng.standard_normal(DIMENSIONS))
            rows[token_id] = (meaning + 0.3 * rng.standard_normal(DIMENSIONS)) @ turn
        counts = np.where(rows.any(axis=1), 10_000, 0)
        sides.append(TokenEmbeddings(rows.astype(np.float32), counts, side.fingerprint, "given"))
    return sides[0], sides[1]


CASES = {"compounds": compounds, "seams": seams, "stems of a new script": stems_of_a_new_script}
