"""Two processes on the CPU, as torchrun starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import make_metaspace_tokenizer
from tests.train.runs import finetuned, losses
from vocabalign.manifests import read_manifest
from vocabalign.stages import FinetuneConfig, TransplantConfig
from vocabalign.train import run as train_run
from vocabalign.transplantation import transplant_stage

ROOT = Path(__file__).parents[2]
RANKS = """
import os, sys, time
from pathlib import Path
import vocabalign.artifacts as artifacts
from vocabalign.manifests import read_manifest
from vocabalign.stages import FinetuneConfig
from vocabalign.train.run import open_run
digests = artifacts.file_digests
artifacts.file_digests = lambda folder: (time.sleep(1), digests(folder))[1]
config = FinetuneConfig(model=sys.argv[1], corpus=[sys.argv[2]], out=Path(sys.argv[3]))
with open_run(config, "finetune") as run:
    if run.folder is not None:
        (run.folder / "file").write_text("x")
read_manifest(config.out)
"""


def launch(*command: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command]
    return subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_the_last_barrier_is_after_the_artefact(tmp_path, tiny_llama, corpus_file, monkeypatch):
    there: list[bool] = []
    out = tmp_path / "out"
    monkeypatch.setattr(train_run, "wait_for_all", lambda: there.append((out / "manifest.json").is_file()))
    config = FinetuneConfig(model=str(tiny_llama), corpus=[str(corpus_file)], out=out)
    with pytest.raises(RuntimeError), train_run.open_run(config, "finetune"):
        raise RuntimeError
    assert there == [False]  # none after a failure: the launcher ends the others
    with train_run.open_run(config, "finetune"):
        pass
    assert there == [False, False, True]


@pytest.mark.slow
def test_all_ranks_go_on_only_when_the_artefact_is_there(tmp_path, tiny_llama, corpus_file):
    (tmp_path / "ranks.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{RANKS}")
    ended = launch(str(tmp_path / "ranks.py"), str(tiny_llama), str(corpus_file), str(tmp_path / "out"))
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.mark.slow
def test_finetune_on_two_processes(tmp_path, tiny_llama, corpus_file):
    (tmp_path / "config.yaml").write_text(
        f"model: {tiny_llama}\ncorpus: [{corpus_file}]\nout: {tmp_path / 'out'}\ndevice: cpu\n"
        "training: {steps: 2, batch_size: 2, context: 32}\n"
    )
    ended = launch("-m", "vocabalign", "finetune", "--config", str(tmp_path / "config.yaml"))
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert read_manifest(tmp_path / "out")["metrics"]["tokens"] == 2 * 2 * 2 * 32


@pytest.mark.slow
def test_two_processes_learn_from_the_source_as_one_does(tmp_path, tiny_llama, corpus_file):
    make_metaspace_tokenizer(tmp_path / "target")
    model = transplant_stage.run(
        TransplantConfig(source=str(tiny_llama), target=str(tmp_path / "target"), out=tmp_path / "transplanted")
    )
    one = finetuned(model, corpus_file, tmp_path / "one", device="cpu", rows_learning_rate=1e-2, learning_rate=1e-3)
    (tmp_path / "config.yaml").write_text(
        f"model: {model}\ncorpus: [{corpus_file}]\nout: {tmp_path / 'two'}\ndevice: cpu\n"
        "rows_learning_rate: 1.0e-2\nlearning_rate: 1.0e-3\n"
        "training: {steps: 6, batch_size: 2, context: 32, checkpoint_every: 2}\n"
    )
    ended = launch("-m", "vocabalign", "finetune", "--config", str(tmp_path / "config.yaml"))
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert losses(tmp_path / "two") == pytest.approx(losses(one), rel=1e-4)
