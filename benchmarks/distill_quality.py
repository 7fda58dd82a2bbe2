"""Distillation beside direct tuning, sentence-level distillation and ULD: same budget, same text, several seeds.

    python benchmarks/distill_quality.py                                   # every pair, one seed
    python benchmarks/distill_quality.py --seeds 0 1 2 --pairs stories260K
    python benchmarks/distill_quality.py --table                           # what is there, nothing computed

Needs VOCABALIGN_MATERIAL. Teacher stories3M, students stories260K and tlm-833K: ``unified`` (the student first given
the teacher's tokenizer) and across tokenizers; the demo pair on Python's standard library; stories3M with half its
vocabulary and with 2,000 more words, taught by itself as it was. Bits per byte of held-out text are those of the scorer
given with --scorer; KL to the teacher and top-1 agreement are ``vocabalign evaluate``'s. Finished cells are kept in
build/.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from vocabalign.config import make_config
from vocabalign.stages import STAGES

DIRECT = {"distillation_weight": 0.0}
WAYS = {
    "direct": DIRECT,
    "auto": {"loss": "auto"},
    "event": {"loss": "event"},
    "event+chunks": {"loss": "event+chunks"},
    "prefixes": {"loss": "prefixes"},
    "gold": {"loss": "gold"},
    "ULD": {"loss": "uld"},
    "sentence": {"loss": "sentence"},
    "auto, weight 0.9": {"loss": "auto", "distillation_weight": 0.9},
}
PAIRS = {
    "stories260K": ["direct", "auto", "event+chunks", "ULD", "sentence"],
    "tlm-833K": ["direct", "auto", "ULD", "sentence"],
    "stories260K unified": ["direct", "auto"],
    "tlm-833K unified": ["direct", "auto"],
    "reduce": ["direct", "auto"],
    "expand": ["direct", "auto"],
    "demo": ["direct", "auto"],
    "worse teacher": ["direct", "auto"],
}
CONTEXT = {"tlm-833K": 64, "tlm-833K unified": 64}
WORDS = 2000


def main() -> None:
    """One line for each cell, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), choices=PAIRS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, help="instead of those of the pair")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--tokens", type=int, default=2048, help="of the student in a step")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--build", type=Path, default=Path("build/distill_quality"))
    parser.add_argument("--scorer", type=Path, default=None)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    for seed in () if arguments.table else arguments.seeds:
        for pair in arguments.pairs:
            for way in arguments.ways or PAIRS[pair]:
                bench.cell(pair, way, seed)
    bench.table()


class Bench:
    """Cells that are made once.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.material = Path(os.environ["VOCABALIGN_MATERIAL"])
        self.build = arguments.build
        self.build.mkdir(parents=True, exist_ok=True)
        self.scorer = arguments.scorer or self.material.parent / "tools" / "score.py"

    def model(self, name: str) -> str:
        """A model of the material."""
        return str(self.material / "models" / f"{name}-hf")

    def text(self, pair: str) -> tuple[str, str]:
        """Training and held-out text."""
        if pair == "demo":
            out = self.made("standard-library", "corpus", {"standard_library": True, "heldout_max_bytes": 60_000})
            return str(out / "train.jsonl"), str(out / "heldout.jsonl")
        path = self.build / "stories.jsonl"
        corpora = self.material / "corpora"
        if not path.exists():
            files = [
                corpora / "tinystories" / "train.jsonl",
                *sorted((corpora / "tinystories-sampled").glob("*.jsonl")),
            ]
            lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
            random.Random(0).shuffle(lines)
            path.write_text("\n".join(lines[:5000]) + "\n", encoding="utf-8")
        return str(path), str(corpora / "tinystories" / "heldout.jsonl")

    def made(self, name: str, stage: str, values: dict) -> Path:
        """An artefact that several cells begin with."""
        out = self.build / name
        if not out.exists():
            STAGES[stage].run(make_config(STAGES[stage].config_class, {**values, "out": out}))
        return out

    def sides(self, pair: str) -> tuple[str, str]:
        """Student as it begins, and teacher."""
        text = [self.text(pair)[0]]
        teacher = self.model("stories3M")
        if pair == "demo":
            return "demo:source", "demo:teacher"
        if pair == "worse teacher":
            return self.model("stories260K"), self.model("tlm-833K")
        if pair in ("reduce", "expand"):
            name = "prune" if pair == "reduce" else "extend"
            size = {"size": 2048} if pair == "reduce" else {"words": self.words()}
            values = {"tokenizer": teacher, "corpus": text, **size}
            target = self.made(f"{pair}-tokenizer", f"tokenizer-{name}", values)
            values = {"source": teacher, "target": str(target), "corpus": text}
            return str(self.made(f"{pair}-start", "transplant", values)), teacher
        student = self.model(pair.removesuffix(" unified"))
        if pair.endswith("unified"):
            values = {"source": student, "target": teacher, "corpus": text, "untie": True}
            student = str(self.made(f"{pair.replace(' ', '-')}-start", "transplant", values))
        return student, teacher

    def words(self) -> str:
        """The commonest words of the text that are no token yet, one a line."""
        from collections import Counter

        from vocabalign.text.tokenizers import load_vocabulary

        path = self.build / "words.txt"
        if not path.exists():
            vocabulary = load_vocabulary(self.model("stories3M"))
            texts = [json.loads(line)["text"] for line in Path(self.text("expand")[0]).read_text().splitlines()]
            words = [
                word.strip(".,!?;:\"'()")
                for word, _ in Counter(w for text in texts for w in text.split()).most_common()
            ]
            fresh = dict.fromkeys(
                w for w in words if w.isalpha() and b" " + w.encode() not in set(vocabulary.token_bytes)
            )
            path.write_text("\n".join(list(fresh)[:WORDS]) + "\n")
        return str(path)

    def cell(self, pair: str, way: str, seed: int) -> None:
        """Train and score one model, unless that was done."""
        done = self.path(pair, way, seed)
        if done.exists():
            return
        student, teacher = self.sides(pair)
        train, heldout = self.text(pair)
        context = CONTEXT.get(pair, 128)
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
            "learning_rate": self.arguments.learning_rate,
            "training": training,
            "seed": seed,
            "overwrite": True,
            "check_teacher": way == "auto",
            **WAYS[way],
        }
        out = self.build / "model"
        STAGES["distill"].run(make_config(STAGES["distill"].config_class, {**values, "out": out}))
        manifest = json.loads((out / "manifest.json").read_text())
        result = {"pair": pair, "way": way, "seed": seed, "loss": manifest["metrics"].get("loss", ["cross-entropy"])[0]}
        result |= self.score(out, heldout) | self.beside(out, teacher, heldout)
        result["seconds"] = manifest["seconds"]
        if not (self.build / f"{pair}.begin.json").exists():
            begin = self.score(student, heldout) | self.beside(student, teacher, heldout)
            (self.build / f"{pair}.begin.json").write_text(json.dumps(begin))
        shutil.rmtree(out)
        done.write_text(json.dumps(result))
        print(json.dumps(result), flush=True)

    def path(self, pair: str, way: str, seed: int) -> Path:
        """Where a cell's result is kept."""
        rate = self.arguments.learning_rate
        return self.build / f"{pair}.{way}.{seed}.{self.arguments.steps}.{rate:g}.json".replace(" ", "-")

    def score(self, model: Path | str, heldout: str) -> dict:
        """Bits per byte by the given scorer."""
        folder = Path(__file__).parents[1] / "vocabalign" / "demo" / "source" if model == "demo:source" else model
        command = [sys.executable, str(self.scorer), heldout, str(folder)]
        line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        return {"bits_per_byte": json.loads(line)["bits_per_byte"]}

    def beside(self, model: Path | str, teacher: str, heldout: str) -> dict:
        """KL to the teacher and top-1 agreement."""
        values = {"models": {"m": str(model)}, "corpus": [heldout], "teacher": teacher, "max_bytes": 15_000}
        values |= {"sample_tokens": 0, "out": self.build / "measures", "overwrite": True, "window": 256}
        out = STAGES["evaluate"].run(make_config(STAGES["evaluate"].config_class, values))
        row = json.loads((out / "metrics.json").read_text())["models"][0]
        return {
            "kl_bits_per_byte": round(row.get("teacher_kl_bits_per_byte", float("nan")), 4),
            "top1_agreement": round(row.get("teacher_top1_agreement", float("nan")), 4),
        }

    def table(self) -> None:
        """Means over seeds, and the spread of the differences to direct tuning."""
        for pair in self.arguments.pairs:
            begin = self.build / f"{pair}.begin.json"
            if not begin.exists():
                continue
            first = json.loads(begin.read_text())
            print(f"\n{pair}: {self.arguments.steps} steps of {self.arguments.tokens} tokens")
            print(f"  {'':<18}{'bits a byte':>12} {'less than direct, by seed':<32}{'KL':>8}{'top-1':>8}")
            print(f"  {'before':<18}{first['bits_per_byte']:12.4f} {'':<32}{first['kl_bits_per_byte']:8.3f}", end="")
            print(f"{first['top1_agreement']:8.3f}")
            direct = self.results(pair, "direct")
            for way in WAYS:
                found = self.results(pair, way)
                if not found:
                    continue
                gains = [direct[s]["bits_per_byte"] - r["bits_per_byte"] for s, r in found.items() if s in direct]
                shown = " ".join(f"{gain:+.4f}" for gain in gains) if way != "direct" else ""
                keys = ("bits_per_byte", "kl_bits_per_byte", "top1_agreement")
                means = [statistics.mean(row[key] for row in found.values()) for key in keys]
                print(f"  {way:<18}{means[0]:12.4f} {shown:<32}{means[1]:8.3f}{means[2]:8.3f}", flush=True)

    def results(self, pair: str, way: str) -> dict[int, dict]:
        """Seed -> result of the cells that are there."""
        paths = {seed: self.path(pair, way, seed) for seed in self.arguments.seeds}
        return {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.exists()}


if __name__ == "__main__":
    main()
