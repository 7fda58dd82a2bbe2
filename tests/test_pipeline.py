"""Pipeline files: order, skipping, overrides, references."""

import pytest
import yaml

from vocabalign import stages
from vocabalign.artifacts import stage_artifact
from vocabalign.config import StageConfig
from vocabalign.errors import ArtifactError, ConfigError, ModelError
from vocabalign.manifests import read_manifest
from vocabalign.pipeline import plan_stages, read_pipeline, run_pipeline


class UpperConfig(StageConfig):
    """Write the input's text in capitals, with a mark."""

    text: str
    """A file."""
    mark: str = "!"
    """Put at the end."""


RUNS: list[str] = []


def run_upper(config: UpperConfig):
    with stage_artifact("upper", config) as writer:
        from pathlib import Path

        RUNS.append(config.out.name)
        text = Path(config.text).read_text() if Path(config.text).is_file() else (Path(config.text) / "t").read_text()
        if "FAIL" in text:
            raise ModelError("the text says so")
        (writer.folder / "t").write_text(text.upper() + config.mark)
    return config.out


@pytest.fixture
def pipeline_file(tmp_path, monkeypatch):
    stage = stages.Stage(UpperConfig, "tests.test_pipeline:run_upper", ("text",), ())
    monkeypatch.setitem(stages.STAGES, "upper", stage)
    monkeypatch.setattr(stages.Stage, "run", lambda self, config: run_upper(config))
    RUNS.clear()
    (tmp_path / "in.txt").write_text("hello")
    text = {
        "out": str(tmp_path / "run"),
        "stages": [
            {"name": "one", "stage": "upper", "inputs": {"text": str(tmp_path / "in.txt")}},
            {"name": "two", "stage": "upper", "inputs": {"text": "@one"}, "config": {"mark": "?"}},
            {"name": "three", "stage": "upper", "inputs": {"text": "@two/t"}},
        ],
    }
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(text))
    return path


def run(path, overrides=(), **options) -> list[bool]:
    return [ran for _, ran in run_pipeline(read_pipeline(path, list(overrides)), **options)]


def test_stages_run_in_order_and_are_skipped_when_nothing_changed(pipeline_file, tmp_path):
    assert run(pipeline_file) == [True, True, True]
    assert (tmp_path / "run" / "three" / "t").read_text() == "HELLO!?!"
    assert run(pipeline_file) == [False, False, False]


def test_what_a_run_left_that_was_killed_at_its_very_end_is_removed(pipeline_file, tmp_path):
    run(pipeline_file)
    lock, partial = (tmp_path / "run" / f".two.{end}" for end in ("lock", "partial-0123abcd"))
    lock.touch()
    partial.mkdir()
    assert run(pipeline_file) == [False, False, False]
    assert not lock.exists() and not partial.exists()


def test_a_changed_setting_redoes_what_depends_on_it(pipeline_file, tmp_path):
    run(pipeline_file)
    assert run(pipeline_file, ["two.mark=."]) == [False, True, True]
    assert (tmp_path / "run" / "three" / "t").read_text() == "HELLO!.!"


def test_a_changed_input_redoes_everything(pipeline_file, tmp_path):
    run(pipeline_file)
    (tmp_path / "in.txt").write_text("bye")
    assert run(pipeline_file) == [True, True, True]


def test_a_stage_that_gives_the_same_result_spares_the_ones_after_it(pipeline_file, tmp_path):
    run(pipeline_file)
    (tmp_path / "in.txt").write_text("HELLO")
    assert run(pipeline_file) == [True, False, False]


def test_other_code_redoes_the_stage(pipeline_file, monkeypatch):
    run(pipeline_file)
    monkeypatch.setattr("vocabalign.manifests.code_version", lambda stage: "new")
    assert run(pipeline_file) == [True, True, True]


def test_from_to_and_force(pipeline_file):
    assert run(pipeline_file, last="one") == [True]
    assert run(pipeline_file, first="two", last="two") == [True]
    assert run(pipeline_file) == [False, False, True]
    assert run(pipeline_file, force=True, first="three") == [True]
    with pytest.raises(ConfigError, match="no stage 'four'"):
        run(pipeline_file, first="four")
    with pytest.raises(ConfigError, match="nothing to run"):
        run(pipeline_file, first="three", last="one")


def test_a_failing_stage_keeps_the_ones_before_it(pipeline_file, tmp_path):
    (tmp_path / "in.txt").write_text("fail")
    with pytest.raises(ModelError):
        run(pipeline_file)
    assert (tmp_path / "run" / "one" / "t").exists() and not (tmp_path / "run" / "two").exists()


def test_the_run_folder_holds_the_pipeline_that_made_it(pipeline_file, tmp_path):
    run(pipeline_file, ["two.mark=;", "seed=7"])
    again = read_pipeline(tmp_path / "run" / "pipeline.resolved.yaml")
    assert again.seed == 7 and plan_stages(again)[1].config.mark == ";"
    assert run(tmp_path / "run" / "pipeline.resolved.yaml") == [False, False, False]
    assert read_manifest(tmp_path / "run" / "two")["seed"] == 7


def test_an_input_can_be_overridden_like_a_setting(pipeline_file, tmp_path):
    (tmp_path / "other.txt").write_text("other")
    run(pipeline_file, [f"one.text={tmp_path / 'other.txt'}"])
    assert (tmp_path / "run" / "one" / "t").read_text() == "OTHER!"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stages": []}, "lists no stages"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"stages": [{"name": "a", "stage": "nonsense"}]}, "known are corpus"),
        ({"stages": [{"name": "a", "stage": "upper", "inputs": {"text": "@b"}}]}, "reads '@b'"),
        ({"stages": [{"name": "a/b", "stage": "upper"}]}, "no name of letters"),
        ({"stages": [{"name": "a", "stage": "upper", "inputs": {"text": "x"}}] * 2}, "used twice"),
        ({"stages": [{"name": "a", "stage": "upper", "inputs": {"text": "x"}, "config": {"marc": 1}}]}, "'marc'"),
    ],
)
def test_a_wrong_pipeline_is_told_before_anything_runs(pipeline_file, tmp_path, change, said):
    values = {**yaml.safe_load(pipeline_file.read_text()), **change}
    pipeline_file.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=said):
        run(pipeline_file)
    assert not RUNS and not (tmp_path / "run").exists()


@pytest.mark.parametrize("override", ["four.mark=1", "two=1", "nonsense=1"])
def test_a_wrong_override_is_told(pipeline_file, override):
    with pytest.raises(ConfigError, match="override"):
        run(pipeline_file, [override])


def test_several_processes_are_refused_but_for_one_training_stage(pipeline_file, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="--from NAME --to NAME"):
        run(pipeline_file)


def test_an_input_that_nobody_makes_is_told_before_the_first_stage(pipeline_file, tmp_path):
    with pytest.raises(ArtifactError, match=r"'three' reads .*nothing.txt"):
        run(pipeline_file, [f"three.text={tmp_path / 'nothing.txt'}"])
    assert not RUNS and not (tmp_path / "run").exists()


def test_the_file_that_was_run_is_left_as_it_is(pipeline_file):
    before = pipeline_file.read_text()
    run(pipeline_file, ["two.mark=;"])
    assert pipeline_file.read_text() == before


def test_spelling_a_path_differently_redoes_nothing(pipeline_file, tmp_path, monkeypatch):
    run(pipeline_file)
    monkeypatch.chdir(tmp_path)
    assert run(pipeline_file, ["out=run", "one.text=in.txt"]) == [False, False, False]
