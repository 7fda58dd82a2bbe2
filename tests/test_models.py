"""Model folders: found, refused or loaded."""

import json

import pytest
import torch

from vocabalign.errors import ConfigError, ModelError
from vocabalign.models import context_length, load_model, pick_device, pick_dtype, read_model_config, resolve


def test_a_model_loads_in_evaluation_mode_with_the_dtype_asked_for(tiny_llama):
    model = load_model(tiny_llama, dtype=torch.bfloat16, device=torch.device("cpu"))
    assert model.dtype == torch.bfloat16 and not model.training and context_length(model) == 128


def test_a_missing_folder_and_a_folder_that_is_no_model_are_told(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        resolve(tmp_path / "nothing")
    with pytest.raises(ModelError, match="demo:source and demo:teacher"):
        resolve("demo:nonsense")
    with pytest.raises(ModelError, match="not a model: it has no config.json"):
        read_model_config(tmp_path)


@pytest.mark.parametrize(("text", "said"), [("{", "not valid JSON"), ("{}", "no model_type"), ("[]", "no model_type")])
def test_a_broken_configuration_is_told(tmp_path, text, said):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=said):
        read_model_config(tmp_path)


def test_pickled_weights_are_never_loaded(tiny_llama, tmp_path):
    (tmp_path / "config.json").write_text((tiny_llama / "config.json").read_text())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_model(tmp_path, dtype=torch.float32, device=torch.device("cpu"))


def test_an_unknown_architecture_is_told(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nonsense"}))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(tmp_path, dtype=torch.float32, device=torch.device("cpu"))


def test_devices_and_dtypes_are_chosen():
    assert pick_device("cpu").type == "cpu" and pick_device("auto").type in ("cpu", "cuda", "mps")
    assert pick_dtype("auto", torch.device("cpu")) == torch.float32
    assert pick_dtype("auto", torch.device("cuda")) == torch.bfloat16
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="'cuda' is not available"):
            pick_device("cuda")
