"""Task files for lm-evaluation-harness whose questions are local; nothing is downloaded and no code is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vocabalign.errors import ConfigError

LOCAL_FORMATS = ("json", "csv", "parquet", "text")


def read_tasks(folder: Path) -> list[dict[str, Any]]:
    """Every task of a folder, in order of the files' names, with the paths of its data made absolute.

    Args:
        folder: of ``*.yaml`` files; or one such file.

    Raises:
        ConfigError: there is no task, or one that is not YAML, needs a download, runs code, or lacks its data.
    """
    if not folder.exists():
        raise ConfigError(f"{folder} does not exist: expected a folder of task files (*.yaml).")
    files = [folder] if folder.is_file() else sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    if not files:
        raise ConfigError(
            f"{folder} holds no task: expected files ending in .yaml, as lm-evaluation-harness reads them."
        )
    tasks = [_read_task(file) for file in files]
    names = [task["task"] for task in tasks]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"In {folder} two files say 'task: {twice}': every task needs a name of its own.")
    return tasks


def _read_task(file: Path) -> dict[str, Any]:
    try:
        task = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{file} is no task file: {reason} (tags such as !function run code and are refused)."
        ) from error
    if not isinstance(task, dict) or not isinstance(task.get("task"), str):
        raise ConfigError(f"{file} is no task file: expected a mapping with the key 'task' and its name.")
    if task.get("dataset_path") not in LOCAL_FORMATS:
        raise ConfigError(
            f"{file} takes its questions from '{task.get('dataset_path')}', which would be downloaded: save them in a "
            f"file, set 'dataset_path' to one of {', '.join(LOCAL_FORMATS)}, 'dataset_kwargs.data_files' to the file."
        )
    arguments = task.get("dataset_kwargs")
    if not isinstance(arguments, dict) or not arguments.get("data_files"):
        raise ConfigError(f"{file} does not name its questions: set 'dataset_kwargs: {{data_files: {{test: FILE}}}}'.")
    return {**task, "dataset_kwargs": {**arguments, "data_files": _absolute(arguments["data_files"], file)}}


def _absolute(files: Any, task_file: Path) -> Any:
    """Paths of data files, which are relative to the task file."""
    if isinstance(files, dict):
        return {split: _absolute(value, task_file) for split, value in files.items()}
    if isinstance(files, list):
        return [_absolute(value, task_file) for value in files]
    path = (task_file.absolute().parent / str(files)).resolve()
    if not path.is_file():
        raise ConfigError(f"{task_file} names the questions {files}, but {path} does not exist.")
    return str(path)
