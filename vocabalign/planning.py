"""What a stage would read and write, the memory it needs and about how long it takes (``--dry-run``).

Everything comes from sizes of files and from configuration files; nothing heavy is imported and
nothing is written. The times rest on round figures for arithmetic speed and are meant to tell
minutes from days.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vocabalign.forecasts import Forecasts
from vocabalign.manifests import stage_inputs
from vocabalign.stages import (
    AlignConfig,
    CorpusConfig,
    CountConfig,
    DistillConfig,
    EmbedConfig,
    EvaluateConfig,
    FinetuneConfig,
    StageConfig,
    TransplantConfig,
)

CPU_CORE_FLOPS = 25e9  # dense float32 products as small models reach them
GPU_FLOPS = 3.0e14  # bfloat16 on a data-centre GPU, at about a third of its peak
BYTES_PER_TOKEN = 3.5
EMBEDDING_TOKENS_PER_SECOND = 250_000  # one gensim thread, D = 300
COUNTED_BYTES_PER_SECOND = 1.5e6  # both tokenizers and the counting, on a core
PAIRS_PER_TOKEN, MOST_PAIRS = 3.0, 2e9  # of neighbours, both sides
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


def plan_stages(stages: Sequence[tuple[str, StageConfig]]) -> list[Plan]:
    """Estimate stages that run one after another; a later one may read what an earlier one would write.

    Args:
        stages: (name of the stage, its configuration).
    """
    forecasts = Forecasts()
    return [_plan_stage(stage, config, forecasts) for stage, config in stages]


def _plan_stage(stage: str, config: StageConfig, forecasts: Forecasts) -> Plan:
    inputs = stage_inputs(stage, config)
    reads = [path for paths in inputs.values() for path in paths]
    plan = Plan(stage, reads, str(config.out), memory_bytes=400 * MIB, disk_bytes=10 * MIB, seconds_here=10.0)
    corpus_bytes = sum(forecasts.text_bytes(path) for path in inputs.get("corpus", []))
    if isinstance(config, CorpusConfig):
        plan.disk_bytes += forecasts.corpus_bytes(config)
        plan.seconds_here += forecasts.corpus_bytes(config) / 5e6
    elif isinstance(config, CountConfig):
        plan.seconds_here += corpus_bytes / _shards(config) / COUNTED_BYTES_PER_SECOND
        plan.memory_bytes += min(PAIRS_PER_TOKEN * corpus_bytes / BYTES_PER_TOKEN, MOST_PAIRS) * 12.0
    elif isinstance(config, (EmbedConfig, AlignConfig)):
        _plan_embeddings(plan, config, corpus_bytes, forecasts)
    elif isinstance(config, TransplantConfig):
        model = forecasts.model(config.source)
        rows = model.vocabulary_size + forecasts.vocabulary_size(config.target)
        plan.disk_bytes = model.bytes + (forecasts.vocabulary_size(config.target)) * model.hidden_size * 8.0
        plan.memory_bytes += 2 * rows * model.hidden_size * 4.0
        plan.seconds_here += model.bytes / COPY_BYTES_PER_SECOND + corpus_bytes / 1e6
    elif isinstance(config, (FinetuneConfig, DistillConfig)):
        _plan_training(plan, config, forecasts)
    elif isinstance(config, EvaluateConfig):
        parameters = sum(forecasts.model(path).parameters for path in inputs["models"])
        scored = min(corpus_bytes, config.max_bytes or corpus_bytes)
        plan.seconds_here += 4 * parameters * scored / BYTES_PER_TOKEN / _flops_here()
    missing = forecasts.missing(reads)
    if missing:
        plan.notes.append(f"{', '.join(missing)} does not exist: a run would refuse it; its size is guessed here")
    forecasts.add(config)
    return plan


def _shards(config: CountConfig) -> int:
    number = (config.shard or "").partition("/")[2]
    return int(number) if number.isdigit() and int(number) else 1


def _plan_embeddings(plan: Plan, config: EmbedConfig | AlignConfig, corpus_bytes: float, forecasts: Forecasts) -> None:
    names = [config.tokenizer] if isinstance(config, EmbedConfig) else [config.source, config.target]
    sizes = [forecasts.vocabulary_size(name) for name in names]
    dimensions = config.embeddings.dimensions
    tokens = min(corpus_bytes / BYTES_PER_TOKEN, config.embeddings.max_tokens or float("inf"))
    plan.memory_bytes += sum(sizes) * dimensions * 4.0 * 4 + 256 * MIB
    plan.disk_bytes = sum(sizes) * dimensions * 4.0
    passes = tokens * config.embeddings.passes * len(names) / config.embeddings.workers
    plan.seconds_here += passes * dimensions / 300 / EMBEDDING_TOKENS_PER_SECOND
    if len(sizes) == 2:
        plan.seconds_here += 4.0 * sizes[0] * sizes[1] * dimensions / _flops_here()


def _plan_training(plan: Plan, config: FinetuneConfig | DistillConfig, forecasts: Forecasts) -> None:
    training = config.training
    model = forecasts.model(config.model if isinstance(config, FinetuneConfig) else config.student)
    teachers = [config.source] if isinstance(config, FinetuneConfig) else _run_teachers(config)
    teacher_parameters = sum(forecasts.model(teacher).parameters for teacher in teachers if teacher)
    if isinstance(config, DistillConfig) and config.distillation_weight == 0:
        teacher_parameters = 0.0
    context = training.context or min(model.context, 2048)
    tokens = training.steps * training.batch_size * training.accumulation * context
    activations = training.batch_size * context * model.hidden_size * model.layers * 80.0
    plan.memory_bytes += model.parameters * 16.0 + teacher_parameters * 4.0 + activations + 256 * MIB
    plan.disk_bytes = model.parameters * (4.0 + 12.0)
    plan.seconds_here += (6 * model.parameters + 2 * teacher_parameters) * tokens / _flops_here()
    ratio = teacher_parameters / model.parameters if model.parameters else 0.0
    plan.gpu_hours_1b = (6 + 2 * ratio) * 1e9 * tokens / GPU_FLOPS / 3600
    plan.gpu_hours_8b = plan.gpu_hours_1b * 8
    plan.notes.append(f"{tokens:,.0f} tokens in {training.steps:,} steps")


def _run_teachers(config: DistillConfig) -> list[str]:
    """Folders of the teachers that are run beside the student; itself and servers take no memory here."""
    if config.cache is not None:
        return []
    return [item for item in config.teachers if item != "self" and not item.startswith(("http://", "https://"))]


def _flops_here() -> float:
    return CPU_CORE_FLOPS * (os.cpu_count() or 1)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
