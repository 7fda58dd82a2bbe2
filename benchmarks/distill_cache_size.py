"""Bytes a token of every kind of cache, and what the compact form of the likeliest tokens loses.

    python benchmarks/distill_cache_size.py [--model MODEL] [--documents 10]

Needs VOCABALIGN_MATERIAL. Beside them what the numbers take in plain arrays: 4-byte ids with 4-byte values, float32
hidden states. The loss is the KL between the teacher's k + 1 events and what is read back.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import torch

from vocabalign.config import make_config
from vocabalign.manifests import read_manifest
from vocabalign.stages import DistillCacheConfig
from vocabalign.train import caches
from vocabalign.train.cache_format import EXACT_TOKENS, bits_for
from vocabalign.train.cache_reading import CachedRows, TargetCache


def main() -> None:
    """One line a kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--documents", type=int, default=10)
    arguments = parser.parse_args()
    material = Path(os.environ["VOCABALIGN_MATERIAL"])
    model = arguments.model or str(material / "models" / "stories3M-hf")
    with tempfile.TemporaryDirectory(prefix="vocabalign-benchmark-") as temporary:
        folder = Path(temporary)
        text = folder / "text.jsonl"
        lines = (material / "corpora" / "tinystories" / "heldout.jsonl").read_text().splitlines(keepends=True)
        text.write_text("".join(lines[: arguments.documents]))
        measure(model, text, folder)


def measure(model: str, text: Path, folder: Path) -> None:
    """Make a cache of every kind and read it back."""
    opened = {}
    kinds = {"log-probs": {}, "top-k 50": {"top_k": 50}, "top-k 50, exact": {"top_k": 50, "exact": True}}
    kinds |= {"sampled 50": {"draws": 50}, "sampled 12": {"draws": 12}, "hidden": {}}
    for name, options in kinds.items():
        out = folder / name.replace(" ", "-")
        values = {"teacher": model, "corpus": [str(text)], "out": out, "kind": name.split(" ")[0].strip(","), **options}
        caches.run(make_config(DistillCacheConfig, values))
        opened[name] = TargetCache(out)
        size = read_manifest(out)["metrics"]["bytes_per_token"]
        print(f"{name:<18}{size:8.1f} bytes a token, {plain(name, opened[name]):10,.0f} as plain arrays", flush=True)
    rows = torch.arange(min(500, int(opened["hidden"].first_rows[-1])))
    whole, compact = (
        CachedRows(opened[name], torch.device("cpu")).top(rows) for name in ("top-k 50, exact", "top-k 50")
    )
    p, q = (torch.cat([found.log_probs, found.log_tail[:, None]], 1) for found in (whole, compact))  # type: ignore[index]
    print(f"compact top-k: KL to the exact one {float((p.exp() * (p - q)).sum(-1).mean()):.5f} nats a token")
    for k in (50, 128):
        size = -(-k * bits_for(128_256) // 8) + 4 * EXACT_TOKENS + 3
        print(f"computed for 128,256 tokens and k = {k}: {size} bytes a token")


def plain(name: str, cache: TargetCache) -> float:
    """What a plain array would take."""
    if name == "hidden":
        return 4.0 * cache.shards[0]["states"].shape[1]
    return {"log-probs": 8.0, "sampled 12": 96.0}.get(name, 400.0)


if __name__ == "__main__":
    main()
