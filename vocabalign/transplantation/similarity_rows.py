"""Rows as mixtures of shared tokens that are similar: by the target's token embeddings, or by its owner's rows.

A token is *shared* where both vocabularies have it by bytes; its source row is known. Every other target
token becomes a mixture of shared ones, with weights from a space in which all target tokens lie: vectors
learned from text cut by the target tokenizer (FOCUS), or the rows of a model that owns the target vocabulary
(nearest, OMP). The result is a sparse weighting of source rows like any other, so nothing dense is kept.

Names: T target tokens, S source rows, O shared tokens, M wanted tokens, D size of the space, K neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

BLOCK_BYTES = 64 << 20
_TINY = 1e-12


@dataclass(frozen=True)
class Mixture:
    """Weights of shared tokens for wanted ones, as one ragged array.

    Attributes:
        owners: (N,) int64, index into the wanted tokens, ascending.
        shared: (N,) int64, index into the shared tokens.
        weights: (N,) float32; they need not be positive nor sum to 1.
    """

    owners: Tensor
    shared: Tensor
    weights: Tensor


def mix_by_sparsemax(wanted: Tensor, shared: Tensor) -> Mixture:
    """FOCUS: the sparsemax of a token's cosines to the shared tokens, a convex mixture of few.

    Sparsemax is the projection onto the simplex: ``w = max(0, z - tau)`` with tau such that the weights sum to 1.

    Args:
        wanted: (M, D) vectors of the tokens that need a row; a zero vector gets no weights.
        shared: (O, D) vectors of shared tokens, in the same space.

    Reference:
        Dobler and de Melo (2023), FOCUS, section 3; Martins and Astudillo (2016), equations 3 to 5.
    """
    known = wanted.norm(dim=1) > 0
    parts = []
    for begin, cosines in _cosine_blocks(wanted, shared):
        ordered, places = cosines.sort(dim=1, descending=True)
        sums = ordered.cumsum(1)
        ranks = torch.arange(1, ordered.shape[1] + 1, dtype=ordered.dtype)
        support = 1 + ranks * ordered > sums
        sizes = support.sum(1, keepdim=True)
        tau = (sums.gather(1, sizes - 1) - 1) / sizes
        weights = (ordered - tau).clamp_(min=0) * support * known[begin : begin + len(cosines), None]
        row, column = weights.nonzero(as_tuple=True)
        parts.append(Mixture(row + begin, places[row, column], weights[row, column]))
    return _joined(parts)


def mix_by_softmax(wanted: Tensor, candidates: Tensor, *, neighbors: int = 10, temperature: float = 0.1) -> Mixture:
    """WECHSEL: the softmax of the cosines to the K nearest candidates.

    Args:
        wanted: (M, D) vectors in the candidates' space; a zero vector gets no weights.
        candidates: (O, D), none of them zero.
        neighbors: K.
        temperature: of the softmax.

    Reference:
        Minixhofer, Paischer and Rekabsaz (2022), WECHSEL, section 3.2.
    """
    known = wanted.norm(dim=1) > 0
    parts = []
    for begin, cosines in _cosine_blocks(wanted, candidates):
        values, places = cosines.topk(min(neighbors, len(candidates)), dim=1)
        weights = (values / temperature).softmax(1) * known[begin : begin + len(cosines), None]
        row, column = weights.nonzero(as_tuple=True)
        parts.append(Mixture(row + begin, places[row, column], weights[row, column]))
    return _joined(parts)


def map_by_shared(vectors: Tensor, shared: Tensor, others: Tensor) -> Tensor:
    """(M, D) unit vectors turned into another space by the orthogonal map of tokens that both spaces have.

    Args:
        vectors: (M, D) to map; zero vectors stay zero.
        shared: (O, D) vectors of shared tokens in the same space.
        others: (O, D) vectors of the same tokens in the other space.

    Reference:
        Schönemann (1966): with unit rows X and Y the map is ``U V^T`` of ``X^T Y = U S V^T``.
    """
    x, y, units = (torch.nn.functional.normalize(part, dim=1) for part in (shared, others, vectors))
    left, _, right = torch.linalg.svd((x.T @ y).double(), full_matrices=False)
    return units @ (left @ right).to(units.dtype)


def mix_nearest(
    wanted: Tensor, shared: Tensor, *, neighbors: int = 64, weighting: Literal["distance", "barycentric"] = "distance"
) -> Mixture:
    """The K nearest shared tokens (Euclidean), weighted by 1 / distance, or so that they come closest to the token.

    Args:
        wanted: (M, D).
        shared: (O, D).
        neighbors: K; all shared tokens where there are fewer.
        weighting: "distance": proportional to 1 / distance. "barycentric": least squares with a sum of 1.

    Reference:
        interpolation among common tokens as offered by merge tools; the barycentric weights are those of locally
        linear embedding, Roweis and Saul (2000).
    """
    count = min(neighbors, len(shared))
    squares = shared.square().sum(1)
    parts = []
    for begin, block in _blocks(wanted, len(shared)):
        distances = squares - 2 * block @ shared.T
        places = distances.topk(count, dim=1, largest=False).indices
        offsets = shared[places] - block[:, None]
        weights = _WEIGHTINGS[weighting](offsets)
        owners = torch.arange(len(block)).repeat_interleave(count) + begin
        parts.append(Mixture(owners, places.flatten(), weights.flatten()))
    return _joined(parts)


def _by_distance(offsets: Tensor) -> Tensor:
    inverse = 1 / offsets.norm(dim=2).clamp_(min=_TINY)
    return inverse / inverse.sum(1, keepdim=True)


def _barycentric(offsets: Tensor) -> Tensor:
    products = offsets @ offsets.transpose(1, 2)
    scale = products.diagonal(dim1=1, dim2=2).mean(1).clamp_(min=_TINY)
    # More neighbours than dimensions leave the solution open: a little ridge takes the smallest weights.
    ridge = 1e-3 * scale[:, None, None] * torch.eye(products.shape[1], dtype=products.dtype)
    weights = torch.linalg.solve(products + ridge, torch.ones_like(products[:, :, :1]))[:, :, 0]
    return weights / weights.sum(1, keepdim=True)


_WEIGHTINGS: dict[str, Callable[[Tensor], Tensor]] = {"distance": _by_distance, "barycentric": _barycentric}


def mix_by_pursuit(wanted: Tensor, shared: Tensor, *, atoms: int = 64, scaled: bool = True) -> Mixture:
    """Orthogonal matching pursuit: a combination of few shared tokens that comes near the token, with any signs.

    At each step the shared token that is most parallel to what is left is taken, and all weights so far are fitted
    again by least squares (by the inverse Cholesky factor, which grows by a row a step).

    Args:
        wanted: (M, D).
        shared: (O, D); zero vectors are never taken.
        atoms: K, at most; also at most D and O.
        scaled: take the most parallel token, as the method is defined; else the one with the greatest product, so
            that long vectors come first, as mergekit's program does.

    Reference:
        Goddard and Fernandes Neto (2025), Training-Free Tokenizer Transplantation via Orthogonal Matching Pursuit;
        Pati, Rezaiifar and Krishnaprasad (1993).
    """
    # With as many atoms as dimensions the last ones are nearly parallel to the rest: float32 would not do.
    wanted, shared = wanted.double(), shared.double()
    lengths = shared.norm(dim=1)
    units = shared / lengths.clamp(min=_TINY)[:, None]
    steps = min(atoms, *shared.shape)
    parts = []
    for begin, block in _blocks(wanted, 2 * len(shared) + 4 * steps * shared.shape[1]):
        chosen, weights = _pursue(block, units, lengths, steps, scaled)
        weights = weights / lengths[chosen].clamp(min=_TINY)
        owners = (torch.arange(len(block)) + begin).repeat_interleave(steps)
        used = weights.flatten() != 0
        parts.append(Mixture(owners[used], chosen.flatten()[used], weights.flatten()[used]))
    return _joined(parts)


def _pursue(block: Tensor, units: Tensor, lengths: Tensor, steps: int, scaled: bool) -> tuple[Tensor, Tensor]:
    """Chosen atoms (M, K) and their weights (M, K), for a block of tokens at once."""
    count = len(block)
    taken = (lengths <= 0).expand(count, -1).clone()
    chosen = torch.zeros(count, steps, dtype=torch.int64)
    # An orthonormal basis of what was chosen, and the triangular factor that leads back to the atoms.
    basis = block.new_zeros(count, steps, block.shape[1])
    factor = block.new_zeros(count, steps, steps)
    projections = block.new_zeros(count, steps)
    rest = block.clone()
    small = _TINY + 1e-6 * block.norm(dim=1)
    for step in range(steps):
        fits = (rest @ units.T).abs_()
        fits = (fits if scaled else fits.mul_(lengths)).masked_fill_(taken, -1)
        best = fits.argmax(1)
        chosen[:, step] = best
        taken.scatter_(1, best[:, None], True)
        atom = units[best]
        inside = torch.einsum("mkd,md->mk", basis, atom)
        direction = atom - torch.einsum("mk,mkd->md", inside, basis)
        length = direction.norm(dim=1)
        # Nothing new, or nothing left: the atom keeps weight 0.
        fresh = (length > 1e-5) & (rest.norm(dim=1) > small)
        basis[:, step] = direction / length.clamp(min=_TINY)[:, None] * fresh[:, None]
        factor[:, step] = inside
        factor[:, step, step] = torch.where(fresh, length, torch.ones_like(length))
        projections[:, step] = torch.einsum("md,md->m", basis[:, step], block)
        rest = rest - projections[:, step, None] * basis[:, step]
    # Rows of `factor` write the atoms in the basis: atoms = factor @ basis, so weights solve factor^T w = projections.
    weights = torch.linalg.solve_triangular(factor.transpose(1, 2), projections[:, :, None], upper=True)[:, :, 0]
    return chosen, weights * (basis.norm(dim=2) > 0)


def _cosine_blocks(wanted: Tensor, shared: Tensor) -> Iterator[tuple[int, Tensor]]:
    units = shared / shared.norm(dim=1, keepdim=True).clamp_(min=_TINY)
    for begin, block in _blocks(wanted, 4 * len(shared)):
        yield begin, (block / block.norm(dim=1, keepdim=True).clamp_(min=_TINY)) @ units.T


def _blocks(wanted: Tensor, numbers_per_row: int) -> Iterator[tuple[int, Tensor]]:
    size = max(1, BLOCK_BYTES // (4 * max(1, numbers_per_row)))
    for begin in range(0, len(wanted), size):
        yield begin, wanted[begin : begin + size]


def _joined(parts: list[Mixture]) -> Mixture:
    if not parts:
        nothing = torch.zeros(0, dtype=torch.int64)
        return Mixture(nothing, nothing, torch.zeros(0))
    owners, shared, weights = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("owners", "shared", "weights")
    )
    return Mixture(owners, shared, weights.float())
