"""Experiment trackers that a user names: what goes into ``metrics.jsonl`` goes to them too, through accelerate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vocabalign.errors import ConfigError


class Trackers:
    """Trackers such as TensorBoard or Weights & Biases; none where no name is given.

    Args:
        names: as accelerate knows them (tensorboard, wandb, trackio, mlflow, comet_ml, aim, clearml, swanlab …).
        folder: for those that write files.
        run_name: what the run is called there.
        settings: written down with the run.

    Raises:
        ConfigError: a tracker is unknown or not installed.
    """

    def __init__(self, names: Sequence[str], folder: Path, run_name: str, settings: Mapping[str, Any]) -> None:
        self.trackers: list[Any] = []
        if not names:
            return
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

        PartialState()  # accelerate's trackers ask it which process they are in
        available = {str(name) for name in get_available_trackers()}
        for name in names:
            if name not in LOGGER_TYPE_TO_CLASS:
                known = ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
                raise ConfigError(f"The tracker '{name}' in trainer.report_to is unknown: expected one of {known}.")
            if name not in available:
                raise ConfigError(
                    f"The tracker '{name}' in trainer.report_to is not installed: install it (pip install "
                    f"{name.replace('_', '-')}), or leave it out."
                )
        for name in names:
            tracker_class = LOGGER_TYPE_TO_CLASS[name]
            place = {"logging_dir": str(folder)} if tracker_class.requires_logging_directory else {}
            tracker = tracker_class(run_name, **place)
            tracker.start() if hasattr(tracker, "start") else None
            tracker.store_init_configuration(_flat(settings))
            self.trackers.append(tracker)

    def log(self, line: Mapping[str, Any]) -> None:
        """Send the numbers of a line of ``metrics.jsonl``; nested ones as ``domains/news``."""
        numbers = {
            key: value for key, value in _flat(line).items() if isinstance(value, (int, float)) and key != "step"
        }
        for tracker in self.trackers:
            tracker.log(numbers, step=int(line["step"]))

    def close(self) -> None:
        """Let the trackers write what they have."""
        for tracker in self.trackers:
            tracker.finish()
        self.trackers = []


def tracker_names(report_to: object) -> list[str]:
    """``trainer.report_to`` as a list of names: a name, several, ``none`` or ``all`` that are installed.

    Raises:
        ConfigError: it is something else.
    """
    names = [report_to] if isinstance(report_to, str) else report_to
    if names is None or names in ([], ["none"]):
        return []
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"trainer.report_to is {report_to!r}: expected the name of a tracker, or a list of names.")
    if list(names) == ["all"]:
        from accelerate.tracking import get_available_trackers

        return [str(name) for name in get_available_trackers()]
    return list(names)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result.update(_flat(value, f"{prefix}{key}/"))
        else:
            result[prefix + key] = value if isinstance(value, (int, float, str, bool)) else str(value)
    return result
