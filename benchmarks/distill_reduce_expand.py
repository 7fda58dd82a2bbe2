"""Half of a vocabulary, and 2,000 more words: distilled from the model as it was, beside direct tuning. Several seeds.

    python benchmarks/distill_reduce_expand.py                       # both pipelines, one seed, one rate for each
    python benchmarks/distill_reduce_expand.py --seeds 0 1 2 --rates 1e-4 3e-4 --pipelines reduce

Needs VOCABALIGN_MATERIAL. Runs pipelines/reduce.yaml and expand.yaml on stories3M, its own teacher, with text of
``tinystories`` and ``tinystories-sampled``; the words are the commonest ones that are no token yet. Both ways get the
same learning rate, steps and batches. Finished runs are kept in build/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from distill_pairs import Pairs

PIPELINES = Path(__file__).parents[1] / "pipelines"
RATES = {"reduce": 1e-4, "expand": 5e-5}
TOKENS, WORDS, STEPS, HELDOUT_BYTES = 2048, 2000, 20, 30_000
NAMES = ("source", "transplanted", "control", "distilled")


def main() -> None:
    """One line for each pipeline, learning rate and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipelines", nargs="+", default=list(RATES), choices=RATES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rates", nargs="+", type=float, help="peak learning rates to try instead of the pipeline's")
    parser.add_argument("--build", type=Path, default=Path("build/distill_reduce_expand"))
    arguments = parser.parse_args()
    arguments.build.mkdir(parents=True, exist_ok=True)
    pairs = Pairs(arguments.build)
    print(f"{'':<8}{'rate':>8}{'seed':>5}  {'tokens/kB':<12}" + "".join(f"{name:>13}" for name in NAMES) + "   gain")
    for name in arguments.pipelines:
        for rate in arguments.rates or [RATES[name]]:
            for seed in arguments.seeds:
                rows = measured(pairs, name, rate, seed)
                bits = [rows[row]["bits_per_byte"] for row in NAMES]
                tokens = " -> ".join(f"{rows[row]['tokens_per_kilobyte']:.0f}" for row in ("source", "distilled"))
                shown = "".join(f"{value:13.4f}" for value in bits)
                print(f"{name:<8}{rate:8.0e}{seed:5}  {tokens:<12}{shown}  {bits[2] - bits[3]:+.4f}", flush=True)


def measured(pairs: Pairs, name: str, rate: float, seed: int) -> dict[str, dict]:
    """Rows of the pipeline's evaluation, by model."""
    done = pairs.build / f"{name}.{rate:g}.{seed}.json"
    if not done.exists():
        model, (text, heldout) = pairs.model("stories3M"), pairs.text(name)
        schedule = (
            f"{{steps: {STEPS}, batch_size: 8, context: 128, betas: [0.9, 0.98], warmup_share: 0.1, "
            "checkpoint_every: 100000}"
        )
        settings = {
            "text.max_bytes": 200_000,
            "tokenizer.tokenizer": model,
            "tokenizer.corpus": f"[{text}]",
            "transplanted.source": model,
            "transplanted.corpus": f"[{text}]",
            "metrics.models.source": model,
            "metrics.corpus": heldout,
            "metrics.sample_tokens": 0,
            "metrics.max_bytes": HELDOUT_BYTES,
        }
        if name == "reduce":
            settings["tokenizer.size"] = TOKENS
        else:
            settings |= {"tokenizer.words": pairs.words(WORDS), "tokenizer.num_tokens": "null"}
        for stage in ("distilled", "control"):
            settings |= {f"{stage}.teacher": model, f"{stage}.corpus": f"[{text}]", f"{stage}.seed": seed}
            settings |= {f"{stage}.learning_rate": rate, f"{stage}.training": schedule}
        out = pairs.build / name
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        command = [sys.executable, "-m", "vocabalign", "run", str(PIPELINES / f"{name}.yaml"), "--out", str(out)]
        subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
        done.write_text((out / "metrics" / "metrics.json").read_text())
    return {row["name"]: row for row in json.loads(done.read_text())["models"]}


if __name__ == "__main__":
    main()
