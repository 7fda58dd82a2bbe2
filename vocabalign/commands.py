"""What the commands do between the command line and the stages: settings in, results out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import click

from vocabalign.config import StageConfig, make_config, merge, parse_overrides, read_yaml
from vocabalign.console import as_text, is_main_process, model_table, show, show_plan, start_logging
from vocabalign.errors import ArtifactError, ConfigError, HubError, VerificationError
from vocabalign.fingerprints import MANIFEST
from vocabalign.folders import make_folder
from vocabalign.manifests import read_manifest
from vocabalign.models import resolve
from vocabalign.progress import logger
from vocabalign.shipped import find_shipped, shipped_files
from vocabalign.stages import STAGES, EvaluateConfig

FLAGS_OF_COMMANDS = ("config_file", "overrides", "as_json", "dry_run", "values", "push_to_hub")


def run_stage_command(
    stage: str, options: dict[str, Any], describe: Callable[[dict[str, Any]], str] | None = None
) -> None:
    """One stage: from flags, ``--config`` and ``-o`` to its artefact."""
    start_logging()
    config = stage_config(stage, options)
    if options["dry_run"]:
        show_plan([(stage, config)], options["as_json"])
        return
    repository = options.get("push_to_hub")
    refuse_repository(repository)
    out = STAGES[stage].run(config)
    if not is_main_process():
        return
    manifest = read_manifest(out)
    result = {key: manifest[key] for key in ("stage", "seconds", "peak_memory_bytes", "metrics")}
    result |= pushed(out, repository)
    text = f"{out} written in {manifest['seconds']:.0f} s"
    if describe is not None:
        text = f"{describe(manifest['metrics'])}\n\n{text}"
    show({"out": str(out), **result}, options["as_json"], text)


def refuse_repository(repository: str | None) -> None:
    """A model that cannot be pushed is told before it is made."""
    if repository and is_main_process():
        from vocabalign.hub import check_repository

        check_repository(repository)


def pushed(folder: Path, repository: str | None) -> dict[str, str]:
    """Push a model where that was asked for, and say where to; what fails leaves the model whole, and says so."""
    if not repository:
        return {}
    from vocabalign.hub import push_model

    try:
        return {"pushed_to": push_model(folder, repository)}
    except HubError as error:
        raise HubError(
            f"{folder} is whole, but was not pushed; 'vocabalign verify {folder} --push-to-hub {repository}' tries "
            f"again. {error}"
        ) from error


def stage_config(stage: str, options: dict[str, Any]) -> StageConfig:
    """The configuration of a stage: the file's values, then flags, then overrides.

    Raises:
        ConfigError: a value is missing or wrong.
    """
    config_class = STAGES[stage].config_class
    values = read_yaml(options["config_file"]) if options.get("config_file") else options.get("values", {})
    given = {key: value for key, value in options.items() if key not in FLAGS_OF_COMMANDS and value not in (None, ())}
    if "steps" in given:
        values = merge(values, {"training": {"steps": given.pop("steps")}})
    listed = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
    values = merge(merge(values, listed), parse_overrides(options.get("overrides", ())))
    return make_config(config_class, values, options.get("config_file") or f"the settings of '{stage}'")


def run_evaluate(models: tuple[str, ...], options: dict[str, Any]) -> None:
    """Score models; with ``--out`` as an artefact, else only printed."""
    start_logging()
    in_file = read_yaml(options["config_file"]) if options["config_file"] else {}
    if models:
        in_file["models"] = name_models(models)
    elif not in_file.get("models"):
        raise ConfigError("There are no models to evaluate: name at least one folder.")
    options = {**options, "config_file": None, "values": in_file}
    out = options["out"] or in_file.get("out")
    if out or options["dry_run"]:
        config = stage_config("evaluate", {**options, "out": out or "(standard output)"})
        if options["dry_run"]:
            show_plan([("evaluate", config)], options["as_json"])
            return
        metrics = json.loads((STAGES["evaluate"].run(config) / "metrics.json").read_text(encoding="utf-8"))
    else:
        from vocabalign.evaluation.evaluate_stage import measure_configured

        config = stage_config("evaluate", {**options, "out": "."})
        metrics = measure_configured(cast(EvaluateConfig, config)).metrics
    show(metrics, options["as_json"], "" if options["as_json"] else model_table(metrics))


def run_verify(folder: str, full: bool | None, repository: str | None, as_json: bool) -> None:
    """Verify a model folder, and push it when it is sound; raises with exit code 1 when a check fails."""
    start_logging()
    refuse_repository(repository)
    from vocabalign.transplantation.verify import verify_model

    try:
        result = verify_model(folder, full=full)
    except VerificationError as error:
        if not as_json:
            raise
        show({"folder": folder, "ok": False, "error": str(error)}, as_json, "")
        raise click.exceptions.Exit(1) from error
    lines = [f"{'ok  ' if check['ok'] else 'FAIL'} {check['name']}: {check['detail']}" for check in result["checks"]]
    show({**result, "ok": True, **pushed(resolve(folder), repository)}, as_json, "\n".join(lines))


def run_inspect(a: str, b: str | None, corpus: tuple[str, ...], html: str | None, options: dict[str, Any]) -> None:
    """Describe one tokenizer, or two and what they share; on a page too where one is wanted."""
    start_logging()
    from vocabalign.report.inspect_page import render_inspection
    from vocabalign.report.inspect_terminal import format_inspection
    from vocabalign.report.page_files import refuse_page, write_page
    from vocabalign.text.inspection import inspect_vocabularies
    from vocabalign.text.tokenizers import load_vocabulary

    if html:
        refuse_page(Path(html), bool(options["overwrite"]))
    result = inspect_vocabularies(load_vocabulary(a), load_vocabulary(b) if b else None, list(corpus))
    if html:
        write_page(Path(html), render_inspection(result))
        logger.info("%s written", html)
    show(result, options["as_json"], "" if options["as_json"] else as_text(*format_inspection(result)))


def run_distill_inspect(student: str, teacher: str, corpus: list[str], as_json: bool) -> None:
    """``vocabalign distill inspect``."""
    start_logging()
    from vocabalign.train.distill_inspect import format_inspection, inspect_pair

    result = inspect_pair(student, teacher, corpus)
    show(result, as_json, "" if as_json else as_text(*format_inspection(result)))


def run_pipeline_file(path: str, options: dict[str, Any]) -> None:
    """``vocabalign run``."""
    from vocabalign.pipeline import read_pipeline

    start_logging()
    flags = {key: options[key] for key in ("seed", "device", "dtype", "out")}
    pipeline = read_pipeline(find_shipped(path), list(options["overrides"]), **flags)
    run_and_show(pipeline, options)


def run_and_show(pipeline: Any, options: dict[str, Any]) -> None:
    """Run a pipeline and show where its artefacts are, and its table of models."""
    from vocabalign.pipeline import plan_stages, run_pipeline

    if options["dry_run"]:
        show_plan([(stage.stage, stage.config) for stage in plan_stages(pipeline)], options["as_json"])
        return
    stages: list[dict[str, Any]] = []
    steps = {"first": options.get("first"), "last": options.get("last"), "force": options.get("force", False)}
    metrics: dict[str, Any] = {}
    for planned, ran in run_pipeline(pipeline, **steps):
        if not is_main_process():
            continue
        manifest = read_manifest(planned.config.out)
        row = {key: manifest[key] for key in ("stage", "seconds", "peak_memory_bytes")}
        stages.append({"name": planned.name, "out": str(planned.config.out), "ran": ran, **row})
        if planned.stage == "evaluate":
            metrics = json.loads((planned.config.out / "metrics.json").read_text(encoding="utf-8"))
    if not is_main_process():
        return
    table = model_table(metrics) if metrics and not options["as_json"] else ""
    lines = [f"{row['name']:<18} {row['seconds']:7.1f} s {row['peak_memory_bytes'] / 2**20:7.0f} MiB" for row in stages]
    report = [f"{row['out']}/report.html" for row in stages if row["stage"] == "report"]
    show(
        {"out": str(pipeline.out), "stages": stages, **metrics}, options["as_json"], "\n".join([*lines, table, *report])
    )


def run_adapt(options: dict[str, Any]) -> None:
    """``vocabalign adapt``: write DIR/pipeline.yaml and run it."""
    from vocabalign.adapt import adaptation_pipeline

    start_logging()
    if options["config_file"]:
        known = (
            "source",
            "target",
            "teacher",
            "corpus",
            "heldout",
            "steps",
            "map_tokens",
            "out",
            "seed",
            "device",
            "dtype",
        )
        in_file = read_yaml(options["config_file"])
        unknown = [key for key in in_file if key not in known]
        if unknown:
            names = ", ".join(known)
            raise ConfigError(f"In {options['config_file']}: unknown key '{unknown[0]}' (known keys: {names}).")
        options |= {key: value for key, value in in_file.items() if options[key] in (None, ())}
    pipeline = adaptation_pipeline(options)
    repository = None if options["dry_run"] else options.get("push_to_hub")
    refuse_repository(repository)
    run_and_show(pipeline, options)
    if is_main_process():
        pushed(pipeline.out / ("distilled" if options.get("teacher") else "finetuned"), repository)


def run_report(run: str | None, options: dict[str, Any]) -> None:
    """``vocabalign report``: into the run's own folder by default, where an older report is replaced."""
    in_file = read_yaml(options["config_file"]) if options["config_file"] else {}
    run = run or in_file.get("run")
    if not run:
        raise ConfigError("'report' needs the folder of a run: vocabalign report RUN.")
    out = options["out"] or in_file.get("out")
    if not out:
        out = str(Path(run) / "report")
        if (Path(out) / MANIFEST).is_file() and read_manifest(out).get("stage") == "report":
            options["overwrite"] = True
    run_stage_command("report", {**options, "run": run, "out": out})


def run_compare(options: dict[str, Any]) -> None:
    """``vocabalign compare``."""
    from vocabalign.compare import compare_rows, format_comparison

    start_logging()
    given = {key: value for key, value in options.items() if key != "as_json" and value is not None}
    result = compare_rows(**given)
    if options["out"]:
        logger.info("%s written", Path(options["out"]) / "comparison.html")
    show(result, options["as_json"], format_comparison(result))


def name_models(folders: tuple[str, ...]) -> dict[str, str]:
    """Short names for model folders: the last part of the path, longer where two would be equal."""
    named: dict[str, str] = {}
    for folder in dict.fromkeys(str(folder).rstrip("/") for folder in folders):
        parts = Path(folder.removeprefix("demo:")).absolute().parts
        names = ("/".join(parts[-length:]) for length in range(1, len(parts) + 1))
        named[next((name for name in names if name not in named), folder)] = folder
    return named


def run_init(name: str | None, out: str | None, overwrite: bool, as_json: bool) -> None:
    """Copy a shipped YAML file; without a name, list them."""
    names = [path.stem for path in shipped_files()]
    if name is None:
        show({"shipped": names}, as_json, "\n".join(names))
        return
    matches = [path for path in shipped_files() if path.stem == name]
    if not matches:
        raise ConfigError(f"There is no shipped file '{name}'; there are {', '.join(names)}.")
    target = Path(out or f"{name}.yaml")
    if target.exists() and not overwrite:
        raise ArtifactError(f"{target} exists already: choose another --out, or say --overwrite to replace it.")
    make_folder(target.absolute().parent)
    shutil.copyfile(matches[0], target)
    show({"out": str(target)}, as_json, str(target))
