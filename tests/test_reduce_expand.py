"""The pipelines that reduce and expand a vocabulary, with tiny budgets on the model that ships."""

import json
from pathlib import Path

import pytest

from vocabalign.cli import run
from vocabalign.text.tokenizers import load_vocabulary

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "training.steps": 2,
    "training.batch_size": 2,
    "training.context": 32,
    "check_teacher": "false",
}


@pytest.mark.parametrize(
    ("name", "setting", "size"), [("reduce", "size=2048", 2048), ("expand", "num_tokens=40", 4136)]
)
def test_the_pipeline_runs_and_the_untouched_model_teaches(name, setting, size, tmp_path, capsys):
    overrides = ["text.max_bytes=200000", "text.heldout_max_bytes=5000", f"tokenizer.{setting}"]
    overrides += ["metrics.max_bytes=400", "metrics.sample_tokens=2"]
    overrides += [f"{stage}.{key}={value}" for stage in ("distilled", "control") for key, value in TINY.items()]
    flags = [part for override in overrides for part in ("-o", override)]
    out = tmp_path / "run"
    assert run(["run", str(ROOT / "pipelines" / f"{name}.yaml"), "--out", str(out), *flags]) == 0, (
        capsys.readouterr().err
    )
    assert len(load_vocabulary(out / "distilled")) == pytest.approx(size, abs=20)
    manifest = json.loads((out / "distilled" / "manifest.json").read_text())
    (loss,) = manifest["metrics"]["loss"]
    assert not loss.startswith("token") and "next" in loss
    scores = json.loads((out / "metrics" / "metrics.json").read_text())["models"]
    assert {row["name"] for row in scores} == {"source", "transplanted", "control", "distilled"}
    assert (out / "report" / "report.html").is_file()
