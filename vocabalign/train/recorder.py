"""What is told while a model trains: ``metrics.jsonl``, the progress bar, scores on held-out text."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from vocabalign.progress import Progress
from vocabalign.train.best import Best, keep_best, mend_best, read_best
from vocabalign.train.divergence import Diverged, find_divergence
from vocabalign.train.heldout import BITS_PER_BYTE
from vocabalign.train.trackers import Trackers

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
        patience: scores without a better one after which a stage ends; None: it goes on.
        trackers: get every line too.

    Attributes:
        also: what else the line of each step says; set by callbacks before the step.
    """

    def __init__(
        self,
        folder: Path,
        heldout: HeldOut | None,
        evaluate_every: int | None,
        writes: bool,
        *,
        patience: int | None = None,
        trackers: Trackers | None = None,
    ) -> None:
        self.path, self.heldout, self.evaluate_every, self.writes = folder / METRICS, heldout, evaluate_every, writes
        self.patience, self.trackers = patience, trackers
        self.also: dict[str, float] = {}
        self.lines: list[dict[str, Any]] = []
        if writes:
            mend_best(folder)
        self.best = read_best(folder)  # asked once: later the first rank may have written what the others decide on

    def keep_until(self, step: int) -> None:
        """Forget what was recorded after ``step``: the run goes on from there.

        A rollback is recorded at the step that it goes back to, so it is not forgotten.
        """
        if self.path.exists():
            lines = map(_parse, self.path.read_text().splitlines())
            self.lines = [line for line in lines if line]
        self.rewind(step)

    def rewind(self, step: int) -> None:
        """``keep_until`` for what this process has recorded itself."""
        self.lines = [line for line in self.lines if line["step"] <= step]
        if self.writes:
            new = self.path.with_suffix(".new")
            new.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
            new.replace(self.path)  # at once: other ranks may be reading it

    def add(self, line: dict[str, Any]) -> None:
        """Append a line and let it reach the file at once."""
        self.lines.append(line)
        if self.writes:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            if self.trackers is not None:
                self.trackers.log(line)

    def score(self, model: PreTrainedModel, step: int, stage: str | None = None) -> float | None:
        """Bits per byte at ``step``; not computed again where an interrupted run already had it.

        Those of each domain and language are recorded beside it.
        """
        if self.heldout is None:
            return None
        for line in self.lines:
            if line["step"] == step and BITS_PER_BYTE in line:
                return float(line[BITS_PER_BYTE])
        scores = self.heldout.scores(model)
        self.add({"step": step, **({"stage": stage} if stage else {}), **scores})
        return float(scores[BITS_PER_BYTE])

    def rollbacks(self, stage: str | None = None) -> list[dict[str, Any]]:
        """What was told of each time that a run (or a stage of it) went back to its last good state."""
        found = [line["rollback"] | {"stage": line["stage"]} for line in self.lines if "rollback" in line]
        return [rollback for rollback in found if stage in (None, rollback["stage"])]

    def has_stopped(self, stage: str) -> bool:
        """Whether a stage ended early for want of better scores."""
        return any(line.get("stopped_early") and line["stage"] == stage for line in self.lines)

    def patience_is_over(self, stage: str) -> bool:
        """Whether the last scores of a stage, as many as ``patience`` says, were all no better than one before."""
        scores = [line[BITS_PER_BYTE] for line in self.lines if line.get("stage") == stage and BITS_PER_BYTE in line]
        if self.patience is None or len(scores) <= self.patience:
            return False
        return min(scores[-self.patience :]) >= min(scores[: -self.patience])

    def close(self) -> None:
        """Let the trackers finish."""
        if self.trackers is not None:
            self.trackers.close()

    def summary(self) -> dict[str, Any]:
        """What the manifest says of rollbacks, early ends and the best score, where there were any."""
        found: dict[str, Any] = {}
        if self.rollbacks():
            found["rollbacks"] = self.rollbacks()
        stopped = [line["stage"] for line in self.lines if line.get("stopped_early")]
        if stopped:
            found["stopped_early"] = stopped
        passed = [line["step"] for line in self.lines if line.get("source_passed")]
        if passed:
            found["source_passed_at_step"] = passed[0]
        return found

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
    """Records every step of one stage, and ends it where it diverged or does not get better.

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
        self.losses: list[float] = []
        self.gradient_norms: list[float] = []

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the bar where the stage stands."""
        self.bar = Progress(self.stage, args.max_steps)
        self.bar.done = state.global_step
        mine = [line for line in self.recorder.lines if line.get("stage") == self.stage and "loss" in line]
        self.losses = [line["loss"] for line in mine]
        self.gradient_norms = [line["gradient_norm"] for line in mine]
        self.started = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the step's line; score where it is time to.

        Raises:
            Diverged: the loss or the gradient is no number, or a spike.
        """
        assert self.trainer is not None and self.bar is not None
        self.steps += 1
        now = time.perf_counter()
        self.seconds += now - self.started
        step = self.first_step + state.global_step
        parts = {name: round(value, 6) for name, value in self.trainer.take_parts().items()}
        norm = round(self.trainer.gradient_norm(), 6)
        self._check(step, state.global_step, parts["loss"], norm)
        self.recorder.add(
            {
                "step": step,
                "stage": self.stage,
                **parts,
                "gradient_norm": norm,
                "learning_rate": self.trainer.learning_rate_at(state.global_step - 1),
                "tokens": step * self.tokens_per_step,
                **self.recorder.also,
            }
        )
        self.bar.advance(1, f"loss {parts['loss']:.3f}, {self.tokens_per_second:,.0f} tokens/s")
        every = self.recorder.evaluate_every
        if every and step % every == 0:
            self._score(step, control)
        self.started = time.perf_counter()  # time for scores and checkpoints is not training time

    def _check(self, step: int, step_of_stage: int, loss: float, norm: float) -> None:
        assert self.trainer is not None
        self.losses.append(loss)
        self.gradient_norms.append(norm)
        options = self.trainer.options
        reason = find_divergence(self.losses, self.gradient_norms, options.loss_spike, options.gradient_spike)
        if reason is not None:
            raise Diverged(step, reason, self.trainer.documents_of(step_of_stage))

    def _score(self, step: int, control: TrainerControl) -> None:
        """Score the model, keep its weights if they are the best so far, end the stage if patience is over."""
        assert self.trainer is not None
        value = self.recorder.score(self.trainer.accelerator.unwrap_model(self.trainer.model), step, self.stage)
        if value is None:
            return
        if self.recorder.best is None or value < self.recorder.best.bits_per_byte:
            self.recorder.best = Best(step, value)
            weights = self.trainer.whole_weights()
            if self.recorder.writes:
                keep_best(self.recorder.path.parent, self.recorder.best, weights)
            self.trainer.accelerator.wait_for_everyone()
        if self.recorder.patience_is_over(self.stage):
            self.recorder.add({"step": step, "stage": self.stage, "stopped_early": True})
            control.should_training_stop = control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """A checkpoint was written: that was no training time."""
        self.started = time.perf_counter()

    @property
    def tokens_per_second(self) -> float:
        """Input tokens per second of the steps done by this process, over all ranks."""
        return self.steps * self.tokens_per_step / self.seconds if self.seconds else 0.0
