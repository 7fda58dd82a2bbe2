"""Three sentences that say what a run was: the change, the training, the result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vocabalign.report.collect import Artefact, Run


def summary(run: Run) -> list[str]:
    """At most one sentence each for the vocabulary, the training and the scores."""
    return [sentence for sentence in (_vocabulary(run), _training(run), _scores(run)) if sentence]


def short_name(reference: object) -> str:
    """The last part of a path; ``demo:source`` as it is."""
    text = str(reference)
    return text if text.startswith("demo:") else Path(text).name or text


def _of_stage(run: Run, stage: str) -> list[Artefact]:
    return [artefact for artefact in run.artefacts if artefact.stage == stage]


def _vocabulary(run: Run) -> str:
    for artefact in _of_stage(run, "transplant") + _of_stage(run, "align"):
        source, target = (short_name(artefact.config.get(key, "?")) for key in ("source", "target"))
        verb = "was given the vocabulary of" if artefact.stage == "transplant" else "was aligned with the vocabulary of"
        subject = "The model" if artefact.stage == "transplant" else "The vocabulary of"
        share = _identical_share(run)
        tail = f"; {share:.1%} of its tokens have a twin with the same bytes" if share is not None else ""
        return f"{subject} {source} {verb} {target}{tail}."
    return ""


def _identical_share(run: Run) -> float | None:
    for counts in run.evidence.values():
        total = sum(counts.values())
        if "identical" in counts and total:
            return counts["identical"] / total
    return None


def _training(run: Run) -> str:
    """``finetuned was fine-tuned from transplanted in 300 steps; …``."""
    parts = []
    for artefact in run.artefacts:
        steps = (artefact.config.get("training") or {}).get("steps")
        tail = f" in {steps:,} steps" if isinstance(steps, int) else ""
        if artefact.stage == "finetune":
            parts.append(f"{artefact.name} was fine-tuned from {short_name(artefact.config.get('model', '?'))}{tail}")
        elif artefact.stage == "distill":
            student = short_name(artefact.config.get("student", "?"))
            named = artefact.config.get("teacher") or artefact.config.get("cache") or "?"
            teacher = " and ".join(map(short_name, named if isinstance(named, list) else [named]))
            if artefact.config.get("distillation_weight") == 0:
                parts.append(f"{artefact.name} was trained directly from {student}{tail}")
            else:
                parts.append(f"{artefact.name} was distilled from {teacher} into {student}{tail}")
    return f"In training, {'; '.join(parts)}." if parts else ""


def _scores(run: Run) -> str:
    """The model that the run ends with beside the first one; all of them where it trained none."""
    if not run.metrics:
        return ""
    metrics = list(run.metrics.values())[-1]
    rows: Sequence[dict[str, Any]] = [row for row in metrics["models"] if row.get("bits_per_byte")]
    if not rows:
        return ""
    size = (metrics.get("corpus") or {}).get("bytes")
    text = f"{size / 1000:,.0f} kB of held-out text" if size else "held-out text"
    first, last = rows[0], _last_trained(run, rows)
    if last is None or last is first:
        listed = ", ".join(f"{row['name']} {row['bits_per_byte']:.4f}" for row in rows)
        return f"Bits per byte on {text} (less is better): {listed}."
    score, reference = last["bits_per_byte"], first["bits_per_byte"]
    sentence = (
        f"On {text}, {last['name']} takes {score:.4f} bits per byte and {first['name']} {reference:.4f} "
        f"({_change(score, reference, 'less')}; less is better)"
    )
    tokens, before = last.get("tokens_per_kilobyte"), first.get("tokens_per_kilobyte")
    if not tokens or not before:
        return f"{sentence}."
    return f"{sentence}, with {_change(tokens, before, 'fewer')} tokens for the same text."


def _last_trained(run: Run, rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The row of the last model that was trained, or else transplanted; a control is not what a run is for."""
    by_name = {row["name"]: row for row in rows}
    made = [*_of_stage(run, "transplant"), *(a for a in run.artefacts if a.stage in ("finetune", "distill"))]
    # Neither a control nor the first model trained on for comparison is what a run is for.
    names = [
        artefact.name
        for artefact in made
        if artefact.config.get("distillation_weight") != 0 and artefact.config.get("model") != rows[0].get("path")
    ]
    return next((by_name[name] for name in reversed(names) if name in by_name), None)


def _change(value: float, reference: float, less: str) -> str:
    difference = value / reference - 1
    return f"{abs(difference):.1%} {less if difference < 0 else 'more'}"
