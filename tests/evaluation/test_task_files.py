"""Task files that are taken, and those that are refused."""

from __future__ import annotations

import pytest
import yaml

from vocabalign.errors import ConfigError
from vocabalign.evaluation.task_files import read_tasks

TASK = {"task": "a", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "a.jsonl"}}}


def write(folder, name="a.yaml", **changes):
    (folder / "a.jsonl").write_text("{}\n")
    (folder / name).write_text(yaml.safe_dump({**TASK, **changes}))


def test_data_is_found_beside_the_task(tmp_path):
    write(tmp_path)
    write(tmp_path, "b.yml", task="b", dataset_kwargs={"data_files": ["a.jsonl", "./a.jsonl"]})
    first, second = read_tasks(tmp_path)
    assert first["dataset_kwargs"]["data_files"] == {"test": str(tmp_path / "a.jsonl")}
    assert second["dataset_kwargs"]["data_files"] == [str(tmp_path / "a.jsonl")] * 2
    assert read_tasks(tmp_path / "a.yaml") == [first]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_path": "super_glue"}, "would be downloaded"),
        ({"dataset_kwargs": {}}, "does not name its questions"),
        ({"dataset_kwargs": {"data_files": "missing.jsonl"}}, "does not exist"),
        ({"task": None}, "expected a mapping with the key 'task'"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path, changes, message):
    write(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        read_tasks(tmp_path)


def test_code_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("task: a\ndoc_to_text: !function utils.text\n")
    with pytest.raises(ConfigError, match="run code and are refused"):
        read_tasks(tmp_path)


def test_folders_without_tasks_and_names_used_twice(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        read_tasks(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="holds no task"):
        read_tasks(tmp_path)
    write(tmp_path)
    write(tmp_path, "b.yaml")
    with pytest.raises(ConfigError, match="two files say 'task: a'"):
        read_tasks(tmp_path)
