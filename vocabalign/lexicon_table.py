"""The lexicon as a table that a person can read, edit and give back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from vocabalign.errors import ArtifactError
from vocabalign.lexicon import Evidence, Lexicon
from vocabalign.text.token_text import token_text
from vocabalign.text.vocabulary import Vocabulary

COLUMNS = ("target_id", "target_token", "evidence", "confidence", "source_tokens")
# A space inside a source token, so that a line can be split again; the mark itself is escaped.
SPACE = "\u2423"
TokenText = Callable[[Vocabulary, int], str]
# Source ids, their weights, the evidence and the confidence of one target token.
Row = tuple[list[int], list[float], Evidence, float]
_ENTRY = re.compile(r"(\d+)(?::(.*?))?(?:=([0-9.eE+-]+))?")


def write_table(path: Path, lexicon: Lexicon, source: Vocabulary, target: Vocabulary) -> None:
    """Write ``lexicon.tsv``: one line a target token, all of them; sources as ``id:token=weight``, spaces between.

    ``read_table`` gives exactly the lexicon back: numbers have the digits that tell them apart.
    """
    sources = [_source_text(source, token_id) for token_id in range(len(source))]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("\t".join(COLUMNS) + "\n")
        for token_id in range(lexicon.num_targets):
            ids, weights = lexicon.source_ids[token_id], lexicon.weights[token_id]
            pieces = [
                f"{source_id}:{sources[source_id]}={weight}"
                for source_id, weight in zip(ids.tolist(), map(str, weights), strict=True)
                if source_id >= 0
            ]
            evidence = Evidence(int(lexicon.evidence[token_id])).name.lower()
            row = (str(token_id), token_text(target, token_id), evidence, str(lexicon.confidence[token_id]))
            file.write("\t".join((*row, " ".join(pieces))) + "\n")


def _source_text(vocabulary: Vocabulary, token_id: int) -> str:
    return token_text(vocabulary, token_id).replace(SPACE, "\\u2423").replace(" ", SPACE)


def read_table(path: Path | str, source: Vocabulary, target: Vocabulary) -> Lexicon:
    """Read a table as ``write_table`` makes it, perhaps edited.

    A line that is left out stands for a token without evidence, and lines may come in any order. In a source the
    token may be left out (``12=0.5``), and the weights of a line too (then its sources count the same); they are made
    to sum to 1. ``evidence`` says how far the line is to be trusted and is kept; for a line of one's own write
    ``given`` there, which counts as distributional evidence.

    Raises:
        ArtifactError: with the line: a token is not the one that its number says, a number is out of range, a weight
            is negative or a column is missing.
    """
    rows: dict[int, Row] = {}
    for number, line in _lines(Path(path)):
        where = f"{path}, line {number}"
        cells = line.split("\t")
        if number == 1 and tuple(cells) == COLUMNS:
            continue
        if len(cells) != len(COLUMNS):
            raise ArtifactError(
                f"{where} has {len(cells)} columns instead of {len(COLUMNS)} ({', '.join(COLUMNS)}, with tabs between)."
            )
        token_id = _id(cells[0], cells[1], target, token_text, where, "target")
        if token_id in rows:
            raise ArtifactError(f"{where} tells target token {token_id} a second time: keep one of the lines.")
        ids, weights = _sources(cells[4], source, where)
        rows[token_id] = (ids, weights, _evidence(cells[2], where), _number(cells[3], where))
    return lexicon_of_rows(rows, source, target)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"The lexicon {path} cannot be read: {error}.") from error
    # Tokens hold line separators of their own: the line feed alone ends a line.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip("\r"):
            yield number, line.removesuffix("\r")


def _id(text: str, token: str | None, vocabulary: Vocabulary, written: TokenText, where: str, side: str) -> int:
    token_id = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= token_id < len(vocabulary):
        raise ArtifactError(
            f"{where}: '{text}' is no {side} token; '{vocabulary.name}' has the numbers 0 to {len(vocabulary) - 1:,}."
        )
    if token is not None and token != written(vocabulary, token_id):
        raise ArtifactError(
            f"{where}: the {side} token {token_id} of '{vocabulary.name}' is '{written(vocabulary, token_id)}', not "
            f"'{token}': the table was made for other tokenizers, or the number or the token needs mending."
        )
    return token_id


def _sources(cell: str, source: Vocabulary, where: str) -> tuple[list[int], list[float]]:
    ids: list[int] = []
    weights: list[float | None] = []
    for entry in cell.split(" ") if cell else []:
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise ArtifactError(f"{where}: '{entry}' is not of the form number:token=weight.")
        ids.append(_id(match[1], match[2], source, _source_text, where, "source"))
        weights.append(None if match[3] is None else _number(match[3], where))
    if len(set(ids)) < len(ids):
        raise ArtifactError(f"{where} names a source token twice: add their weights.")
    if any(weight is None for weight in weights):
        if any(weight is not None for weight in weights):
            raise ArtifactError(f"{where} gives weights to some of its source tokens: give all of them one, or none.")
        return ids, [1.0] * len(ids)
    return ids, [weight for weight in weights if weight is not None]


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ArtifactError(f"{where}: '{text}' is no weight or confidence; expected a number that is not negative.")
    return value


def _evidence(text: str, where: str) -> Evidence:
    names = {kind.name.lower(): kind for kind in Evidence} | {"given": Evidence.DISTRIBUTIONAL}
    if text not in names:
        raise ArtifactError(f"{where}: '{text}' is no kind of evidence; known are {', '.join(names)}.")
    return names[text]


def lexicon_of_rows(rows: Mapping[int, Row], source: Vocabulary, target: Vocabulary) -> Lexicon:
    """A lexicon from some of its rows; weights that do not sum to 1 are made to, and the best source comes first."""
    width = max([len(ids) for ids, *_ in rows.values()], default=1) or 1
    size = len(target)
    source_ids = np.full((size, width), -1, dtype=np.int32)
    weights = np.zeros((size, width), dtype=np.float32)
    evidence, confidence = np.zeros(size, dtype=np.uint8), np.zeros(size, dtype=np.float32)
    for token_id, (ids, values, kind, trust) in rows.items():
        exact = np.array(values, dtype=np.float32)
        # What was written sums to 1 but for rounding, and is taken as it is; what was edited may not.
        if ids and abs(float(exact.sum(dtype=np.float64)) - 1) > 1e-5:
            exact = (np.array(values) / (sum(values) or 1)).astype(np.float32)
        kept = [i for i in np.argsort(-exact, kind="stable").tolist() if exact[i] > 0]
        source_ids[token_id, : len(kept)] = np.array(ids, dtype=np.int32)[kept] if kept else []
        weights[token_id, : len(kept)] = exact[kept]
        evidence[token_id] = kind if kept else Evidence.NONE
        confidence[token_id] = min(trust, 1.0) if kept else 0.0
    return Lexicon(source_ids, weights, evidence, confidence, source.fingerprint, target.fingerprint)
