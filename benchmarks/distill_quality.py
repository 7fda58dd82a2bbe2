"""Distillation beside direct tuning, sentence-level distillation and ULD: same budget, same text, several seeds.

    python benchmarks/distill_quality.py                                   # every pair, one seed
    python benchmarks/distill_quality.py --seeds 0 1 2 --pairs stories260K
    python benchmarks/distill_quality.py --table                           # what is there, nothing computed

Needs VOCABALIGN_MATERIAL. Teacher stories3M, students stories260K and tlm-833K: ``unified`` (the student first given
the teacher's tokenizer) and across tokenizers; the demo pair on Python's standard library. The vocabulary that is
reduced or expanded has benchmarks/distill_reduce_expand.py. For the sentence level the teacher writes one text, as many
of its tokens as the steps take, from which all students and seeds learn. Bits per byte of held-out text are those of
the scorer given with --scorer; KL to the teacher and top-1 agreement are ``vocabalign evaluate``'s. Finished cells are
kept in build/.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
from pathlib import Path

from distill_pairs import Pairs
from finetune_tables import external

from vocabalign.config import make_config
from vocabalign.stages import STAGES

# ULD as published: cross-entropy + 1.5 times its own.
DIRECT, SENTENCE = "direct", "sentence"
RIVALS = ("uld, weight 0.6", SENTENCE)
PAIRS = {
    "stories260K": ["direct", "auto", "auto, weight 0.5", "uld, weight 0.6", "sentence"],
    "tlm-833K": ["direct", "auto", "uld, weight 0.6", "sentence"],
    "stories260K unified": ["direct", "auto", "uld, weight 0.6", "sentence"],
    "tlm-833K unified": ["direct", "auto", "uld, weight 0.6", "sentence"],
    "demo": ["direct", "auto"],
    "worse teacher": ["direct", "auto"],
}
# Learning rates to try with the first seed; more with --rates.
RATES = {
    "stories260K": [7e-5, 1.5e-4],
    "tlm-833K": [2e-3, 4e-3],
    "stories260K unified": [4e-3],
    "tlm-833K unified": [4e-3],
    "demo": [2e-3],
    "worse teacher": [1.5e-4],
}
CONTEXT = {"tlm-833K": 64, "tlm-833K unified": 64}


def main() -> None:
    """One line for each cell, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), choices=PAIRS)
    parser.add_argument("--ways", nargs="+", help="instead of those of the pair: losses, as 'event, weight 0.9'")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=2048, help="of the student in a step")
    parser.add_argument(
        "--rates", nargs="+", type=float, help="peak learning rates to try instead of those of the pair"
    )
    parser.add_argument("--build", type=Path, default=Path("build/distill_quality"))
    parser.add_argument("--scorer", type=Path, default=None)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    for pair in () if arguments.table else arguments.pairs:
        for seed in arguments.seeds:
            for way in arguments.ways or PAIRS[pair]:
                for rate in bench.rates(pair, way, seed):
                    bench.cell(pair, way, seed, rate)
    bench.table()


def options_of(way: str) -> dict[str, object]:
    """``direct``, or a loss as it is written in a configuration, perhaps with settings: ``auto, temperature 2``."""
    if way in (DIRECT, SENTENCE):
        return {"distillation_weight": 0.0}
    loss, *settings = way.split(", ")
    options: dict[str, object] = {"loss": loss}
    for setting in settings:
        name, _, value = setting.partition(" ")
        options["distillation_weight" if name == "weight" else name] = json.loads(value)
    return options


class Bench:
    """Cells that are made once.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.build = arguments.build
        self.build.mkdir(parents=True, exist_ok=True)
        self.pairs = Pairs(self.build)
        self.scorer = arguments.scorer or self.pairs.material.parent / "tools" / "score.py"

    def rates(self, pair: str, way: str, seed: int) -> list[float]:
        """All for the first seed; for the others the one that was best with it. Rivals take direct tuning's."""
        best = self.best_rate(pair, way)
        if best is None and way in RIVALS:
            best = self.best_rate(pair, DIRECT)
        if best is None or (seed == self.arguments.seeds[0] and way not in RIVALS):
            return self.tried(pair)
        return [best]

    def tried(self, pair: str) -> list[float]:
        """Learning rates of a pair."""
        return list(self.arguments.rates or RATES[pair])

    def best_rate(self, pair: str, way: str) -> float | None:
        """The learning rate with the fewest bits per byte at the first seed, of those that were tried."""
        paths = {rate: self.path(pair, way, self.arguments.seeds[0], rate) for rate in self.tried(pair)}
        found = {rate: json.loads(path.read_text())["bits_per_byte"] for rate, path in paths.items() if path.exists()}
        return min(found, key=lambda rate: found[rate]) if found else None

    def cell(self, pair: str, way: str, seed: int, rate: float) -> None:
        """Train and score one model, unless that was done."""
        done = self.path(pair, way, seed, rate)
        if done.exists():
            return
        student, teacher = self.pairs.sides(pair)
        train, heldout = self.pairs.text(pair)
        context = CONTEXT.get(pair, 128)
        if way == SENTENCE:
            train = self.pairs.written(teacher, train, self.arguments.steps * self.arguments.tokens)
        training = {
            "steps": self.arguments.steps,
            "batch_size": self.arguments.tokens // context,
            "context": context,
            "betas": [0.9, 0.98],
            "warmup_share": 0.1,
            "checkpoint_every": 100_000,
        }
        values = {
            "student": student,
            "teacher": teacher,
            "corpus": [train],
            "learning_rate": rate,
            "training": training,
            "seed": seed,
            "overwrite": True,
            "check_teacher": way == "auto" and pair == "worse teacher",
            **options_of(way),
        }
        out = self.build / f"model-{os.getpid()}"
        STAGES["distill"].run(make_config(STAGES["distill"].config_class, {**values, "out": out}))
        manifest = json.loads((out / "manifest.json").read_text())
        result = {
            "pair": pair,
            "way": way,
            "seed": seed,
            "rate": rate,
            "loss": manifest["metrics"].get("loss", ["cross-entropy"])[0],
        }
        result |= self.score(out, heldout)
        if seed == self.arguments.seeds[0]:
            result |= self.beside(out, teacher, heldout)
        result["seconds"] = manifest["seconds"]
        if not (self.build / f"{pair}.begin.json").exists():
            begin = self.score(student, heldout) | self.beside(student, teacher, heldout)
            (self.build / f"{pair}.begin.json").write_text(json.dumps(begin))
        shutil.rmtree(out)
        done.write_text(json.dumps(result))
        print(json.dumps(result), flush=True)

    def path(self, pair: str, way: str, seed: int, rate: float) -> Path:
        """Where a cell's result is kept."""
        return self.build / f"{pair}.{way}.{seed}.{self.arguments.steps}.{rate:g}.json".replace(" ", "-")

    def score(self, model: Path | str, heldout: str) -> dict:
        """Bits per byte by the given scorer."""
        folder = Path(__file__).parents[1] / "vocabalign" / "demo" / "source" if model == "demo:source" else model
        return {"bits_per_byte": external(self.scorer, Path(folder), heldout)}

    def beside(self, model: Path | str, teacher: str, heldout: str) -> dict:
        """KL to the teacher and top-1 agreement."""
        values = {"models": {"m": str(model)}, "corpus": [heldout], "teacher": teacher, "max_bytes": 15_000}
        values |= {"sample_tokens": 0, "out": self.build / f"measures-{os.getpid()}", "overwrite": True, "window": 256}
        out = STAGES["evaluate"].run(make_config(STAGES["evaluate"].config_class, values))
        row = json.loads((out / "metrics.json").read_text())["models"][0]
        return {
            "kl_bits_per_byte": round(row.get("teacher_kl_bits_per_byte", float("nan")), 4),
            "top1_agreement": round(row.get("teacher_top1_agreement", float("nan")), 4),
        }

    def table(self) -> None:
        """Means over seeds with their spread (largest less smallest), and how much less than direct tuning.

        KL to the teacher and top-1 agreement are those of the first seed.
        """
        for pair in self.arguments.pairs:
            begin = self.build / f"{pair}.begin.json"
            if not begin.exists():
                continue
            first, steps, tokens = json.loads(begin.read_text()), self.arguments.steps, self.arguments.tokens
            print(
                f"\n{pair}: {steps} steps of {tokens} tokens; seeds {self.arguments.seeds}; KL and top-1 at the first"
            )
            print(
                f"  {'':<18}{'rate':>8}{'bits a byte':>12}{'spread':>8}  {'less than direct':<26}{'KL':>8}{'top-1':>8}"
            )
            line = f"  {'before':<18}{'':>8}{first['bits_per_byte']:12.4f}{'':>8}  {'':<26}"
            print(f"{line}{first['kl_bits_per_byte']:8.3f}{first['top1_agreement']:8.3f}")
            direct = self.results(pair, DIRECT)
            for way in self.arguments.ways or PAIRS[pair]:
                self.line(way, self.results(pair, way), direct)

    def line(self, way: str, found: dict[int, dict], direct: dict[int, dict]) -> None:
        """One way of a pair."""
        if not found:
            return
        bits = {seed: row["bits_per_byte"] for seed, row in found.items()}
        gains = [direct[seed]["bits_per_byte"] - value for seed, value in bits.items() if seed in direct]
        shown = " ".join(f"{gain:+.4f}" for gain in gains) if way != DIRECT else ""
        spread = max(bits.values()) - min(bits.values())
        first = next(iter(found.values()))
        line = f"  {way:<18}{first['rate']:8.2g}{statistics.mean(bits.values()):12.4f}{spread:8.4f}  {shown:<26}"
        print(f"{line}{first['kl_bits_per_byte']:8.3f}{first['top1_agreement']:8.3f}", flush=True)

    def results(self, pair: str, way: str) -> dict[int, dict]:
        """Seed -> result of the cells that are there."""
        rate = self.best_rate(pair, way)
        paths = {} if rate is None else {seed: self.path(pair, way, seed, rate) for seed in self.arguments.seeds}
        return {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.exists()}


if __name__ == "__main__":
    main()
