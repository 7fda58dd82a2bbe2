"""Tasks by lm-evaluation-harness on questions made here, and what retention means."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from tests.conftest import make_llama
from vocabalign.errors import ConfigError
from vocabalign.evaluation.measuring import measure
from vocabalign.evaluation.options import MeasureOptions, Place
from vocabalign.evaluation.tasks import TaskRun, TaskScore, randomise_rows, task_record

needs_harness = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm_eval is not installed")


@pytest.fixture
def folder(tmp_path):
    """Multiple choice whose right answer is always what the text said before; and the log-likelihood of text."""
    questions = [
        {"question": f"The {a} sat on the", "choices": [f" {a}", f" {b}"], "answer": 0}
        for a in ("cat", "dog", "girl", "door", "house", "mat") for b in ("wood", "market")
    ]  # fmt: skip
    (tmp_path / "animals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    task = {
        "task": "animals",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "animals.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "doc_to_choice": "{{choices}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (tmp_path / "animals.yaml").write_text(yaml.safe_dump(task))
    text = {
        **task,
        "task": "text",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}}",
    }
    text["metric_list"] = [{"metric": "bits_per_byte"}]
    del text["doc_to_choice"]
    (tmp_path / "text.yaml").write_text(yaml.safe_dump(text))
    return tmp_path


@needs_harness
def test_scores_by_the_harness(folder, tiny_llama, texts, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    options = {"tasks": str(folder), "sample_tokens": 0, "device": "cpu"}
    rows = measure({"first": str(tiny_llama), "again": str(tiny_llama)}, texts[:1], **options).metrics["models"]
    for row in rows:
        animals, text = row["tasks"]["animals"], row["tasks"]["text"]
        assert animals["metric"] == "acc" and 0 <= animals["score"] <= 1
        assert text["metric"] == "bits_per_byte" and text["score"] > 0
        assert "retention" not in text  # less is better
        assert animals["vanilla"] == rows[0]["tasks"]["animals"]["score"]
    assert rows[0]["tasks"] == rows[1]["tasks"]
    limited = measure({"first": str(tiny_llama)}, texts[:1], task_limit=1, floor=str(tiny_llama), **options)
    assert limited.metrics["models"][0]["tasks"]["animals"]["score"] in (0, 1)
    assert limited.metrics["models"][0]["task_chance_corrected_retention"] is None  # the floor is the model itself


def test_without_the_harness_the_command_to_install_is_told(folder, monkeypatch, tiny_llama):
    monkeypatch.setattr("builtins.__import__", refuse("lm_eval"))
    with pytest.raises(ConfigError, match=r"pip install 'vocabalign\[eval\]'"):
        TaskRun(MeasureOptions(tasks=folder), str(tiny_llama), Place(torch.device("cpu"), torch.float32))


def refuse(package):
    import builtins

    original = builtins.__import__

    def look(name, *arguments, **options):
        if name.partition(".")[0] == package:
            raise ImportError(f"No module named '{package}'")
        return original(name, *arguments, **options)

    return look


def score(value: float, higher: bool = True) -> TaskScore:
    return TaskScore("acc", value, None, higher)


def test_retention_is_of_what_lies_above_the_floor():
    vanilla, floor = {"a": score(0.8), "b": score(0.6)}, {"a": score(0.5), "b": score(0.5)}
    record = task_record({"a": score(0.65), "b": score(0.6)}, vanilla, floor)
    assert record["tasks"]["a"]["retention"] == pytest.approx(0.65 / 0.8)
    assert record["tasks"]["a"]["chance_corrected_retention"] == pytest.approx(0.5)
    assert record["tasks"]["b"]["chance_corrected_retention"] == pytest.approx(1)
    assert record["task_score_mean"] == pytest.approx(0.625)
    assert record["task_chance_corrected_retention"] == pytest.approx((0.625 - 0.5) / (0.7 - 0.5))
    whole = task_record(vanilla, vanilla, floor)
    assert whole["task_retention"] == whole["task_chance_corrected_retention"] == 1
    assert task_record(floor, vanilla, floor)["task_chance_corrected_retention"] == 0


def test_less_is_better_is_left_out_of_retention():
    table = {"a": score(3.0, higher=False)}
    record = task_record(table, table, table)
    assert record["tasks"]["a"]["score"] == 3.0
    assert not any("retention" in key for key in (*record, *record["tasks"]["a"]))


@pytest.mark.parametrize("tied", [True, False])
def test_random_rows_keep_the_columns_scale_and_nothing_else(tmp_path, tied):
    model = AutoModelForCausalLM.from_pretrained(make_llama(tmp_path, 2000, tied=tied)).float()
    before = model.get_input_embeddings().weight.clone()
    body = [p.clone() for name, p in model.named_parameters() if "embed" not in name and "lm_head" not in name]
    randomise_rows(model, 0)
    after = model.get_input_embeddings().weight
    assert (model.get_output_embeddings().weight is after) == tied
    torch.testing.assert_close(after.std(0), before.std(0), rtol=0.1, atol=0)
    cosine = torch.nn.functional.cosine_similarity(after - after.mean(0), before - before.mean(0)).mean().detach()
    assert abs(float(cosine)) < 0.05
    unchanged = [p for name, p in model.named_parameters() if "embed" not in name and "lm_head" not in name]
    assert all(torch.equal(a, b) for a, b in zip(body, unchanged, strict=True))
