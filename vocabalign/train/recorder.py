"""What is told while a model trains: ``metrics.jsonl``, the progress bar, scores on held-out text."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from vocabalign.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerControl, TrainerState, TrainingArguments

    from vocabalign.train.heldout import HeldOut
    from vocabalign.train.trainer import StageTrainer

METRICS = "metrics.jsonl"


class Recorder:
    """One line a step in ``metrics.jsonl`` over all stages of a run; survives interruption.

    Args:
        folder: where the file is; a run that goes on finds its earlier lines there.
        heldout: what to score on, if anything.
        evaluate_every: steps between scores; ``None``: only when asked.
        writes: false on all ranks but the first.
    """

    def __init__(self, folder: Path, heldout: HeldOut | None, evaluate_every: int | None, writes: bool) -> None:
        self.path, self.heldout, self.evaluate_every, self.writes = folder / METRICS, heldout, evaluate_every, writes
        self.lines: list[dict[str, Any]] = []

    def keep_until(self, step: int) -> None:
        """Forget what was recorded after ``step``: the run goes on from there."""
        if self.path.exists():
            lines = map(_parse, self.path.read_text().splitlines())
            self.lines = [line for line in lines if line and line["step"] <= step]
        if self.writes:
            self.path.write_text("".join(json.dumps(line) + "\n" for line in self.lines))

    def add(self, line: dict[str, Any]) -> None:
        """Append a line and let it reach the file at once."""
        self.lines.append(line)
        if self.writes:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def score(self, model: PreTrainedModel, step: int) -> float | None:
        """Bits per byte at ``step``; not computed again where an interrupted run already had it."""
        if self.heldout is None:
            return None
        for line in self.lines:
            if line["step"] == step and "heldout_bits_per_byte" in line:
                return float(line["heldout_bits_per_byte"])
        value = round(self.heldout.bits_per_byte(model), 6)
        self.add({"step": step, "heldout_bits_per_byte": value})
        return value

    def last(self, key: str) -> float | None:
        """The last recorded value of ``key``."""
        return next((line[key] for line in reversed(self.lines) if key in line), None)


def _parse(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        return None  # the end of a line was lost when the run was killed
    return line if isinstance(line, dict) and "step" in line else None


class RecordSteps(TrainerCallback):
    """Records every step of one stage.

    Args:
        recorder: of the run.
        stage: its name, for the lines and the bar.
        first_step: steps done by earlier stages.
        tokens_per_step: input tokens of a step over all ranks.
    """

    def __init__(self, recorder: Recorder, stage: str, first_step: int, tokens_per_step: int) -> None:
        self.recorder, self.stage = recorder, stage
        self.first_step, self.tokens_per_step = first_step, tokens_per_step
        self.trainer: StageTrainer | None = None
        self.bar: Progress | None = None
        self.seconds = 0.0
        self.steps = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the bar where the stage stands."""
        self.bar = Progress(self.stage, args.max_steps)
        self.bar.done = state.global_step
        self.started = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the step's line; score where it is time to."""
        assert self.trainer is not None and self.bar is not None
        self.steps += 1
        now = time.perf_counter()
        self.seconds += now - self.started
        step = self.first_step + state.global_step
        parts = self.trainer.take_parts()
        self.recorder.add(
            {
                "step": step,
                "stage": self.stage,
                **{name: round(value, 6) for name, value in parts.items()},
                "learning_rate": self.trainer.learning_rate_at(state.global_step - 1),
                "tokens": step * self.tokens_per_step,
            }
        )
        self.bar.advance(1, f"loss {parts['loss']:.3f}, {self.tokens_per_second:,.0f} tokens/s")
        every = self.recorder.evaluate_every
        if every and step % every == 0:
            self.recorder.score(self.trainer.accelerator.unwrap_model(self.trainer.model), step)
        self.started = time.perf_counter()  # time for scores and checkpoints is not training time

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """A checkpoint was written: that was no training time."""
        self.started = time.perf_counter()

    @property
    def tokens_per_second(self) -> float:
        """Input tokens per second of the steps done by this process, over all ranks."""
        return self.steps * self.tokens_per_step / self.seconds if self.seconds else 0.0
