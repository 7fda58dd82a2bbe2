"""Dry runs: sizes from files, times that grow with the work."""

import pytest

from vocabalign.config import make_config
from vocabalign.planning import plan_stages
from vocabalign.stages import STAGES


def plan(stage: str, **values):
    return plan_stages([(stage, make_config(STAGES[stage].config_class, {"out": "o", **values}))])[0]


def test_training_time_grows_with_the_steps(tiny_llama, corpus_file):
    short, long = (
        plan("finetune", model=str(tiny_llama), corpus=[str(corpus_file)], training={"steps": steps})
        for steps in (1000, 10000)
    )
    assert long.gpu_hours_1b == pytest.approx(10 * short.gpu_hours_1b)
    assert long.seconds_here > short.seconds_here and "tokens in 10,000 steps" in str(long)


def test_the_control_does_not_pay_for_the_teacher(tiny_llama, corpus_file):
    fields = {"student": str(tiny_llama), "teacher": str(tiny_llama), "corpus": [str(corpus_file)]}
    assert plan("distill", **fields).gpu_hours_8b > plan("distill", distillation_weight=0, **fields).gpu_hours_8b


def test_an_input_that_no_stage_makes_is_named(corpus_file):
    told = plan("align", source="no-such-source", target="no-such-target", corpus=[str(corpus_file)])
    assert "no-such-source" in told.notes[0] and str(corpus_file) not in told.notes[0]
    assert "would read no-such-source" in str(told)


def test_a_model_still_to_be_made_counts_as_what_it_will_be(tiny_llama, corpus_file, tmp_path):
    new = str(tmp_path / "new")
    training = {"model": new, "corpus": [str(corpus_file)], "out": str(tmp_path / "tuned")}
    stages = [
        ("transplant", {"source": str(tiny_llama), "target": "demo:teacher", "out": new}),
        ("finetune", training),
        ("finetune", {**training, "model": str(tmp_path / "tuned"), "out": str(tmp_path / "again")}),
        ("finetune", {**training, "model": str(tiny_llama), "out": str(tmp_path / "small")}),
    ]
    plans = plan_stages([(name, make_config(STAGES[name].config_class, values)) for name, values in stages])
    _, first, again, small = plans
    assert first.seconds_here == again.seconds_here > small.seconds_here
    assert not any("does not exist" in note for each in plans for note in each.notes)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("stage", ["embed", "align", "transplant"])
def test_memory_grows_with_the_vocabulary(stage, tiny_llama, corpus_file, tmp_path):
    import json

    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 10**6, "hidden_size": 4096}))
    names = {"embed": ("tokenizer",), "align": ("source", "target"), "transplant": ("source", "target")}[stage]
    small, large = (
        plan(stage, corpus=[str(corpus_file)], **{name: str(folder) for name in names})
        for folder in (tiny_llama, tmp_path)
    )
    assert large.memory_bytes > 2 * small.memory_bytes
    assert set(large.as_json()) >= {"reads", "writes", "memory_bytes", "disk_bytes", "seconds_here"}
