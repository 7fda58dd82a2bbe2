"""Weights spread over two processes by FSDP2, with the file that ships, train as one process does; configs are read.

accelerate takes FSDP up on accelerators alone. What makes it do so on the CPU is in the script below and nowhere else:
the sharding itself, by torch, runs there with gloo.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import make_metaspace_tokenizer
from tests.train.runs import finetuned
from tests.train.test_ranks import ROOT, alone, check_same, configured
from vocabalign.errors import ConfigError
from vocabalign.models import load_model
from vocabalign.stages import TransplantConfig
from vocabalign.train.arguments import check_options
from vocabalign.train.spread import gathered_weights, is_spread, put_together
from vocabalign.transplantation import transplant_stage

CONFIGS = ROOT / "configs" / "accelerate"
ON_THE_CPU = """
import sys
from accelerate import state
from accelerate.utils import DistributedType
from vocabalign.train import memory_check, rollback, row_rates, trainer
original = state.AcceleratorState.__init__
def spread(self, *args, fsdp_plugin=None, **more):
    original(self, *args, fsdp_plugin=fsdp_plugin, **more)
    if self.distributed_type == DistributedType.MULTI_CPU and fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
state.AcceleratorState.__init__ = spread
for module in (memory_check, rollback, row_rates, trainer):
    if hasattr(module, "is_sharded"):
        module.is_sharded = lambda arguments: True
stop = int(sys.argv.pop(1))
compute, calls = trainer.StageTrainer.compute_loss, []
def counted(self, *args, **keywords):
    calls.append(1)
    if stop and len(calls) > stop:
        raise KeyboardInterrupt
    return compute(self, *args, **keywords)
trainer.StageTrainer.compute_loss = counted
from vocabalign.cli import run
sys.exit(run(sys.argv[1:]))
"""


def launcher_environment(name: str) -> dict[str, str]:
    """What ``accelerate launch --config_file`` gives to its processes."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    arguments = ["--config_file", str(CONFIGS / f"{name}.yaml"), "-m", "vocabalign"]
    before = dict(os.environ)
    try:
        return prepare_multi_gpu_env(_validate_launch_command(launch_command_parser().parse_args(arguments))[0])
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize("name,kind", [("ddp", "MULTI_GPU"), ("fsdp2", "FSDP"), ("zero2", "DEEPSPEED")])
def test_accelerate_reads_the_files_that_ship_and_knows_every_key(name, kind):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert config.distributed_type.name == kind and config.mixed_precision == "bf16"
    known = {action.dest for action in launch_command_parser()._actions}
    assert set(config.fsdp_config or {}) <= known
    assert set(config.deepspeed_config or {}) <= known


def test_the_launcher_asks_for_fsdp2():
    environment = launcher_environment("fsdp2")
    assert environment["ACCELERATE_USE_FSDP"] == "true" and environment["FSDP_VERSION"] == "2"
    assert "ACCELERATE_USE_FSDP" not in launcher_environment("ddp")


def spread_run(config: Path, folder: Path, stop: int = 0) -> subprocess.CompletedProcess:
    script = folder / "on_the_cpu.py"
    script.write_text(ON_THE_CPU)
    environment = {k: v for k, v in launcher_environment("fsdp2").items() if k.startswith(("FSDP", "ACCELERATE_USE"))}
    environment = {**os.environ, **environment, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script), str(stop), "finetune"]
    return subprocess.run(
        [sys.executable, "-m", *command, "--config", str(config)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("stop", [0, 3, 5])
def test_fsdp2_is_one_process_with_the_same_global_batch_also_after_an_interruption(
    tmp_path, tiny_llama, corpus_file, stop
):
    target = make_metaspace_tokenizer(tmp_path / "target")
    config = TransplantConfig(source=str(tiny_llama), target=str(target), out=tmp_path / "transplanted")
    model = transplant_stage.run(config)
    one = alone(tmp_path, model, corpus_file)
    config = configured(tmp_path, "two", model, corpus_file, 2)
    if stop:
        assert spread_run(config, tmp_path, stop).returncode != 0
        assert not (tmp_path / "two").exists()
    ended = spread_run(config, tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    check_same(one, tmp_path / "two", 2e-5)  # the norm by which gradients are clipped is summed in parts


def test_a_model_that_was_spread_is_put_together(tmp_path, tiny_llama):
    """One process is enough for parameters in parts."""
    from torch.distributed.fsdp import fully_shard

    model = load_model(tiny_llama, dtype=torch.float32, device=torch.device("cpu"))
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    assert not is_spread(model)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        for layer in model.model.layers:
            fully_shard(layer)
        fully_shard(model)
        assert is_spread(model)
        found = gathered_weights(model)
        plain = put_together(model, torch.device("cpu"))
    finally:
        torch.distributed.destroy_process_group()
    assert not is_spread(plain) and type(plain).__name__ == "LlamaForCausalLM"
    for weights in (found, plain.state_dict()):
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
    ids = torch.arange(6)[None]
    plain.eval()
    original = load_model(tiny_llama, dtype=torch.float32, device=torch.device("cpu")).eval()
    assert torch.equal(plain(input_ids=ids).logits, original(input_ids=ids).logits)


@pytest.mark.parametrize("name", ["lora", "new-rows"])
def test_what_needs_whole_matrices_is_refused_before_anything_is_read(
    tmp_path, tiny_llama, corpus_file, name, monkeypatch
):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match=f"train: {name} needs whole matrices, and fsdp cuts them up"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", train=name)


def test_the_stage_of_deepspeed_that_cuts_up_the_head_is_refused(tmp_path, monkeypatch):
    settings = {"zero_optimization": {"stage": 3}}
    (tmp_path / "ds.json").write_text(json.dumps(settings))
    for given in (settings, str(tmp_path / "ds.json")):
        with pytest.raises(ConfigError, match="stage 3 cuts up the head"):
            check_options("auto", {"deepspeed": given})
    check_options("auto", {"deepspeed": {"zero_optimization": {"stage": 2}}})
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    with pytest.raises(ConfigError, match="zero2.yaml"):
        check_options("auto", {})
