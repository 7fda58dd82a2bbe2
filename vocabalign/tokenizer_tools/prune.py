"""A smaller tokenizer: tokens left out, ids closed up, merges consistent."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from vocabalign.errors import TokenizerError
from vocabalign.tokenizer_tools.merges import MergeTable
from vocabalign.tokenizer_tools.state import State, added_ids, all_ids, model_ids, remap_post_processor


def prune(state: Mapping[str, Any], kept_ids: Sequence[int]) -> State:
    """The tokenizer with these tokens alone; new ids are their places in the order of the old ones.

    Args:
        state: content of a ``tokenizer.json``; left as it is.
        kept_ids: old ids, ascending; all special tokens among them.

    Raises:
        TokenizerError: an added token or the unknown token is not among them.
    """
    result: State = copy.deepcopy(dict(state))
    new_ids = {old: new for new, old in enumerate(kept_ids)}
    ids = {raw: new_ids[old] for raw, old in all_ids(state).items() if old in new_ids}
    dropped = [raw for raw in added_ids(state) if raw not in ids]
    if dropped:
        raise TokenizerError(f"The special token '{dropped[0]}' cannot be left out of a vocabulary.")
    for token in result["added_tokens"]:
        token["id"] = ids[token["content"]]
    result["added_tokens"].sort(key=lambda token: token["id"])
    remap_post_processor(result, ids)
    _prune_model(result, state, ids)
    return result


def _prune_model(result: State, state: Mapping[str, Any], ids: Mapping[str, int]) -> None:
    model, old = result["model"], state["model"]
    before = model_ids(state)
    if isinstance(old["vocab"], Mapping):
        # All added tokens get a seat in the model, so that the library gives them the ids written here.
        model["vocab"] = dict(sorted(ids.items(), key=lambda item: item[1]))
    else:
        scores = {raw: score for raw, score in reversed(old["vocab"])}
        order = sorted(ids.items(), key=lambda item: item[1])
        model["vocab"] = [[raw, scores.get(raw, 0.0)] for raw, _ in order]
        if old.get("unk_id") is not None:
            unknown = old["vocab"][old["unk_id"]][0]
            if unknown not in ids:
                raise TokenizerError(f"The unknown token '{unknown}' cannot be left out of a vocabulary.")
            model["unk_id"] = ids[unknown]
    if "merges" in old:
        table = MergeTable.from_model(old)
        known = ids.keys() & before.keys()
        model["merges"] = [
            [left, right]
            for left, right in old["merges"]
            if left in known and right in known and table.product(left, right) in known
        ]
