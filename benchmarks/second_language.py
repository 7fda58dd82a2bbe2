"""What a balanced tokenizer gave a small English-Russian model: tokens, bits per byte and speed in each language.

    python scripts/second_language.py --english TEXT ... --russian TEXT ... \\
        --english-heldout TEXT --russian-heldout TEXT
    vocabalign run pipelines/second-language.yaml
    python benchmarks/second_language.py --run runs/second-language

Tokens and bits per byte are those of the run's scores. Speed is measured here: every model goes on greedily from the
beginnings of the same held-out documents, one model after the other document by document, so that a busy machine
disturbs all alike; bytes a second are of processor time.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from vocabalign.evaluation.generation import default_prompt, write_sample
from vocabalign.models import load_model, resolve
from vocabalign.text.corpus import read_texts
from vocabalign.text.tokenizers import load_vocabulary


def speeds(models: list[dict[str, Any]], prompts: list[str], num_tokens: int) -> dict[str, float]:
    """Bytes written in a second of processor time, by model."""
    loaded = {}
    for row in models:
        folder = Path(resolve(row["path"]))
        model = load_model(folder, dtype=torch.float32, device=torch.device("cpu"))
        loaded[row["name"]] = (model, load_vocabulary(folder))
        write_sample(*loaded[row["name"]], prompts[0], 4)  # the first call of a model takes longer
    seconds, written = dict.fromkeys(loaded, 0.0), dict.fromkeys(loaded, 0)
    for prompt in prompts:
        for name, (model, vocabulary) in loaded.items():
            started = time.process_time()
            sample = write_sample(model, vocabulary, prompt, num_tokens)
            seconds[name] += time.process_time() - started
            written[name] += len(sample.text.encode())
    return {name: written[name] / seconds[name] for name in loaded}


def main() -> None:
    """Print a table for each language."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/second-language"))
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=96)
    options = parser.parse_args()
    metrics = json.loads((options.run / "metrics" / "metrics.json").read_text(encoding="utf-8"))
    for path in metrics["corpus"]["paths"]:
        prompts = [default_prompt(text) for text in list(read_texts([path]))[: options.prompts]]
        speed = speeds(metrics["models"], prompts, options.tokens)
        domain = Path(path).stem
        print(f"| {domain} | tokens per kB | bits per byte | bytes a second | ratio |\n|---|---:|---:|---:|---:|")
        first = metrics["models"][0]["name"]
        for row in metrics["models"]:
            found = row["domains"][domain]
            print(
                f"| {row['name']} | {found['tokens_per_kilobyte']:.0f} | {found['bits_per_byte']:.4f} "
                f"| {speed[row['name']]:.0f} | {speed[row['name']] / speed[first]:.2f} |"
            )
        for row in metrics["comparisons"] + metrics["other_comparisons"]:
            found = row["domains"].get(domain)
            if found:
                keys = ("bits_per_byte_difference", "bits_per_byte_difference_low", "bits_per_byte_difference_high")
                difference, low, high = (found[key] for key in keys)
                print(f"{row['name']} - {row['against']}: {difference:+.4f} ({low:+.4f} to {high:+.4f})")
        print()


if __name__ == "__main__":
    main()
