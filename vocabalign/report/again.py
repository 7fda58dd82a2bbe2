"""The exact configuration of a run, and the commands that run it again."""

from __future__ import annotations

import shlex

import yaml

from vocabalign.report.blocks import Code, Paragraph, Section
from vocabalign.report.collect import PIPELINES, Artefact, Run


def again_section(run: Run) -> Section:
    """The pipeline where there is one, then each stage by itself, then the versions that it ran with."""
    section = Section("again", "Run it again")
    if run.pipeline_text is not None:
        name = next((name for name in PIPELINES if (run.folder / name).is_file()), PIPELINES[0])
        section.blocks.append(Paragraph("The whole run, from its pipeline file with everything that was set:"))
        section.blocks.append(Code(f"vocabalign run {shlex.quote(str(run.folder / name))}"))
        section.blocks.append(Code(run.pipeline_text, name))
        section.blocks.append(Paragraph("One stage alone, from its settings:"))
    else:
        section.blocks.append(Paragraph("Each stage, from its settings:"))
    section.blocks += [_stage(artefact) for artefact in run.artefacts]
    manifest = run.artefacts[-1].manifest
    versions = manifest.get("libraries") or {}
    if versions:
        text = ", ".join(f"{name} {version}" for name, version in versions.items())
        section.blocks.append(Paragraph(f"Python {manifest.get('python', '?')}, {text}."))
    return section


def _stage(artefact: Artefact) -> Code:
    """A command that can be pasted into a shell: it writes the settings to a file and runs the stage with it."""
    command = artefact.stage.replace("tokenizer-", "tokenizer ")
    file = shlex.quote(f"{artefact.name}.yaml")
    settings = yaml.safe_dump(artefact.config, sort_keys=False, allow_unicode=True)
    text = f"cat > {file} <<'END'\n{settings}END\nvocabalign {command} --config {file}"
    return Code(text, f"{artefact.name}: vocabalign {command}")
