"""Members of groups against a loop over the groups."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from vocabalign.losses.ragged import members_between, members_of


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.data())
def test_members_of_groups_in_any_order(sizes, data):
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    groups = data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=12))
    owner, place = members_of(torch.from_numpy(offsets), torch.tensor(groups, dtype=torch.int64))
    expected = [(i, p) for i, group in enumerate(groups) for p in range(offsets[group], offsets[group + 1])]
    assert list(zip(owner.tolist(), place.tolist(), strict=True)) == expected
    assert owner.dtype == place.dtype == torch.int64


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), max_size=8))
def test_places_between_starts_and_stops_that_may_overlap(spans):
    starts = torch.tensor([start for start, _ in spans], dtype=torch.int64)
    owner, place = members_between(starts, starts + torch.tensor([size for _, size in spans], dtype=torch.int64))
    expected = [(i, start + n) for i, (start, size) in enumerate(spans) for n in range(size)]
    assert list(zip(owner.tolist(), place.tolist(), strict=True)) == expected
