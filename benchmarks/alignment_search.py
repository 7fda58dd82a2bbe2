"""Neighbours by CSLS beside two bare products of the same vectors, and beside the public TokAlign matching.

python benchmarks/alignment_search.py                                       # 50,000 x 32,000 x 300, minutes
python benchmarks/alignment_search.py --sources 5000 --targets 4000         # seconds
python benchmarks/alignment_search.py --sources 256000 --targets 128000 --skip-public --limit-gib 4
python benchmarks/alignment_search.py --sources 50000 --targets 256000 --public-targets 500

Each way runs in a process of its own, so that its peak of memory is its own; what importing takes is in it. The
public matching (ZNLP/TokAlign, cal_trans_matrix.py) is written anew from its formula: vectors of length 1 in a
dictionary, products with 300 anchors, one dense float64 product, and for every target token a search in Python
lists and an argmax. Where its matrix does not fit, a part of the target tokens is matched and the time for them scaled
up; the memory of the whole is computed then, and said to be. CPU seconds (all threads) stand beside seconds on the
clock: on a busy machine they tell more.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# As in pythia-neox -> llama2 by raw strings: these are copied, not matched.
SHARED = 0.281
ANCHORS = 300


def unit_vectors(number: int, dimensions: int, seed: int) -> np.ndarray:
    """(number, dimensions) float32 rows of length 1; half of each is common to both sides."""
    shared = np.random.default_rng(0).standard_normal((number, dimensions), dtype=np.float32)
    rows = shared + np.random.default_rng(seed).standard_normal((number, dimensions), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def bare_products(source: np.ndarray, target: np.ndarray, options: argparse.Namespace) -> None:
    """Two products of (S, D) by (D, T), by rows into one buffer that stays: no time goes into fresh memory."""
    import torch

    s, t = torch.from_numpy(source), torch.from_numpy(target).T
    out = torch.empty(1024, len(target))
    for _ in range(2):
        for start in range(0, len(s), 1024):
            block = s[start : start + 1024]
            torch.mm(block, t, out=out[: len(block)])


def csls(source: np.ndarray, target: np.ndarray, options: argparse.Namespace) -> None:
    """All target tokens, top 10."""
    from vocabalign.alignment.neighbors import csls_top_k
    from vocabalign.alignment.search import SearchOptions

    search = SearchOptions(block_mebibytes=options.block_mebibytes, backend=options.backend)
    csls_top_k(source, target, 10, 10, search)


def open_targets(number: int) -> np.ndarray:
    """Target tokens without a twin."""
    return np.flatnonzero(np.random.default_rng(7).random(number) >= SHARED)


def csls_one_best(source: np.ndarray, target: np.ndarray, options: argparse.Namespace) -> None:
    """The same work as the public matching, with CSLS: tokens without a twin, the nearest each."""
    from vocabalign.alignment.neighbors import csls_top_k
    from vocabalign.alignment.search import SearchOptions

    search = SearchOptions(block_mebibytes=options.block_mebibytes, backend=options.backend)
    csls_top_k(source, target, 1, 10, search, queries=open_targets(len(target)), own_mean=False)


def tokalign(source: np.ndarray, target: np.ndarray, options: argparse.Namespace) -> None:
    """Like for like: likeness to 300 anchors, the nearest of each token without a twin."""
    from vocabalign.alignment.neighbors import top_k
    from vocabalign.alignment.relative import relative_representations
    from vocabalign.alignment.search import SearchOptions

    anchors = np.setdiff1d(np.arange(len(target)), open_targets(len(target)))[:ANCHORS]
    keys = relative_representations(source, source[anchors])
    queries = relative_representations(target[open_targets(len(target))], target[anchors])
    top_k(queries, keys, 1, SearchOptions(block_mebibytes=options.block_mebibytes, backend=options.backend))


def public_matching(source: np.ndarray, target: np.ndarray, options: argparse.Namespace) -> tuple[float, float, float]:
    """The public way.

    Returns:
        The factor by which the time for target tokens is to be scaled up, and the seconds and CPU seconds that the
        source took, which are not.
    """
    number = min(options.public_targets or len(target), len(target))
    names = [
        [str(i) for i in np.random.default_rng(seed).permutation(n)] for seed, n in ((1, len(source)), (2, number))
    ]
    gold_ids = np.setdiff1d(np.arange(number), open_targets(len(target)))
    gold = {str(token): int(token) for token in gold_ids}
    anchors = [name for name in gold][:ANCHORS]
    sides, fixed = [], (0.0, 0.0)
    for vectors, order in ((source, names[0]), (target, names[1])):
        started, cpu = time.perf_counter(), time.process_time()
        table = {name: vectors[int(name)].astype(np.float64) for name in order}
        rows = np.stack([table[name] / np.linalg.norm(table[name]) for name in order])
        pivots = np.stack([table[name] / np.linalg.norm(table[name]) for name in anchors])
        sides.append(np.matmul(rows, pivots.T))
        fixed = fixed if any(fixed) else (time.perf_counter() - started, time.process_time() - cpu)
    similarity = np.matmul(sides[1], sides[0].T)
    # The lists are as long as in the whole: what a part of the tokens looks through does not shrink with them.
    filler = [str(i) for i in range(number, len(target))]
    listed = names[1] + filler
    random.Random(3).shuffle(listed)
    place = {name: row for row, name in enumerate(names[1])}
    found = {}
    for name in map(str, range(number)):
        if name in gold:
            found[name] = gold[name]
        elif name not in listed:
            found[name] = random.randint(0, len(source) - 1)
        else:
            listed.index(name)
            found[name] = int(names[0][np.argmax(similarity[place[name]])])
    return len(target) / number, *fixed


WAYS: dict[str, Callable[..., Any]] = {
    "two bare products": bare_products,
    "CSLS top 10, all targets": csls,
    "CSLS one-best, targets without a twin": csls_one_best,
    "tokalign, targets without a twin": tokalign,
    "public TokAlign matching": public_matching,
}


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Run one way here and tell seconds, CPU seconds and the peak of memory."""
    import torch

    torch.set_num_threads(options.threads)
    source = unit_vectors(options.sources, options.dimensions, 1)
    target = unit_vectors(options.targets, options.dimensions, 2)
    started, cpu = time.perf_counter(), time.process_time()
    factor, fixed, fixed_cpu = WAYS[name](source, target, options) or (1.0, 0.0, 0.0)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {
        "seconds": fixed + (seconds - fixed) * factor,
        "cpu": fixed_cpu + (cpu_seconds - fixed_cpu) * factor,
        "gib": peak,
        "factor": factor,
    }


def in_own_process(name: str, options: argparse.Namespace) -> dict[str, float]:
    """The same in a fresh interpreter."""
    environment = os.environ | {
        key: str(options.threads) for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    }
    arguments = [*sys.argv[1:], "--way", name]
    result = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return dict(json.loads(result.stdout.splitlines()[-1]))


def main() -> None:
    """Print every way and the ratios, all from one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=50_000)
    parser.add_argument("--targets", type=int, default=32_000)
    parser.add_argument("--dimensions", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--block-mebibytes", type=int, default=256)
    parser.add_argument("--backend", choices=["auto", "torch", "faiss"], default="auto")
    parser.add_argument("--skip-public", action="store_true", help="Leave out the public matching and its like.")
    parser.add_argument("--public-targets", type=int, help="Match this many of the targets the public way.")
    parser.add_argument("--limit-gib", type=float, default=1.5, help="Most memory that CSLS may take.")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options)))
        return
    names = list(WAYS)[:2] if options.skip_public else list(WAYS)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    # Interleaved, so that a busy machine disturbs all alike.
    for _ in range(options.runs):
        for name in names:
            results[name].append(in_own_process(name, options))
    best = {name: {key: min(run[key] for run in runs) for key in runs[0]} for name, runs in results.items()}
    print(f"{options.sources:,} x {options.targets:,} x {options.dimensions}, {options.threads} threads")
    for name, found in best.items():
        note = f" (time scaled up {found['factor']:.0f} times)" if found["factor"] > 1 else ""
        print(f"{name:40s}{found['seconds']:8.1f} s{found['cpu']:8.1f} s CPU{found['gib']:7.2f} GiB{note}")
    ours, bare = best["CSLS top 10, all targets"], best["two bare products"]
    print(f"CSLS / two bare products: {ours['seconds'] / bare['seconds']:.2f}, CPU {ours['cpu'] / bare['cpu']:.2f}")
    print(f"CSLS peak {ours['gib']:.2f} GiB, at most {options.limit_gib} allowed")
    if not options.skip_public:
        compare_with_public(best, options)


def compare_with_public(best: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    """Print how many times faster and smaller ours is."""
    public = best["public TokAlign matching"]
    for name in ("CSLS one-best, targets without a twin", "tokalign, targets without a twin"):
        ours = best[name]
        ratios = f"{public['seconds'] / ours['seconds']:.1f} times, CPU {public['cpu'] / ours['cpu']:.1f} times"
        print(f"public matching / {name}: {ratios}")
    dense = options.sources * options.targets * 8 / 1024**3
    how = "measured" if public["factor"] == 1 else "computed: the matrix alone"
    whole = public["gib"] if public["factor"] == 1 else dense
    print(f"memory: public {whole:.1f} GiB ({how}), ours 1/{whole / best['CSLS top 10, all targets']['gib']:.0f}")


if __name__ == "__main__":
    main()
