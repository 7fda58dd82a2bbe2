"""What the papers leave open about the map between two embedding spaces, and the choices taken here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

MappingMethod = Literal["vecmap", "procrustes", "muse"]
Start = Literal["anchors", "unsupervised"]


@dataclass(frozen=True, kw_only=True)
class MappingOptions:
    """Every choice of a map; rows are always scaled to length 1 first.

    Attributes:
        method: ``vecmap`` (whitened map, self-learning if wished), ``procrustes`` (one rotation from the anchors) or
            ``muse`` (a rotation refined on its own mutual nearest neighbours).
        start: the first dictionary: ``anchors``, or ``unsupervised`` from the distributions of similarities.
        centre: subtract each space's mean, and scale to length 1 again.
        whiten: decorrelate each space on the dictionary before the last rotation (``vecmap``).
        reweight: power of the singular values that multiplies each side after the rotation; needs ``whiten``.
        dewhiten: give each side its second moments back, in the rotated space; needs ``whiten``.
        self_learning: grow the dictionary by mutual nearest neighbours (``vecmap``).
        keep_seeds: the anchors stay in the dictionary whatever is found.
        csls_neighbors: neighbourhood size of CSLS while the dictionary grows.
        frequency_cutoff: only this many of the commonest tokens of each side join the dictionary.
        unsupervised_tokens: commonest tokens of each side that an unsupervised start looks at.
        max_iterations: mappings learned at most.
        threshold: the objective must rise by this much to count as better.
        patience: iterations without a better objective before more pairs are kept or the dictionary is done.
        keep_probability: a pair may join the dictionary with this probability (stochastic dropping).
        keep_multiplier: by which the probability grows when patience has run out, up to 1.
        seed: of the dropping.
    """

    method: MappingMethod = "vecmap"
    start: Start = "anchors"
    centre: bool = True
    whiten: bool = True
    reweight: float = 0.5
    dewhiten: bool = True
    self_learning: bool = False
    keep_seeds: bool = True
    csls_neighbors: int = 10
    frequency_cutoff: int = 20_000
    unsupervised_tokens: int = 4_000
    max_iterations: int = 10
    threshold: float = 1e-4
    patience: int = 1
    keep_probability: float = 1.0
    keep_multiplier: float = 2.0
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest."""
        return asdict(self)


# TokAlign++ names VecMap and CSLS with k = 10 and nothing more. Taken from VecMap's papers: normalisation, whitening
# with re-weighting by 0.5 and de-whitening, 20,000 tokens, the commonest 4,000 for an unsupervised start, dropping
# from 0.1 by doubling. Chosen here: the shared tokens are the first dictionary and stay in it, pairs are mutual nearest
# neighbours (VecMap joins both directions), patience is 2 instead of 50 and the threshold 1e-4 instead of 1e-6:
# VecMap's own take hours on a CPU.
TOKALIGN_PP = MappingOptions(
    self_learning=True, keep_probability=0.1, patience=2, max_iterations=50, threshold=1e-4, csls_neighbors=10
)
# MUSE: no normalisation but length, no whitening, five refinements, the commonest 15,000.
MUSE = MappingOptions(
    method="muse", centre=False, whiten=False, keep_seeds=False, frequency_cutoff=15_000, max_iterations=5
)
PROCRUSTES = MappingOptions(method="procrustes", whiten=False)
# Without self-learning: known pairs were found within a point as well without it on the two pairs where both were
# measured, and it takes most of the time.
AUTO = MappingOptions()

PRESETS: dict[str, MappingOptions] = {"auto": AUTO, "tokalign++": TOKALIGN_PP, "muse": MUSE, "procrustes": PROCRUSTES}
