"""Running it again: the settings on the page are those of the run, and the commands take them."""

from __future__ import annotations

import shlex
import subprocess

import yaml

from vocabalign.artifacts import stage_artifact
from vocabalign.cli import run
from vocabalign.report.again import again_section
from vocabalign.report.blocks import Code
from vocabalign.report.collect import collect_run
from vocabalign.stages import CorpusConfig


def test_the_commands_make_the_same_again(tmp_path, monkeypatch):
    (tmp_path / "it's text.txt").write_text("Once upon a time.\n" * 50)
    config = CorpusConfig(corpus=[str(tmp_path / "it's text.txt")], out=tmp_path / "run" / "the text")
    with stage_artifact("corpus", config) as writer:
        (writer.folder / "train.jsonl").write_text("{}")
    section = again_section(collect_run(tmp_path / "run"))
    (code,) = [block for block in section.blocks if isinstance(block, Code)]
    assert code.title == "the text: vocabalign corpus"
    monkeypatch.chdir(tmp_path)
    write, _, command = code.text.rpartition("\n")
    subprocess.run(["sh", "-c", write], check=True)
    assert yaml.safe_load((tmp_path / "the text.yaml").read_text()) == config.model_dump(mode="json")
    assert run([*shlex.split(command)[1:], "--dry-run"]) == 0
