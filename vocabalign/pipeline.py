"""Pipeline files: a list of stages with their inputs, run in order, each only when something changed.

A stage's artefact is ``<out>/<name>``. An input is a path, ``demo:source`` / ``demo:teacher``, or
``@name`` (``@name/file``) for the artefact of an earlier stage. A stage is skipped when its
artefact was made from the same inputs, configuration and code; so a run that was interrupted goes
on where it stopped, and a changed line redoes what depends on it.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vocabalign.config import Config, Device, Dtype, StageConfig, make_config, merge, parse_overrides, read_yaml
from vocabalign.corpus_references import is_hub, split_weight
from vocabalign.errors import ArtifactError, ConfigError
from vocabalign.folders import discard, make_folder, only_one, remove_left_overs, work_folder
from vocabalign.manifests import is_up_to_date, run_identity, stage_inputs
from vocabalign.progress import logger
from vocabalign.stages import STAGES

Input = str | list[str] | dict[str, str]
RESOLVED = "pipeline.resolved.yaml"


class StageEntry(Config):
    """One stage of a pipeline."""

    name: str
    """Name of its artefact, and of the stage in ``@name``, ``--from`` and overrides."""
    stage: str
    """What it does: the name of a stage, such as corpus, tokenizer-train, align, transplant, finetune or report."""
    inputs: dict[str, Input] = {}
    """Field -> path, demo model or ``@earlier-stage``."""
    config: dict[str, Any] = {}
    """The stage's own configuration."""


class PipelineConfig(Config):
    """A pipeline file."""

    description: str = ""
    """One sentence for the report."""
    out: Path
    """Folder of the run."""
    seed: int = 0
    """Seed of every stage that does not set its own."""
    device: Device = "auto"
    """Device of every stage that does not set its own."""
    dtype: Dtype = "auto"
    """Arithmetic of every stage that does not set its own."""
    stages: list[StageEntry]
    """In the order in which they run."""


@dataclass(frozen=True)
class PlannedStage:
    """A stage with everything resolved."""

    name: str
    stage: str
    config: StageConfig


def read_pipeline(path: Path | str, overrides: list[str] | None = None, **flags: Any) -> PipelineConfig:
    """Read a pipeline file and lay overrides over it.

    Args:
        path: the YAML file.
        overrides: ``key=value`` for the pipeline itself (``out``, ``seed`` …), ``NAME.key=value`` for
            an input or a configuration key of the stage NAME.
        flags: values of command-line flags; ``None`` where not given.

    Raises:
        ConfigError: the file, a key or an override cannot be used.
    """
    values = read_yaml(path)
    pipeline = make_config(PipelineConfig, {"out": "run", **values}, str(path))
    names = [entry.name for entry in pipeline.stages]
    if not names:
        raise ConfigError(f"{path} lists no stages.")
    changes = parse_overrides(overrides or [])
    entries = []
    for entry in pipeline.stages:
        if entry.stage not in STAGES:
            known = ", ".join(STAGES)
            raise ConfigError(f"In {path}: the stage '{entry.name}' is a '{entry.stage}'; known are {known}.")
        if names.count(entry.name) > 1 or not entry.name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"In {path}: '{entry.name}' is used twice or is no name of letters, digits, - and _.")
        entries.append(_changed(entry, changes.pop(entry.name, {})))
    unknown = [key for key in changes if key not in PipelineConfig.model_fields or key == "stages"]
    if unknown:
        raise ConfigError(f"The override '{unknown[0]}' names neither a stage ({', '.join(names)}) nor a pipeline key.")
    given = {key: value for key, value in flags.items() if value is not None}
    return make_config(PipelineConfig, {**pipeline.model_dump(), **changes, **given, "stages": entries}, str(path))


def _changed(entry: StageEntry, changes: Any) -> dict[str, Any]:
    if not isinstance(changes, Mapping):
        raise ConfigError(f"The override '{entry.name}={changes}' names a stage: say '{entry.name}.key=value'.")
    fields = STAGES[entry.stage].inputs
    inputs = merge(entry.inputs, {key: value for key, value in changes.items() if key in fields})
    config = {key: value for key, value in changes.items() if key not in fields}
    inputs = {key: value for key, value in inputs.items() if value is not None}  # NAME.lexicon=null takes it away
    return {**entry.model_dump(), "inputs": inputs, "config": merge(entry.config, config)}


def plan_stages(pipeline: PipelineConfig) -> list[PlannedStage]:
    """Resolve every stage's configuration; nothing is read yet.

    Raises:
        ConfigError: an unknown key, or an input that names no earlier stage.
    """
    planned: list[PlannedStage] = []
    for entry in pipeline.stages:
        earlier = [stage.name for stage in planned]
        inputs = {key: _resolved(value, entry, earlier, pipeline.out) for key, value in entry.inputs.items()}
        shared = {"seed": pipeline.seed, "device": pipeline.device, "dtype": pipeline.dtype}
        values = {**shared, **entry.config, **inputs, "out": pipeline.out / entry.name, "overwrite": True}
        if entry.stage == "report":
            values.setdefault("run", pipeline.out)
        config = make_config(STAGES[entry.stage].config_class, values, f"the stage '{entry.name}'")
        planned.append(PlannedStage(entry.name, entry.stage, config))
    return planned


def _resolved(value: Input, entry: StageEntry, earlier: list[str], out: Path) -> Input:
    if isinstance(value, list):
        return [str(_resolved(item, entry, earlier, out)) for item in value]
    if isinstance(value, dict):
        return {key: str(_resolved(item, entry, earlier, out)) for key, item in value.items()}
    if not value.startswith("@"):
        return value
    name, _, rest = value[1:].partition("/")
    if name not in earlier:
        known = ", ".join(f"@{stage}" for stage in earlier) or "none"
        raise ConfigError(f"The stage '{entry.name}' reads '{value}', but the stages before it are: {known}.")
    return str(out / name / rest) if rest else str(out / name)


def run_pipeline(
    pipeline: PipelineConfig,
    *,
    first: str | None = None,
    last: str | None = None,
    force: bool = False,
) -> Iterator[tuple[PlannedStage, bool]]:
    """Run the stages; yields each with whether it really ran (False: it was up to date).

    Args:
        pipeline: from ``read_pipeline``.
        first: take the artefacts of the stages before this one as they are.
        last: stop after this stage.
        force: run stages even where nothing changed.

    Raises:
        ConfigError: ``first`` or ``last`` names no stage.
        VocabAlignError: whatever a stage raises; the artefacts of the stages before it stay.
    """
    planned = plan_stages(pipeline)
    names = [stage.name for stage in planned]
    for name in (first, last):
        if name is not None and name not in names:
            raise ConfigError(f"There is no stage '{name}' in this pipeline; its stages are {', '.join(names)}.")
    begin = names.index(first) if first else 0
    end = names.index(last) + 1 if last else len(names)
    if end <= begin:
        raise ConfigError(f"--from {first} comes after --to {last}: nothing to run.")
    _refuse_several_processes(planned[begin:end])
    _check_inputs(planned[begin:end], pipeline.out)
    make_folder(pipeline.out)
    write_pipeline(pipeline, pipeline.out / RESOLVED)
    for number, planned_stage in enumerate(planned[begin:end], begin + 1):
        config = planned_stage.config
        label = f"[{number}/{len(planned)}] {planned_stage.name}"
        inputs = stage_inputs(planned_stage.stage, config)
        identity = run_identity(planned_stage.stage, config.model_dump(mode="json"), inputs)
        if not force and is_up_to_date(config.out, identity):
            logger.info("%s: up to date, skipped", label)
            with only_one(config.out.absolute()):  # a run that was killed at its very end leaves its lock too
                remove_left_overs(config.out.absolute())
                discard(work_folder(config.out.absolute()))
            yield planned_stage, False
            continue
        logger.info("%s: %s", label, planned_stage.stage)
        if force:
            discard(work_folder(config.out.absolute()))
        STAGES[planned_stage.stage].run(config)
        yield planned_stage, True


def _check_inputs(planned: list[PlannedStage], out: Path) -> None:
    """Whatever no stage of this run makes must be there before the first one starts.

    Raises:
        ArtifactError: a path that does not exist.
    """
    for stage in planned:
        for name, paths in stage_inputs(stage.stage, stage.config).items():
            for path in (split_weight(path)[0] for path in paths):
                made_here = is_hub(path) or Path(path).is_relative_to(out)
                if not made_here and not Path(path).exists() and not glob.glob(path, recursive=True):
                    raise ArtifactError(f"The stage '{stage.name}' reads {path} ({name}), which does not exist.")


def _refuse_several_processes(planned: list[PlannedStage]) -> None:
    """Only a training stage runs as several processes, one stage at a launch."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and not (len(planned) == 1 and planned[0].stage in ("finetune", "distill")):
        raise ConfigError(
            "Several processes run this pipeline at once, but only training uses more than one: run the other stages "
            "as one process, and launch each training stage by itself with --from NAME --to NAME."
        )


def write_pipeline(pipeline: PipelineConfig, path: Path) -> None:
    """Write a pipeline as a file that ``vocabalign run`` reads; an equal file is left alone."""
    values = pipeline.model_dump(mode="json", exclude_defaults=True)
    text = "# Run again with: vocabalign run THIS_FILE\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    if os.environ.get("RANK", "0") != "0":
        return
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
