"""Killed at any moment, the same command finishes the run with the same result as an undisturbed one.

The quick test kills once in each stage; the slow one five times. The moments are random; their seed
is printed and can be set with VOCABALIGN_KILL_SEED.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import make_byte_level_tokenizer, make_llama, make_metaspace_tokenizer
from vocabalign.manifests import read_manifest

TRAINING = {"steps": 30, "batch_size": 2, "context": 32, "checkpoint_every": 4}


@pytest.fixture(scope="module")
def pipeline_file(tmp_path_factory, corpus_file) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    make_llama(make_byte_level_tokenizer(folder / "source"), 400)
    make_llama(make_metaspace_tokenizer(folder / "teacher"), 480, seed=1)
    source, teacher, text = str(folder / "source"), str(folder / "teacher"), [str(corpus_file)]
    stages = [
        {"name": "text", "stage": "corpus", "inputs": {"corpus": text}},
        {
            "name": "lexicon",
            "stage": "align",
            "inputs": {"source": source, "target": teacher, "corpus": ["@text/train.jsonl"]},
            "config": {"embeddings": {"dimensions": 16, "epochs": 20}},
        },
        {
            "name": "transplanted",
            "stage": "transplant",
            "inputs": {"source": source, "target": teacher, "lexicon": "@lexicon", "corpus": ["@text/train.jsonl"]},
        },
        {
            "name": "finetuned",
            "stage": "finetune",
            "inputs": {"model": "@transplanted", "corpus": ["@text/train.jsonl"]},
            "config": {"training": TRAINING},
        },
        {
            "name": "distilled",
            "stage": "distill",
            "inputs": {"student": "@finetuned", "teacher": teacher, "corpus": ["@text/train.jsonl"]},
            "config": {"training": TRAINING},
        },
        {
            "name": "metrics",
            "stage": "evaluate",
            "inputs": {"models": {"source": source, "distilled": "@distilled"}, "corpus": ["@text/heldout.jsonl"]},
        },
        {"name": "report", "stage": "report"},
    ]
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump({"device": "cpu", "stages": stages}))
    return path


# Runs the command; in one stage a timer kills the process at a given moment after the stage began to write.
DRIVER = """
import os, signal, sys, threading
from vocabalign import artifacts
from vocabalign.cli import run

stage, delay = sys.argv[1], float(sys.argv[2])
begin = artifacts.ArtifactWriter.__init__

def begin_and_wait(self, out, identity):
    begin(self, out, identity)
    if out.name == stage:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

artifacts.ArtifactWriter.__init__ = begin_and_wait
sys.exit(run(sys.argv[3:]))
"""


def run_command(pipeline: Path, out: Path, *driver: str) -> subprocess.CompletedProcess[str]:
    program = ["-c", DRIVER, *driver] if driver else ["-m", "vocabalign"]
    last = ["--to", driver[0]] if driver else []
    command = [sys.executable, *program, "run", str(pipeline), "--out", str(out), *last]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def finish(pipeline: Path, out: Path) -> None:
    process = run_command(pipeline, out)
    assert process.returncode == 0, process.stderr


def digests(out: Path) -> dict[str, dict[str, str]]:
    """Stage -> file -> fingerprint, of what is the same in every run (not times and memory)."""
    volatile = ("report.html", "report.md", "metrics.json", "metrics.jsonl", "README.md")
    return {
        path.parent.name: {n: d for n, d in read_manifest(path.parent)["files"].items() if not n.endswith(volatile)}
        for path in sorted(out.glob("*/manifest.json"))
    }


def bits_per_byte(out: Path) -> list[float]:
    import json

    return [model["bits_per_byte"] for model in json.loads((out / "metrics" / "metrics.json").read_text())["models"]]


@pytest.fixture(scope="module")
def undisturbed(pipeline_file, tmp_path_factory) -> tuple[Path, dict[str, float]]:
    """An undisturbed run, and the seconds of its stages, in their order."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(pipeline_file, out)
    names = [stage["name"] for stage in yaml.safe_load(pipeline_file.read_text())["stages"]]
    return out, {name: read_manifest(out / name)["seconds"] for name in names}


def kill_in_every_stage(pipeline: Path, out: Path, seconds: dict[str, float], times: int) -> dict[str, int]:
    """Kill ``times`` times in each stage at random moments; returns how many kills hit each stage.

    A kill that comes after the stage has ended is taken back: the artefact is removed and made again.
    """
    seed = int(os.environ.get("VOCABALIGN_KILL_SEED", random.SystemRandom().randrange(10**6)))
    print(f"VOCABALIGN_KILL_SEED={seed}")
    moments, kills = random.Random(seed), dict.fromkeys(seconds, 0)
    for stage in seconds:
        for _ in range(4 * times):
            process = run_command(pipeline, out, stage, str(moments.uniform(0, seconds[stage])))
            if process.returncode == -signal.SIGKILL:
                kills[stage] += 1
            for manifest in out.glob("*/manifest.json"):
                assert all((manifest.parent / name).is_file() for name in read_manifest(manifest.parent)["files"])
            if kills[stage] == times:
                break
            if (out / stage).exists():
                shutil.rmtree(out / stage)
    return kills


def check_killed_runs(pipeline: Path, undisturbed: tuple[Path, dict[str, float]], out: Path, times: int) -> None:
    reference, seconds = undisturbed
    kills = kill_in_every_stage(pipeline, out, seconds, times)
    assert kills == dict.fromkeys(seconds, times), "not every stage was hit as often as the test says"
    finish(pipeline, out)
    assert digests(out) == digests(reference)
    assert bits_per_byte(out) == bits_per_byte(reference)
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_run_killed_five_times_in_each_stage_ends_the_same(pipeline_file, undisturbed, tmp_path):
    check_killed_runs(pipeline_file, undisturbed, tmp_path / "run", times=5)


def test_a_run_killed_in_training_ends_the_same(pipeline_file, undisturbed, tmp_path):
    reference, seconds = undisturbed
    check_killed_runs(pipeline_file, (reference, {"finetuned": seconds["finetuned"]}), tmp_path / "run", times=1)
