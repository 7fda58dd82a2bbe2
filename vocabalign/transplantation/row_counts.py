"""How many rows the new matrices get."""

from __future__ import annotations

from vocabalign.errors import ConfigError
from vocabalign.transplantation.checkpoint import open_checkpoint


def exact_rows(rows: int | str | None) -> int | None:
    """The number that was asked for: itself, or the rows of a model folder.

    Raises:
        ModelError: the folder is no model.
    """
    if rows is None or isinstance(rows, int):
        return rows
    return int(rows) if rows.isdigit() else open_checkpoint(rows).num_rows


def count_rows(num_tokens: int, kept_rows: int | None, exact: int | None, multiple: int | None) -> int:
    """Rows for T tokens.

    Args:
        num_tokens: T.
        kept_rows: rows of the source where its vocabulary does not change: its padded rows stay.
        exact: as many as this.
        multiple: else the least multiple of this.

    Raises:
        ConfigError: fewer rows than tokens, or two wishes at once.
    """
    if exact is not None and multiple:
        raise ConfigError("Both an exact number of rows and a multiple are asked for: leave out one of the two.")
    if exact is not None:
        if exact < num_tokens:
            raise ConfigError(f"{exact:,} rows are asked for, and the target vocabulary has {num_tokens:,} tokens.")
        return exact
    rows = max(num_tokens, kept_rows or 0)
    if multiple and rows % multiple:
        rows = -(-num_tokens // multiple) * multiple
    return rows
