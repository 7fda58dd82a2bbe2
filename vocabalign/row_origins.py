"""Where the rows of single tokens came from, for people and programs: ``provenance.json`` with the tokens' names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.errors import ArtifactError, ConfigError, VocabAlignError
from vocabalign.models import resolve
from vocabalign.provenance import PROVENANCE, read_provenance

if TYPE_CHECKING:
    from vocabalign.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Part:
    """A source row in a mixture: its id, its token ("" where the source is not at hand any more), its weight."""

    source_id: int
    token: str
    weight: float


@dataclass(frozen=True)
class RowOrigin:
    """Where one token's rows came from.

    Attributes:
        id: the row.
        token: as people read it; "" for rows that no token has.
        kind: of the embedding row, such as "identical" or "segmentation".
        head_kind: of the head row.
        confidence: in [0, 1].
        shift: what was added to the token's logits; None where the head was not calibrated.
        input: source rows of the embedding row, the heaviest first; empty for rows that are no mixture of single
            rows (the mean of all, drawn ones, and the like: ``kind`` says so).
        head: the same for the head row.
    """

    id: int
    token: str
    kind: str
    head_kind: str
    confidence: float
    shift: float | None
    input: tuple[Part, ...]
    head: tuple[Part, ...]


def explain_rows(model: str | Path, tokens: Iterable[int | str] | None = None) -> list[RowOrigin]:
    """Say where rows of a transplanted model came from.

    Args:
        model: folder that ``transplant`` (or training after it) wrote.
        tokens: ids, or tokens as the tokenizer's files write them or as people read them; None for the tokens that
            the transplant was least certain of.

    Returns:
        One origin for each, in the order asked for.

    Raises:
        ArtifactError: the folder has no ``provenance.json``, or one of another form.
        ConfigError: there is no such token, or several tokens are read alike.
        TokenizerError: the model's tokenizer cannot be loaded.

    Example:
        >>> for origin in explain_rows("run/transplanted", ["▁the", 300]):
        ...     print(origin.token, origin.kind, [part.token for part in origin.input])
    """
    from vocabalign.text.token_text import token_text
    from vocabalign.text.tokenizers import load_vocabulary

    folder = resolve(model)
    provenance = read_provenance(folder)
    if provenance is None:
        raise ArtifactError(f"{folder} has no {PROVENANCE}: it is written by 'vocabalign transplant'.")
    vocabulary = load_vocabulary(folder)
    source = _source(provenance)
    try:
        if tokens is None:
            tokens = [int(entry["id"]) for entry in provenance["least_certain"]]
        ids = [_find(token, vocabulary, provenance["num_rows"]) for token in tokens]
        names = [token_text(vocabulary, i) if i < len(vocabulary) else "" for i in ids]
        return [_origin(provenance, i, name, source) for i, name in zip(ids, names, strict=True)]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{folder / PROVENANCE} has another form than expected ({type(error).__name__}: {error}): "
            "make the model again with 'vocabalign transplant'."
        ) from error


def _source(provenance: dict[str, Any]) -> Vocabulary | None:
    """The source's vocabulary, where it still is where it was."""
    from vocabalign.text.tokenizers import load_vocabulary

    try:
        return load_vocabulary(str(provenance.get("source")))
    except VocabAlignError:
        return None


def _find(token: int | str, vocabulary: Vocabulary, num_rows: int) -> int:
    from vocabalign.text.token_text import token_text

    if isinstance(token, int):
        if not 0 <= token < num_rows:
            raise ConfigError(f"There is no row {token:,}: the model has {num_rows:,}, from 0 on.")
        return token
    found = [i for i, raw in enumerate(vocabulary.raw_tokens) if raw == token]
    found = found or [i for i in range(len(vocabulary)) if token_text(vocabulary, i) == token]
    if len(found) != 1:
        told = f"{len(found):,} tokens are read as" if found else "There is no token"
        raise ConfigError(
            f"{told} '{token}' in '{vocabulary.name}': give its id, or the token as its tokenizer has it."
        )
    return found[0]


def _origin(provenance: dict[str, Any], row: int, name: str, source: Vocabulary | None) -> RowOrigin:
    kinds = provenance["class_names"]
    head_classes = provenance.get("head_classes") or provenance["classes"]
    inputs = _parts(provenance["input"], row, source)
    return RowOrigin(
        id=row,
        token=name,
        kind=kinds[provenance["classes"][row]],
        head_kind=kinds[head_classes[row]],
        confidence=float(provenance["confidence"][row]),
        shift=None if provenance["shift"] is None else float(provenance["shift"][row]),
        input=inputs,
        head=inputs if provenance["head"] is None else _parts(provenance["head"], row, source),
    )


def _parts(table: dict[str, Sequence[Any]], row: int, source: Vocabulary | None) -> tuple[Part, ...]:
    from vocabalign.text.token_text import token_text

    begin, end = table["starts"][row], table["starts"][row + 1]
    parts = []
    for source_id, weight in zip(table["ids"][begin:end], table["weights"][begin:end], strict=True):
        known = source is not None and source_id < len(source)
        parts.append(Part(int(source_id), token_text(source, source_id) if source and known else "", float(weight)))
    return tuple(sorted(parts, key=lambda part: -abs(part.weight)))
