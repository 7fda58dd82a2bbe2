"""A lexicon from whatever file it is in: an artefact, a table that people edit, or TokAlign's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vocabalign.errors import ArtifactError
from vocabalign.lexicon import Evidence, Lexicon
from vocabalign.lexicon_table import Row, lexicon_of_rows, read_table
from vocabalign.text.vocabulary import Vocabulary


def write_align_matrix(path: Path, lexicon: Lexicon, fallback: int | None = None) -> None:
    """Write TokAlign's ``align_matrix.json``: each target id, as text, with its best source id.

    TokAlign's program reads every id from 0 on, so none may be missing.

    Args:
        path: the file.
        lexicon: T target tokens.
        fallback: source id for target tokens without evidence; TokAlign took random ones.

    Raises:
        ArtifactError: there are such tokens and no fallback is given.
    """
    best = lexicon.source_ids[:, 0].copy()
    missing = np.flatnonzero(best < 0)
    if len(missing) and fallback is None:
        raise ArtifactError(
            f"{len(missing):,} target tokens have no source token (the first is {missing[0]}), and TokAlign's file "
            "must tell one for each: name a source token for them (fallback), such as that of the unknown token."
        )
    best[missing] = -1 if fallback is None else fallback
    path.write_text(json.dumps({str(number): source_id for number, source_id in enumerate(best.tolist())}) + "\n")


def read_align_matrix(path: Path | str, source: Vocabulary, target: Vocabulary) -> Lexicon:
    """Read TokAlign's ``align_matrix.json``: one source token for each target token.

    Tokens with the same bytes count as identical, the others as distributional; the file says no confidence, so it is
    1 for all. Ids beyond the target vocabulary (rows that pad a model) are passed over.

    Raises:
        ArtifactError: it is no such file, lacks target tokens, or names source tokens that do not exist.
    """
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
        entries = {int(key): int(value) for key, value in table.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is not TokAlign's align_matrix.json (target id to source id): {error}.") from error
    missing = [token_id for token_id in range(len(target)) if token_id not in entries]
    if missing:
        raise ArtifactError(
            f"{path} lacks {len(missing):,} of the {len(target):,} target tokens of '{target.name}' (the first is "
            f"{missing[0]}): it was made for another tokenizer."
        )
    strange = sorted({value for value in entries.values() if not 0 <= value < len(source)})
    if strange:
        raise ArtifactError(
            f"{path} names source token {strange[0]}, but '{source.name}' has the numbers 0 to {len(source) - 1:,}; "
            "it was made for another tokenizer."
        )
    rows: dict[int, Row] = {}
    for token_id in range(len(target)):
        same = target.token_bytes[token_id] and target.token_bytes[token_id] == source.token_bytes[entries[token_id]]
        kind = Evidence.IDENTICAL if same else Evidence.DISTRIBUTIONAL
        rows[token_id] = ([entries[token_id]], [1.0], kind, 1.0)
    return lexicon_of_rows(rows, source, target)


def load_lexicon(path: Path | str, source: Callable[[], Vocabulary], target: Vocabulary) -> Lexicon:
    """Read an ``align`` artefact (a folder), a table (``.tsv``) or TokAlign's file (``.json``).

    Args:
        path: folder or file.
        source: gives the source vocabulary; called for files alone, whose tokens are checked against it.
        target: T tokens.

    Raises:
        ArtifactError: it cannot be read, or a file is of other tokenizers. An artefact's fingerprints are for its user
            to compare.
    """
    if not Path(path).is_file():
        return Lexicon.load(path)
    reader = READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise ArtifactError(
            f"The lexicon {path} is no folder and ends in none of {', '.join(READERS)}: give the folder that "
            "'vocabalign align' wrote, its lexicon.tsv, or TokAlign's align_matrix.json."
        )
    return reader(path, source(), target)


READERS: dict[str, Callable[[Path | str, Vocabulary, Vocabulary], Lexicon]] = {
    ".tsv": read_table,
    ".json": read_align_matrix,
}
