"""Built pairs of vocabularies in which ``auto`` trusts different evidence, and wins over any one kind alone.

python benchmarks/align_cases.py

``compounds``: every document has compounds of its own, cut at their seam by the source. ``seams``: the source joins the
end of a word and the space behind it. ``stems of a new script``: the source has whole words of a script and else bytes,
the target stems and endings, each document has its own words, and the vectors are of more text. Bits are log-losses for
each running target token without an identical twin in held-out documents.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def main() -> None:
    """Print a line for each case."""
    from tests.alignment.cases import CASES
    from vocabalign.alignment.align_stage import align_vocabularies
    from vocabalign.stages import AlignConfig, EmbeddingOptions

    places = {"source": "-", "target": "-", "corpus": [], "out": Path("-")}
    config = AlignConfig(**places, device="cpu", embeddings=EmbeddingOptions(dimensions=16))
    for name, make in CASES.items():
        case = make()
        result = align_vocabularies(case.source, case.target, case.texts, config, given=case.embeddings)
        found = result.scores["weighing"]["all"]
        alone = ", ".join(f"{kind} {bits:.2f}" for kind, bits in found["bits_alone"].items())
        weights = ", ".join(f"{kind} {share:.2f}" for kind, share in found["weights"].items() if share >= 0.01)
        print(f"{name}: auto {found['bits']:.2f} bits ({weights}); alone: {alone}")


if __name__ == "__main__":
    main()
