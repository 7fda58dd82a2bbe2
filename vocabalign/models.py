"""Model folders: finding them, loading them safely, and where their tensors live."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.errors import ConfigError, ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

DEMO_MODELS = ("source", "teacher")


def resolve(reference: str | Path) -> Path:
    """The folder that a reference names: a path, or ``demo:source`` / ``demo:teacher``.

    Raises:
        ModelError: there is no such folder.
    """
    text = str(reference)
    if text.startswith("demo:"):
        name = text.removeprefix("demo:")
        if name not in DEMO_MODELS:
            raise ModelError(f"'{text}' is unknown: the models that ship are demo:source and demo:teacher.")
        return Path(__file__).parent / "demo" / name
    path = Path(text)
    if not path.exists():
        raise ModelError(f"{path} does not exist: expected a local model or tokenizer folder (nothing is downloaded).")
    return path


def read_model_config(folder: Path | str) -> dict[str, Any]:
    """The model's config.json as it is on disk.

    Raises:
        ModelError: the folder is not a model, or the model needs code of its own.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not folder.is_dir() or not path.is_file():
        raise ModelError(f"{folder} is not a model: it has no config.json; expected a Hugging Face model folder.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError(f"{path} names no model_type; expected the configuration of a Hugging Face model.")
    if any(key in config.get("auto_map", {}) for key in ("AutoConfig", "AutoModel", "AutoModelForCausalLM")):
        raise ModelError(
            f"{folder} needs code of its own (auto_map in config.json), which is never executed: convert it to an "
            "architecture that transformers knows."
        )
    return config


def load_model(folder: Path | str, *, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """A causal language model in evaluation mode, from safetensors alone, without remote code.

    Raises:
        ModelError: the folder is not a model that transformers can load this way.
    """
    folder = resolve(folder)
    read_model_config(folder)
    try:
        model = _model_class(folder).from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder} cannot be loaded as a causal language model from safetensors: {reason}") from error
    return move(model, device).eval()


def _model_class(folder: Path) -> Any:
    """What loads the folder as a model that writes text; models of text and pictures have classes of their own."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    named = getattr(transformers, (config.architectures or ["-"])[0], None)
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or not getattr(named, "can_generate", bool)():
        return transformers.AutoModelForCausalLM
    return named


def move(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """The model, on the device."""
    return model.to(device)  # type: ignore[arg-type]  # transformers' decorator hides the signature


def pick_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda``, ``mps`` -> device.

    Raises:
        ConfigError: the device is not there.
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available[name]:
        raise ConfigError(f"The device '{name}' is not available here: use --device cpu or auto.")
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 on CUDA and float32 elsewhere."""
    import torch

    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def context_length(model: PreTrainedModel) -> int | None:
    """The longest sequence that the model was made for, in tokens; None where it does not say."""
    config = model.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length"):
        value = getattr(config, name, None)
        if value:
            return int(value)
    return None
