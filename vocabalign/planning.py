"""What a stage would read and write, the memory it needs and about how long it takes (``--dry-run``).

Everything comes from sizes of files and from configuration files; nothing heavy is imported and
nothing is written. The times rest on round figures for arithmetic speed and are meant to tell
minutes from days.
"""

from __future__ import annotations

import glob
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vocabalign.errors import VocabAlignError
from vocabalign.manifests import stage_inputs
from vocabalign.models import resolve
from vocabalign.stages import AlignConfig, DistillConfig, EmbedConfig, FinetuneConfig, StageConfig, TransplantConfig

CPU_CORE_FLOPS = 25e9  # dense float32 products as small models reach them
GPU_FLOPS = 3.0e14  # bfloat16 on a data-centre GPU, at about a third of its peak
BYTES_PER_TOKEN = 3.5
EMBEDDING_TOKENS_PER_SECOND = 250_000  # one gensim thread, D = 300
COPY_BYTES_PER_SECOND = 3e8
MIB = 2**20


@dataclass
class Plan:
    """What one stage would do."""

    stage: str
    reads: list[str]
    writes: str
    memory_bytes: float
    disk_bytes: float
    seconds_here: float
    gpu_hours_1b: float | None = None
    gpu_hours_8b: float | None = None
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Rounded, for ``--json``."""
        return {key: round(value, 2) if isinstance(value, float) else value for key, value in asdict(self).items()}

    def __str__(self) -> str:
        lines = [f"{self.stage}: would read {', '.join(self.reads) or 'nothing'}", f"  would write {self.writes}"]
        lines.append(f"  memory about {self.memory_bytes / MIB:,.0f} MiB, disk about {self.disk_bytes / MIB:,.0f} MiB")
        lines.append(f"  time about {_duration(self.seconds_here)} here")
        if self.gpu_hours_1b is not None:
            hours = f"{self.gpu_hours_1b:,.2f} GPU-hours with a 1 B model, {self.gpu_hours_8b:,.2f} with an 8 B model"
            lines.append(f"  the same settings: about {hours}")
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def plan_stage(stage: str, config: StageConfig) -> Plan:
    """Estimate one stage. Inputs that earlier stages have yet to make are counted as unknown.

    Raises:
        VocabAlignError: an input that no stage makes is missing.
    """
    inputs = stage_inputs(stage, config)
    reads = [path for paths in inputs.values() for path in paths]
    plan = Plan(stage, reads, str(config.out), memory_bytes=400 * MIB, disk_bytes=10 * MIB, seconds_here=10.0)
    corpus_bytes = sum(_size(Path(path)) for path in inputs.get("corpus", []))
    if isinstance(config, (EmbedConfig, AlignConfig)):
        _plan_embeddings(plan, config, corpus_bytes)
    elif isinstance(config, TransplantConfig):
        model_bytes = _size(Path(resolve_quietly(config.source)))
        plan.disk_bytes = model_bytes * 1.3
        plan.memory_bytes += 4 * _vocabulary_size(config.source) * _hidden_size(config.source) * 4.0
        plan.seconds_here += model_bytes / COPY_BYTES_PER_SECOND + corpus_bytes / 1e6
    elif isinstance(config, (FinetuneConfig, DistillConfig)):
        _plan_training(plan, config)
    elif "models" in inputs:
        parameters = sum(_parameters(path) for path in inputs["models"])
        plan.seconds_here += 4 * parameters * min(corpus_bytes or 1e5, 1.5e5) / BYTES_PER_TOKEN / _flops_here()
    missing = [path for path in plan.reads if not _exists(path)]
    if missing:
        plan.notes.append(f"not there yet: {', '.join(missing)}; sizes that depend on it are guessed")
    return plan


def _plan_embeddings(plan: Plan, config: EmbedConfig | AlignConfig, corpus_bytes: float) -> None:
    names = [config.tokenizer] if isinstance(config, EmbedConfig) else [config.source, config.target]
    sizes = [_vocabulary_size(name) for name in names]
    dimensions = config.embeddings.dimensions
    tokens = min(corpus_bytes / BYTES_PER_TOKEN, config.embeddings.max_tokens or float("inf"))
    plan.memory_bytes += sum(sizes) * dimensions * 4.0 * 4 + 256 * MIB
    plan.disk_bytes = sum(sizes) * dimensions * 4.0
    passes = tokens * config.embeddings.epochs * len(names) / config.embeddings.workers
    plan.seconds_here += passes * dimensions / 300 / EMBEDDING_TOKENS_PER_SECOND
    if len(sizes) == 2:
        plan.seconds_here += 4.0 * sizes[0] * sizes[1] * dimensions / _flops_here()


def _plan_training(plan: Plan, config: FinetuneConfig | DistillConfig) -> None:
    training = config.training
    model = config.model if isinstance(config, FinetuneConfig) else config.student
    teacher = config.source if isinstance(config, FinetuneConfig) else config.teacher
    parameters, teacher_parameters = _parameters(model), _parameters(teacher) if teacher else 0.0
    if isinstance(config, DistillConfig) and config.distillation_weight == 0:
        teacher_parameters = 0.0
    context = training.context or min(_config_value(model, "max_position_embeddings", 2048), 2048)
    tokens = training.steps * training.batch_size * training.accumulation * context
    width, layers = _hidden_size(model), _config_value(model, "num_hidden_layers", 12)
    activations = training.batch_size * context * width * layers * 80.0
    plan.memory_bytes += parameters * 16.0 + teacher_parameters * 4.0 + activations + 256 * MIB
    plan.disk_bytes = parameters * (4.0 + 12.0)
    plan.seconds_here += (6 * parameters + 2 * teacher_parameters) * tokens / _flops_here()
    ratio = teacher_parameters / parameters if parameters else 0.0
    plan.gpu_hours_1b = (6 + 2 * ratio) * 1e9 * tokens / GPU_FLOPS / 3600
    plan.gpu_hours_8b = plan.gpu_hours_1b * 8
    plan.notes.append(f"{tokens:,.0f} tokens in {training.steps:,} steps")


def _flops_here() -> float:
    return CPU_CORE_FLOPS * (os.cpu_count() or 1)


def _exists(path: str) -> bool:
    return Path(path).exists() or bool(glob.glob(path, recursive=True))


def resolve_quietly(reference: str) -> str:
    """The folder of a reference, or the reference itself where it is not there yet."""
    try:
        return str(resolve(reference))
    except VocabAlignError:
        return reference


def _size(path: Path) -> float:
    if path.is_dir():
        return float(sum(file.stat().st_size for file in path.rglob("*") if file.is_file()))
    if path.is_file():
        return float(path.stat().st_size)
    return float(sum(Path(match).stat().st_size for match in glob.glob(str(path), recursive=True)))


def _config_value(reference: str, key: str, default: int) -> int:
    path = Path(resolve_quietly(reference)) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return default
    return int(config.get(key) or config.get("text_config", {}).get(key) or default)


def _hidden_size(reference: str) -> int:
    return _config_value(reference, "hidden_size", 1024)


def _vocabulary_size(reference: str) -> int:
    size = _config_value(reference, "vocab_size", 0)
    if size:
        return size
    path = Path(resolve_quietly(reference)) / "tokenizer.json"
    try:
        return len(json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"])
    except (OSError, ValueError, KeyError, TypeError):
        return 32_000


def _parameters(reference: str) -> float:
    """Number of parameters, from the headers of the safetensors files."""
    folder, count = Path(resolve_quietly(reference)), 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for length in tensor["shape"]:
                    size *= length
                count += size
    return float(count)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
