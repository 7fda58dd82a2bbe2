"""Vocabulary adaptation, the whole way: the pipeline that ``vocabalign adapt`` writes and runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vocabalign.errors import ArtifactError, ConfigError, ModelError
from vocabalign.folders import make_folder
from vocabalign.manifests import write_json
from vocabalign.models import read_model_config, resolve
from vocabalign.pipeline import PipelineConfig, plan_stages, read_pipeline
from vocabalign.stages import TrainingOptions

CURVE_POINTS = 8
HEADER = """\
# Written by `vocabalign adapt`. Change what you like and run it again with
#   vocabalign run {path}
# A stage runs only when its inputs, its settings or the code have changed.
"""


def adaptation_pipeline(options: dict[str, Any]) -> PipelineConfig:
    """Write ``<out>/pipeline.yaml`` for these flags and read it back.

    Args:
        options: source, target, corpus, out and, where given, teacher, heldout, steps, map_tokens, seed, device,
            dtype, overrides (``NAME.key=value``), overwrite, dry_run.

    Raises:
        ConfigError: a flag is missing.
        ModelError: source, target or teacher is not what it should be.
        ArtifactError: ``out`` holds something else.
    """
    missing = [name for name in ("source", "target", "corpus", "out") if not options.get(name)]
    if missing:
        raise ConfigError(f"'adapt' needs --{missing[0]}: see vocabalign adapt --help.")
    if isinstance(options["corpus"], str):
        options = {**options, "corpus": [options["corpus"]]}
    for name in ("source", "teacher"):
        if options.get(name):
            read_model_config(resolve(options[name]))
    resolve(options["target"])
    out = Path(options["out"])
    path = out / "pipeline.yaml"
    ours = path.is_file() and path.read_text(encoding="utf-8").startswith(HEADER.splitlines()[0])
    if out.exists() and not ours and (out.is_file() or any(out.iterdir())):
        raise ArtifactError(f"{out} exists and holds no run of vocabalign: choose another --out.")
    values = adaptation_stages(options)
    checked = _read_values(values, options)
    plan_stages(checked)  # a wrong setting is told before anything is written
    if options.get("dry_run"):
        return checked
    if options.get("teacher"):
        _check_teacher(options["target"], options["teacher"])
    make_folder(out)
    resolved = checked.model_dump(mode="json", exclude_defaults=True)
    text = HEADER.format(path=path) + yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)
    if ours and path.read_text(encoding="utf-8") != text and not options.get("overwrite"):
        raise ArtifactError(
            f"{path} differs from what these flags say: run it as it is with 'vocabalign run {path}', or say "
            "--overwrite to write it anew (what is up to date is kept)."
        )
    path.write_text(text, encoding="utf-8")
    return read_pipeline(path)


def _check_teacher(target: str, teacher: str) -> None:
    """Distillation token by token needs the vocabulary that the student will have.

    Raises:
        ModelError: the teacher has another one.
    """
    from vocabalign.text.tokenizers import load_vocabulary

    if load_vocabulary(target).token_bytes != load_vocabulary(teacher).token_bytes:
        raise ModelError(
            f"The teacher {teacher} does not have the vocabulary of {target}: give the model that owns the target "
            "vocabulary, or leave --teacher away."
        )


def _flags(options: dict[str, Any]) -> dict[str, Any]:
    return {key: options.get(key) for key in ("seed", "device", "dtype")}


def _read_values(values: dict[str, Any], options: dict[str, Any]) -> PipelineConfig:
    """The same through a temporary file, before anything is written to ``out``."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        write_json(path, values)  # JSON is YAML
        return read_pipeline(path, list(options.get("overrides", ())), **_flags(options))


def adaptation_stages(options: dict[str, Any]) -> dict[str, Any]:
    """The pipeline as plain values, in the order: text, lexicon, transplant, train, score, report."""
    source, target, corpus = str(options["source"]), str(options["target"]), [str(path) for path in options["corpus"]]
    heldout = [str(path) for path in options.get("heldout") or ()]
    stages: list[dict[str, Any]] = []
    if not heldout:
        stages.append({"name": "text", "stage": "corpus", "inputs": {"corpus": corpus}})
        corpus, heldout = ["@text/train.jsonl"], ["@text/heldout.jsonl"]
    steps = options.get("steps") or TrainingOptions().steps
    # The page draws a curve of these scores.
    training = {"training": {"steps": steps, "evaluate_every": max(1, steps // CURVE_POINTS)}}
    stages += [
        {"name": "lexicon", "stage": "align", "inputs": {"source": source, "target": target, "corpus": corpus}},
        {
            "name": "transplanted",
            "stage": "transplant",
            "inputs": {"source": source, "target": target, "lexicon": "@lexicon", "corpus": corpus},
            "config": {"map_tokens": options["map_tokens"]} if options.get("map_tokens") else {},
        },
        {
            "name": "finetuned",
            "stage": "finetune",
            "inputs": {"model": "@transplanted", "corpus": corpus, "heldout": heldout},
            "config": training,
        },
    ]
    models = {"source": source, "transplanted": "@transplanted", "finetuned": "@finetuned"}
    if options.get("teacher"):
        teacher = str(options["teacher"])
        inputs = {"student": "@finetuned", "teacher": teacher, "corpus": corpus, "heldout": heldout}
        stages.append({"name": "distilled", "stage": "distill", "inputs": inputs, "config": training})
        models |= {"distilled": "@distilled", "teacher": teacher}
    stages += [
        {"name": "metrics", "stage": "evaluate", "inputs": {"models": models, "corpus": heldout}},
        {"name": "report", "stage": "report"},
    ]
    return {
        "description": f"{source} with the vocabulary of {target}.",
        "out": str(options["out"]),
        "stages": [{"inputs": {}, "config": {}, **stage} for stage in stages],
    }
