"""Curves: what was logged, where one training went on from another, and what evaluation says of their ends."""

from __future__ import annotations

import json

from vocabalign.artifacts import write_artifact
from vocabalign.report.collect import collect_run
from vocabalign.report.curves import joined_curves, read_curve
from vocabalign.report.figures import can_draw, draw_curves, draw_losses


def make_training(folder, name, stage, config, lines):
    with write_artifact(folder / name, stage, {"out": f"runs/r/{name}", **config}, {}) as writer:
        (writer.folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")


def steps(count, tokens=100):
    return [{"step": step, "loss": 4 - step / 10, "tokens": step * tokens} for step in range(1, count + 1)]


def test_trainings_stand_end_to_end(tmp_path):
    folder = tmp_path / "r"
    make_training(folder, "finetuned", "finetune", {"model": "/old/place/runs/r/transplanted"}, steps(10))
    make_training(folder, "distilled", "distill", {"student": "runs/r/finetuned"}, steps(5))
    make_training(folder, "alone", "finetune", {"model": "models/other/finetuned"}, steps(3))
    rows = [("transplanted", 3.0), ("finetuned", 2.0), ("distilled", 1.5)]
    with write_artifact(folder / "metrics", "evaluate", {}, {}) as writer:
        models = [{"name": name, "path": f"runs/r/{name}", "bits_per_byte": value} for name, value in rows]
        (writer.folder / "metrics.json").write_text(json.dumps({"models": models}))
    (folder / "pipeline.yaml").write_text(
        "stages: [{name: finetuned}, {name: distilled}, {name: alone}, {name: metrics}]"
    )
    curves = {curve.name: curve for curve in joined_curves(collect_run(folder))}
    assert curves["finetuned"].offset == 0 and curves["finetuned"].ends == [(0.0, 3.0), (1000.0, 2.0)]
    assert curves["distilled"].offset == 1000 and curves["distilled"].ends == [(0.0, 2.0), (500.0, 1.5)]
    assert curves["distilled"].shifted(curves["distilled"].ends) == [(1000.0, 2.0), (1500.0, 1.5)]
    # A folder of the same name elsewhere is another model.
    assert curves["alone"].offset == 0 and curves["alone"].ends == []
    if can_draw():
        svg = draw_curves(list(curves.values()), "x")
        assert "distilled" in svg and "million tokens" in svg
        assert "alone" in draw_losses(list(curves.values()), "y")


def test_scores_know_their_tokens_by_their_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": 0, "heldout_bits_per_byte": 3.0}, *steps(4), {"step": 4, "heldout_bits_per_byte": 2.5}]
    lines += [{"step": 9, "heldout_bits_per_byte": 1.0}, {"step": 5, "loss": float("nan"), "tokens": 500}]
    path.write_text("\n".join(map(json.dumps, lines)) + '\n[1]\n{"step": 6, "lo')
    curve = read_curve(path, "x")
    assert curve.bits_per_byte == [(0.0, 3.0), (400.0, 2.5)] and len(curve.loss) == 4
    path.write_text("")
    assert read_curve(path, "x") is None
