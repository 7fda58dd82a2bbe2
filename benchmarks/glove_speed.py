"""Seconds for one epoch of GloVe beside Stanford's C program, on the same co-occurrences and the same cores.

    python benchmarks/glove_speed.py --stanford DIR [--tokenizer DIR --corpus FILE ...]

DIR is a checkout of https://github.com/stanfordnlp/GloVe (Apache-2.0); it is built with its own Makefile in a
temporary folder. Without it the published update, pair by pair, is written in C here and compiled with gcc -O3
-march=native; it is labelled as such. Both objectives are means over the pairs as they come: they can be compared.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import sparse

from vocabalign.alignment.cooccurrence import count_cooccurrence
from vocabalign.alignment.glove import GloveOptions, train_glove
from vocabalign.text.corpus import read_texts
from vocabalign.text.tokenizers import load_vocabulary

UPDATE_IN_C = r"""
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
/* Pennington et al. (2014), equations 8 and 9, with AdaGrad; one pair after the other, in double precision. */
typedef struct { int row, column; double count; } pair;
int main(int argc, char **argv) {
    long tokens = atol(argv[2]); int size = atoi(argv[3]), epochs = atoi(argv[4]), width = size + 1;
    double *value = malloc(2 * tokens * width * 8), *sum = malloc(2 * tokens * width * 8);
    for (long i = 0; i < 2 * tokens * width; i++) { value[i] = (rand() / (double) RAND_MAX - 0.5) / size; sum[i] = 1; }
    for (int epoch = 0; epoch < epochs; epoch++) {
        FILE *file = fopen(argv[1], "rb"); pair p; double total = 0; long pairs = 0;
        while (fread(&p, sizeof p, 1, file) == 1) {
            double *w = value + (p.row - 1) * (long) width, *c = value + (tokens + p.column - 1) * (long) width;
            double *gw = sum + (p.row - 1) * (long) width, *gc = sum + (tokens + p.column - 1) * (long) width;
            double difference = w[size] + c[size] - log(p.count);
            for (int k = 0; k < size; k++) difference += w[k] * c[k];
            double weighted = difference * (p.count > 100 ? 1 : pow(p.count / 100, 0.75));
            total += 0.5 * weighted * difference; pairs++;
            for (int k = 0; k < size; k++) {
                double a = 0.05 * weighted * c[k], b = 0.05 * weighted * w[k];
                w[k] -= a / sqrt(gw[k]); c[k] -= b / sqrt(gc[k]); gw[k] += a * a; gc[k] += b * b;
            }
            w[size] -= weighted / sqrt(gw[size]); c[size] -= weighted / sqrt(gc[size]);
            gw[size] += weighted * weighted; gc[size] += weighted * weighted;
        }
        fclose(file);
        fprintf(stderr, "cost: %f\n", total / pairs);
    }
    return 0;
}
"""


def write_pairs(table: sparse.csr_matrix, folder: Path) -> None:
    """The shuffled co-occurrences and the vocabulary as Stanford's program reads them."""
    entries = table.tocoo()
    pairs = np.zeros(table.nnz, dtype=[("row", "<i4"), ("column", "<i4"), ("count", "<f8")])
    pairs["row"], pairs["column"], pairs["count"] = entries.row + 1, entries.col + 1, entries.data
    np.random.default_rng(0).shuffle(pairs)
    pairs.tofile(folder / "pairs.bin")
    (folder / "vocabulary.txt").write_text("".join(f"{number} 1\n" for number in range(table.shape[0])))


def build_rival(checkout: str | None, folder: Path) -> tuple[str, Path]:
    """(what it is, program)."""
    if checkout:
        shutil.copytree(checkout, folder / "stanford")
        subprocess.run(["make", "-C", str(folder / "stanford")], check=True, capture_output=True)
        return "Stanford's C program", folder / "stanford" / "build" / "glove"
    (folder / "update.c").write_text(UPDATE_IN_C)
    command = ["gcc", "-O3", "-march=native", "-funroll-loops", "update.c", "-o", "update", "-lm"]
    subprocess.run(command, check=True, cwd=folder)
    return "the published update in C, one thread (not Stanford's program)", folder / "update"


def run_rival(
    program: Path, folder: Path, tokens: int, options: argparse.Namespace
) -> tuple[float, float, list[float]]:
    """(wall seconds, processor seconds, objective of each epoch)."""
    if program.name == "glove":
        command = [program, "-input-file", "pairs.bin", "-vocab-file", "vocabulary.txt", "-save-file", "out"]
        command += ["-threads", options.threads, "-iter", options.epochs, "-vector-size", options.dimensions]
        command += ["-x-max", 100, "-eta", 0.05, "-binary", 1]
    else:
        command = [program, "pairs.bin", tokens, options.dimensions, options.epochs]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.perf_counter()
    run = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True, check=True)
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    return time.perf_counter() - started, seconds, [float(cost) for cost in re.findall(r"cost: ([0-9.]+)", run.stderr)]


def main() -> None:
    """Print both, per epoch, and the ratios."""
    material = Path(os.environ.get("VOCABALIGN_MATERIAL", "."))
    parser = argparse.ArgumentParser()
    parser.add_argument("--stanford", metavar="DIR")
    parser.add_argument("--tokenizer", default=str(material / "tokenizers" / "gpt2"))
    parser.add_argument("--corpus", nargs="+", default=[str(material / "corpora" / "tinystories-sampled")])
    parser.add_argument("--max-tokens", type=int, default=1_500_000)
    parser.add_argument("--dimensions", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    vocabulary = load_vocabulary(options.tokenizer)
    table = count_cooccurrence(vocabulary, read_texts(options.corpus), 15, options.max_tokens).symmetric()
    print(
        f"{table.nnz:,} pairs of {len(vocabulary):,} tokens, D {options.dimensions}, threads {options.threads}",
        flush=True,
    )
    settings = GloveOptions(dimensions=options.dimensions, epochs=options.epochs)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_pairs(table, folder)
        name, program = build_rival(options.stanford, folder)
        wall, seconds = time.perf_counter(), time.process_time()
        ours = train_glove(table, settings, seed=0, threads=options.threads).objectives
        wall, seconds = time.perf_counter() - wall, time.process_time() - seconds
        rival_wall, rival_seconds, theirs = run_rival(program, folder, table.shape[0], options)
    for label, costs, wall_time, used in (
        ("ours", ours, wall, seconds),
        (name, theirs, rival_wall, rival_seconds),
    ):
        told = ", ".join(f"{cost:.4f}" for cost in costs)
        print(
            f"{label}: {wall_time / options.epochs:.2f} s an epoch ({used / options.epochs:.2f} s of processor); {told}"
        )
    print(f"ratio of seconds {wall / rival_wall:.3f}, of processor seconds {seconds / rival_seconds:.3f}")


if __name__ == "__main__":
    main()
