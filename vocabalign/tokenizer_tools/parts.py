"""What each token of a vocabulary is built from, so that what is kept can still be made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vocabalign.progress import track
from vocabalign.tokenizer_tools.merges import MergeTable


def token_parts(state: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Raw token -> the two tokens that its last merge joins; () for single characters and for models without merges.

    A token that its own merges do not give (nothing in the text can) is left out, unless the model takes whole words
    from the vocabulary first (``ignore_merges``).

    Keeping a token with its parts, their parts and so on keeps every merge that was ever carried out inside it; and as
    merges that are left out were never carried out in a text of kept tokens, such a text is cut as before.
    """
    model = state["model"]
    vocabulary = model["vocab"]
    raws = list(vocabulary) if isinstance(vocabulary, Mapping) else [entry[0] for entry in vocabulary]
    if "merges" not in model:
        return dict.fromkeys(raws, ())
    table = MergeTable.from_model(model)
    ways: dict[str, list[tuple[str, str]]] = {}
    for left, right in table.ranks:
        ways.setdefault(table.product(left, right), []).append((left, right))
    parts: dict[str, tuple[str, ...]] = {}
    for raw in track(raws, "finding the parts of tokens"):
        if raw not in ways:
            bare = raw.removeprefix(table.prefix) if table.prefix else raw
            bare = bare.removesuffix(table.suffix) if table.suffix else bare
            if len(bare) <= 1 or model.get("ignore_merges"):
                parts[raw] = ()
            continue
        pair = table.last_pair(raw)
        if pair is not None:
            parts[raw] = pair
        elif model.get("ignore_merges"):
            parts[raw] = ()
    return parts
