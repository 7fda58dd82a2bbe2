"""Candidates for nearest neighbours from products of 8-bit integers, with a bound on what the rounding can hide.

Processors multiply 8-bit integers about four times as fast as float32. Vectors are rounded to such integers, and the
length of what rounding took away is measured; by Cauchy and Schwarz no product is further from its rounded one than
those lengths allow. Every key that the bound leaves possible is then ranked by its product in float32. So nothing is
approximate in the result; what the rounding costs is a few more keys to look at.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch

from vocabalign.alignment.threads import one_thread_each

# Keys of one product: its result stays in the processor's cache while the groups' maxima are taken.
CHUNK_KEYS = 4096
# Keys of a group, of which only the largest similarity is looked at first.
MEMBERS = 16
# A query that leaves more groups or keys possible than such a share of all, and more than so many times k, is searched
# in float32 instead: gathering the vectors of more keys would take longer than all products.
MOST_SHARE, MOST_TIMES = 1 / 16, 8
# Rounding of the float32 arithmetic around the integers, as a share of the product of the lengths.
FLOAT_ROUNDING = 1e-5
# Pairs whose vectors are gathered at once, so that they stay in the cache.
PAIRS = 512
_LEVELS = 127


class QuantisedSearch:
    """All similarities of a block in 8-bit integers, then float32 products of what can be among the best.

    The keys' mean is taken off (it moves all products of a query alike), and both sides are turned by one random
    orthogonal matrix, which spreads the energy over all dimensions: one step size then suits every dimension.
    """

    def __init__(self, keys: torch.Tensor, offsets: torch.Tensor | None, block_mebibytes: int) -> None:
        self.given, self.num_keys = keys, len(keys)
        dimensions = keys.shape[1]
        generator = torch.Generator().manual_seed(0)
        self.turn = torch.linalg.qr(torch.randn(dimensions, dimensions, generator=generator))[0]
        self.mean = keys.mean(dim=0)
        num_chunks = -(-self.num_keys // CHUNK_KEYS)
        self.groups_of_chunk = -(-self.num_keys // (num_chunks * MEMBERS))
        self.width = self.groups_of_chunk * MEMBERS
        # Keys of like offset share a group: its largest score is bounded by similarity and offset apart.
        order = torch.arange(self.num_keys) if offsets is None else offsets.argsort(stable=True)
        order = torch.cat([order, order.new_full((num_chunks * self.width - self.num_keys,), -1)])
        self.ids = order.view(num_chunks, self.groups_of_chunk, MEMBERS).transpose(1, 2).flatten()
        self.offsets = {False: self._at_places(torch.zeros(self.num_keys))}
        if offsets is not None:
            self.offsets[True] = self._at_places(offsets.float())
        self.group_offsets = {
            when: at.view(num_chunks, MEMBERS, self.groups_of_chunk).amax(1).flatten()
            for when, at in self.offsets.items()
        }
        turned = (keys - self.mean) @ self.turn
        self.step = max(float(turned.abs().max()), 1e-30) / _LEVELS
        rounded = (turned / self.step).round_()
        self.longest_rest = float((turned - rounded * self.step).norm(dim=1).max())
        self.longest_rounded = float((rounded * self.step).norm(dim=1).max())
        self.longest = float(turned.norm(dim=1).max()) + float(self.mean.norm())
        self.chunks = _integers(rounded)[self.ids.clamp(min=0)].view(num_chunks, self.width, -1)
        row_bytes = 4 * num_chunks * (self.width + 3 * self.groups_of_chunk)
        self.block_rows = max(1, (block_mebibytes << 20) // row_bytes)
        self._buffer = torch.empty(0, 0, 0, dtype=torch.int32)

    def _at_places(self, offsets: torch.Tensor) -> torch.Tensor:
        """(P,) offset of the key at each place, -inf where there is none."""
        found = offsets[self.ids.clamp(min=0)]
        return found.masked_fill_(self.ids < 0, -torch.inf)

    def look(self, queries: torch.Tensor) -> None:
        """See ``CandidateSearch``."""
        self.queries = queries
        turned = queries @ self.turn
        steps = (turned.abs().amax(dim=1, keepdim=True) / _LEVELS).clamp_(min=1e-30)
        rounded = (turned / steps).round_()
        rest = (turned - rounded * steps).norm(dim=1)
        lengths = queries.norm(dim=1)
        self.scales = steps * self.step
        self.errors = lengths * self.longest_rest + rest * self.longest_rounded
        self.errors += FLOAT_ROUNDING * lengths * self.longest
        # What taking off the mean took off every product.
        self.shifts = queries @ self.mean
        integers, num_chunks = _integers(rounded), len(self.chunks)
        if self._buffer.shape[1] != len(queries):
            self._buffer = torch.empty(num_chunks, len(queries), self.width, dtype=torch.int32)
            self._maxima = torch.empty(len(queries), num_chunks, self.groups_of_chunk)
        for chunk, keys in enumerate(self.chunks):
            products = self._buffer[chunk]
            torch._int_mm(integers, keys.T, out=products)
            self._maxima[:, chunk] = products.view(-1, MEMBERS, self.groups_of_chunk).amax(1)
        self.maxima = self._maxima.view(len(queries), -1)

    def candidates(self, k: int, *, with_offsets: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``CandidateSearch``; +inf as the bound of a query that left too much possible."""
        offsets, group_offsets = self.offsets[with_offsets], self.group_offsets[with_offsets]
        bounds = torch.addcmul(group_offsets, self.maxima, self.scales)
        rows = torch.arange(len(bounds))
        # The k best by integers show what the k-th best reaches at least ...
        groups = bounds.topk(min(k, bounds.shape[1]), sorted=False).indices
        places, similarities = self._members(rows[:, None], groups)
        places = places.flatten(1)
        scores = similarities.flatten(1) * self.scales + offsets[places]
        first = places.gather(1, scores.topk(k, sorted=False).indices)
        floor = self._products(rows.repeat_interleave(k), first.flatten(), offsets).view(-1, k).amin(dim=1)
        # ... and what cannot reach that is out.
        needed = floor - self.shifts - self.errors - FLOAT_ROUNDING * floor.abs()
        possible = bounds >= needed[:, None]
        most = max(MOST_TIMES * k, int(MOST_SHARE * bounds.shape[1]))
        crowded = possible.sum(dim=1) > most
        possible[crowded] = False
        pairs = possible.nonzero()
        places, similarities = self._members(pairs[:, 0], pairs[:, 1])
        scores = similarities * self.scales[pairs[:, 0]] + offsets[places]
        hits = (scores >= needed[pairs[:, 0], None]).nonzero()
        found_rows, found = pairs[hits[:, 0], 0], places[hits[:, 0], hits[:, 1]]
        crowded |= torch.bincount(found_rows, minlength=len(rows)) > max(most, int(MOST_SHARE * self.num_keys / 4))
        kept = ~crowded[found_rows]
        return self._best(k, found_rows[kept], found[kept], first, offsets, crowded)

    def _best(
        self,
        k: int,
        rows: torch.Tensor,
        found: torch.Tensor,
        first: torch.Tensor,
        offsets: torch.Tensor,
        crowded: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the places found for each row (rows ascend), the k with the largest products."""
        numbers = torch.bincount(rows, minlength=len(first))
        width = max(k, int(numbers.max()))  # crowded rows have none
        columns = torch.arange(len(rows)) - (numbers.cumsum(0) - numbers)[rows]
        scores = torch.full((len(first), width), -torch.inf)
        places = torch.zeros(len(first), width, dtype=torch.int64)
        scores[rows, columns] = self._products(rows, found, offsets)
        places[rows, columns] = found
        best = scores.topk(k)
        chosen = torch.where(crowded[:, None], first, places.gather(1, best.indices))
        others = torch.where(crowded, torch.inf, best.values[:, -1] if k < self.num_keys else -torch.inf)
        return self.ids[chosen], others

    def _members(self, rows: torch.Tensor, groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(..., MEMBERS) places of a group's keys, and the integers of the row there, as float32."""
        chunk, group = groups // self.groups_of_chunk, groups % self.groups_of_chunk
        members = torch.arange(MEMBERS) * self.groups_of_chunk
        places = (chunk * self.width + group)[..., None] + members
        in_buffer = ((chunk * self._buffer.shape[1] + rows) * self.width + group)[..., None] + members
        return places, self._buffer.view(-1).take(in_buffer).float()

    def _products(self, rows: torch.Tensor, places: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """(P,) float32 scores of pairs of a query and a place."""
        ids = self.ids[places]
        result = torch.empty(len(rows))
        for start in range(0, len(rows), PAIRS):
            part = slice(start, start + PAIRS)
            asked, held = self.queries.index_select(0, rows[part]), self.given.index_select(0, ids[part])
            result[part] = torch.linalg.vecdot(asked, held)
        return result.add_(offsets[places])


def _integers(rounded: torch.Tensor) -> torch.Tensor:
    """As 8-bit integers; with zeros to whole groups of four, which processors take (torch fails at one dimension)."""
    return torch.nn.functional.pad(rounded.to(torch.int8), (0, -rounded.shape[1] % 4))


@cache
def multiplies_integers_fast() -> bool:
    """Whether torch multiplies 8-bit integers exactly here, and at least 1.5 times as fast as float32.

    Both depend on the processor and on how torch was built, so they are tried: it takes a few milliseconds.
    """
    with one_thread_each(1) as pool:
        return pool.submit(_try_integers).result()


def _try_integers() -> bool:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-_LEVELS, _LEVELS + 1, (n, 256), generator=generator) for n in (256, 2048))
    a[0], b[0], b[1] = _LEVELS, _LEVELS, -_LEVELS
    integers = (a.to(torch.int8), b.to(torch.int8).T)
    try:
        if not torch.equal(torch._int_mm(*integers).double(), a.double() @ b.double().T):
            return False
    except (RuntimeError, AttributeError):
        return False
    return 1.5 * _seconds(torch._int_mm, *integers) <= _seconds(torch.mm, a.float(), b.float().T)


def _seconds(product: Callable[..., torch.Tensor], *sides: torch.Tensor) -> float:
    """The best of ten, of this thread's own time: what else the machine does is not in it."""
    found = []
    for _ in range(10):
        started = time.thread_time()
        product(*sides)
        found.append(time.thread_time() - started)
    return min(found)
