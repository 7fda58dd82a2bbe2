"""The tables of finetune_quality.py: scores by document, paired intervals, tokens to a line. Not run by itself."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch

from vocabalign.evaluation.bits_per_byte import DocumentScores, score_documents, start_token
from vocabalign.evaluation.statistics import paired_difference
from vocabalign.models import load_model
from vocabalign.text.corpus import read_texts
from vocabalign.text.tokenizers import load_vocabulary

HELD = "heldout_bits_per_byte"
# Bits per byte above this multiple of the untouched source's are not yet as good as before.
AS_GOOD = 1.02
ROWS_SECONDS = 180


def curve(folder: Path) -> list[tuple[int, float]]:
    """(tokens, held-out bits per byte) during training."""
    lines = read_lines(folder)
    per_step = next(line["tokens"] / line["step"] for line in lines if "tokens" in line)
    return [(round(line["step"] * per_step), line[HELD]) for line in lines if HELD in line]


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Every line that the run recorded."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def first_below(points: list[tuple[int, float]], line: float) -> int | None:
    """Tokens at which a curve first comes to a line."""
    return next((tokens for tokens, value in points if value <= line), None)


def scored(folder: Path, texts: list[str], cache: Path) -> DocumentScores:
    """Nats of each document, kept for later calls."""
    path = cache / f"scores-{folder.name}.json"
    vocabulary = load_vocabulary(folder)
    sizes, ids = [len(text.encode()) for text in texts], vocabulary.encode_batch(texts)
    if not path.exists():
        model = load_model(folder, dtype=torch.float32, device=torch.device("cpu"))
        found = score_documents(model, ids, sizes, start_id=start_token(vocabulary.roles))
        path.write_text(json.dumps(found.nats.tolist()))
    arrays = [json.loads(path.read_text()), sizes, [len(part) for part in ids]]
    tensors = [torch.tensor(values).numpy() for values in arrays]
    return DocumentScores(tensors[0].astype("float64"), *(values.astype("int64") for values in tensors[1:]))


def external(scorer: Path, folder: Path, heldout: str) -> float:
    """The same by a script that does not know this package."""
    spec = importlib.util.spec_from_file_location("scorer", scorer)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return float(module.score(str(folder), module.read(heldout))["bits_per_byte"])


def show_pair(name: str, source: Path, folder: Path, heldout: list[str], scorer: Path | None) -> None:
    """Everything of a pair that has been made so far."""
    texts = list(read_texts(heldout))
    made = sorted(path for path in folder.iterdir() if (path / "config.json").is_file())
    scores = {path.name: scored(path, texts, folder) for path in made}
    untouched = scored(source, texts, folder)
    line = AS_GOOD * untouched.bits_per_byte
    print(f"\n## {name}: untouched source {untouched.bits_per_byte:.4f}, within 2 %: {line:.4f}\n")
    print("| model | tokens | bits per byte | above the source (95 %) | tokens to within 2 % |")
    print("|---|---:|---:|---:|---:|")
    for path in made:
        result = scores[path.name]
        above = paired_difference(untouched, result).difference
        trained = (path / "metrics.jsonl").is_file()
        points = curve(path) if trained else []
        reached = first_below(points, line) if trained else None
        columns = [
            path.name,
            f"{points[-1][0]:,}" if trained else "0",
            f"{result.bits_per_byte:.4f}" + (f" ({external(scorer, path, heldout[0]):.4f})" if scorer else ""),
            f"{above.value:+.4f} ({above.low:+.4f} to {above.high:+.4f})" if above.low is not None else "",
            "-" if reached is None else f"{reached:,}",
        ]
        print("| " + " | ".join(columns) + " |", flush=True)
    show_ratios(folder, scores, untouched, line)


def show_ratios(folder: Path, scores: dict[str, DocumentScores], untouched: DocumentScores, line: float) -> None:
    """Our figures over the others'."""
    seeds = sorted(int(name.removeprefix("ours-seed")) for name in scores if name.startswith("ours-seed"))
    for seed in seeds:
        ours, baseline = curve(folder / f"ours-seed{seed}"), folder / f"baseline-seed{seed}"
        if baseline.exists():
            points = curve(baseline)
            theirs = first_below(points, line)
            goal = line if theirs is not None else min(value for _, value in points)
            theirs = theirs or next(tokens for tokens, value in points if value == goal)
            mine = first_below(ours, goal)
            ratio = "not reached" if mine is None else f"{mine:,} / {theirs:,} = {mine / theirs:.2f}"
            print(f"seed {seed}: tokens to {goal:.4f}, ours / baseline: {ratio}")
            gap = paired_difference(scores[baseline.name], scores[f"ours-seed{seed}"]).difference
            print(f"seed {seed}: ours - baseline: {gap.value:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})")
        continued = [name for name in scores if name.startswith("source-continued") and name.endswith(f"seed{seed}")]
        if continued:
            best = min(continued, key=lambda name: scores[name].bits_per_byte)
            gap = paired_difference(scores[best], scores[f"ours-seed{seed}"]).difference
            print(f"seed {seed}: ours - {best}: {gap.value:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})")
    rivals = {name: scores[name] for name in scores if name.startswith("start-") and "ours" not in name}
    rivals = {name: score for name, score in rivals.items() if "tied" not in name}
    for path in sorted(folder.glob("rows-alone-seed*")):
        if rivals:
            show_rows(path, min(s.bits_per_byte for s in rivals.values()), untouched.bits_per_byte)


def show_rows(path: Path, rival: float, untouched: float) -> None:
    """What rows alone reach in three minutes, as a share of the best rival start's gap."""
    speed = json.loads((path / "manifest.json").read_text())["metrics"]["tokens_per_second"]
    points = curve(path)
    within = [point for point in points if point[0] <= speed * ROWS_SECONDS]
    for label, (tokens, value) in (("three minutes here", within[-1]), ("in the end", points[-1])):
        share = (value - untouched) / (rival - untouched)
        print(
            f"{path.name}, {label} ({tokens:,} tokens, {tokens / speed:.0f} s): {value:.4f}, {share:.2f} of the best "
            f"rival start's gap ({rival:.4f})"
        )
