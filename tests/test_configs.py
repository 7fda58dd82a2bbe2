"""Every shipped YAML file: read against the real configuration, and run for a few steps on tiny models."""

import importlib.util
from pathlib import Path

import pytest
import yaml

from tests.conftest import make_byte_level_tokenizer, make_metaspace_tokenizer
from vocabalign.cli import run
from vocabalign.config import make_config, read_yaml
from vocabalign.pipeline import plan_stages, read_pipeline
from vocabalign.stages import STAGES

ROOT = Path(__file__).parents[1]
PIPELINES = sorted(path.stem for path in (ROOT / "pipelines").glob("*.yaml"))


@pytest.fixture(scope="module")
def write_stage_configs():
    spec = importlib.util.spec_from_file_location("write_stage_configs", ROOT / "scripts" / "write_stage_configs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("stage", STAGES)
def test_the_stage_file_is_whole_and_up_to_date(stage, write_stage_configs):
    path = ROOT / "configs" / f"{stage}.yaml"
    assert path.read_text(encoding="utf-8") == write_stage_configs.stage_file(stage), (
        "run scripts/write_stage_configs.py"
    )
    values = read_yaml(path)
    assert set(values) == set(STAGES[stage].config_class.model_fields)
    config = make_config(STAGES[stage].config_class, values)
    example = write_stage_configs.EXAMPLES[stage]
    assert config == make_config(STAGES[stage].config_class, example), "a default in the file is not the default"


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_reads_and_says_how_to_run_it(name):
    path = ROOT / "pipelines" / f"{name}.yaml"
    assert len(plan_stages(read_pipeline(path))) >= 5
    head = path.read_text(encoding="utf-8").splitlines()[:5]
    assert any(f"vocabalign run pipelines/{name}.yaml" in line for line in head)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_accelerate_file_is_one_that_accelerate_reads(path):
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(path)).num_processes == 8


def make_model(folder: Path, architecture: str, vocab_size: int) -> Path:
    """A tiny random model of one of the architectures in the shipped pipelines."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"max_position_embeddings": 64, "vocab_size": vocab_size, "bos_token_id": 0, "eos_token_id": 0}
    if architecture != "gpt_neox":
        sizes |= {"num_key_value_heads": 2, "head_dim": 16}
    config = AutoConfig.for_model(architecture, **sizes)
    config.pad_token_id = None
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


TINY = {
    "training.steps": 2,
    "training.batch_size": 2,
    "training.accumulation": 1,
    "training.context": 32,
    "training.checkpoint_every": 100,
    "training.evaluate_every": 1,
    "trainer": "{}",
}


@pytest.mark.parametrize(("name", "architecture"), [("gemma", "gemma"), ("qwen2", "qwen2"), ("llama3", "llama")])
def test_a_real_pipeline_runs_on_tiny_models_of_its_architectures(
    name, architecture, tmp_path, corpus_file, heldout_file, capsys
):
    """Pythia's architecture as the source, the owner of the vocabulary as the teacher."""
    source = make_model(tmp_path / "pythia", "gpt_neox", 400)
    teacher = make_model(tmp_path / "teacher", architecture, 400 if name != "gemma" else 480)
    make_byte_level_tokenizer(source)
    if name == "gemma":
        make_metaspace_tokenizer(teacher)
    else:
        make_byte_level_tokenizer(teacher, texts=["Другой текст, another text 123; " * 3, "def f(x): return x"])
        vocab = len(__import__("tokenizers").Tokenizer.from_file(str(teacher / "tokenizer.json")).get_vocab())
        make_model(teacher, architecture, vocab)
    text = f"[{corpus_file}]"
    overrides = {
        "device": "cpu",
        "lexicon.source": source,
        "lexicon.target": teacher,
        "lexicon.corpus": text,
        "lexicon.embeddings.dimensions": 8,
        "lexicon.embeddings.epochs": 1,
        "lexicon.embeddings.min_count": 1,
        "lexicon.embeddings.workers": 1,
        "transplanted.source": source,
        "transplanted.target": teacher,
        "transplanted.corpus": text,
        "transplanted.pad_to_multiple_of": "null",
        "metrics.corpus": text,
        "metrics.max_bytes": 500,
        "metrics.sample_tokens": 4,
        "metrics.models.source": source,
        "metrics.models.teacher": teacher,
    }
    for stage in ("finetuned", "distilled", "control"):
        overrides |= {f"{stage}.{key}": value for key, value in TINY.items()}
        overrides |= {f"{stage}.corpus": text, f"{stage}.heldout": str([str(heldout_file)])}
    overrides |= {"distilled.teacher": teacher, "control.teacher": teacher}
    flags = [part for key, value in overrides.items() for part in ("-o", f"{key}={value}")]
    out = tmp_path / "run"
    assert run(["run", str(ROOT / "pipelines" / f"pythia-1b-to-{name}.yaml"), "--out", str(out), *flags]) == 0, (
        capsys.readouterr().err
    )
    assert (out / "report" / "report.html").is_file()
    metrics = yaml.safe_load((out / "metrics" / "metrics.json").read_text())
    assert {model["name"] for model in metrics["models"]} >= {"source", "finetuned", "distilled", "control"}
