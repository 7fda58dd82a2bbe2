"""Scores on tasks by lm-evaluation-harness, offline, and how much of the first model's ability is retained.

A task is a file as the harness knows them (YAML), with its questions in a file beside it::

    task: animals
    dataset_path: json
    dataset_kwargs: {data_files: {test: animals.jsonl}}
    test_split: test
    output_type: multiple_choice
    doc_to_text: "{{question}}"
    doc_to_target: "{{answer}}"
    doc_to_choice: "{{choices}}"
    metric_list: [{metric: acc}]

Plain retention flatters: where chance alone gets half of the answers right, a model that knows nothing "retains" half.
So the score of a model with random rows is taken off both sides, as a floor.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

from vocabalign.errors import ConfigError
from vocabalign.evaluation.options import MeasureOptions, Place, Subject
from vocabalign.evaluation.task_files import read_tasks
from vocabalign.models import load_model, resolve
from vocabalign.progress import logger
from vocabalign.text.tokenizers import load_vocabulary

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from vocabalign.text.vocabulary import Vocabulary

INSTALL = "Tasks need lm-evaluation-harness: pip install 'vocabalign[eval]'."


@dataclass(frozen=True)
class TaskScore:
    """What a model got on one task; ``metric`` is the task's first."""

    metric: str
    score: float
    standard_error: float | None
    higher_is_better: bool


class TaskRun:
    """All tasks of a folder, for every model in turn; the first one called is what the others are measured against.

    Args:
        settings: ``tasks``, ``floor``, ``shots``, ``task_limit``, ``batch_size`` and ``seed`` are of use.
        first: folder of the first model, whose rows are drawn at random where no floor is given.
        place: where models run.

    Raises:
        ConfigError: the harness is not installed, or a task file cannot be used.
        ModelError: the floor is not a model.
    """

    def __init__(self, settings: MeasureOptions, first: str, place: Place) -> None:
        _require_harness()
        self.settings, self.place, self.first = settings, place, first
        self.tasks = read_tasks(Path(str(settings.tasks)))
        self.vanilla: Mapping[str, TaskScore] = {}
        self._floor: Mapping[str, TaskScore] | None = None

    def __call__(self, subject: Subject) -> dict[str, Any]:
        """The keys of one model in metrics.json."""
        logger.info("%s: %d tasks", subject.name, len(self.tasks))
        scores = self._run(subject.model, subject.vocabulary)
        self.vanilla = self.vanilla or scores
        return task_record(scores, self.vanilla, self.floor)

    @property
    def floor(self) -> Mapping[str, TaskScore]:
        """Scores of the model that knows nothing."""
        if self._floor is None:
            reference = self.settings.floor or self.first
            vocabulary = load_vocabulary(resolve(reference))
            model = load_model(reference, dtype=self.place.dtype, device=self.place.device)
            if self.settings.floor is None:
                randomise_rows(model, self.settings.seed)
            self._floor = self._run(model, vocabulary)
        return self._floor

    def _run(self, model: PreTrainedModel, vocabulary: Vocabulary) -> dict[str, TaskScore]:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        for name in ("lm_eval", "lm-eval", "datasets"):
            logging.getLogger(name).setLevel(logging.ERROR)
        settings = self.settings
        wrapped = HFLM(
            pretrained=model, tokenizer=vocabulary.tokenizer, batch_size=settings.batch_size, device=str(model.device)
        )
        with tempfile.TemporaryDirectory(prefix="vocabalign-tasks-") as cache:
            tasks = [{**task, "dataset_kwargs": {**task["dataset_kwargs"], "cache_dir": cache}} for task in self.tasks]
            result = lm_eval.simple_evaluate(
                model=wrapped,
                tasks=cast(Any, tasks),
                num_fewshot=settings.shots,
                limit=settings.task_limit,
                bootstrap_iters=0,
                log_samples=False,
                task_manager=TaskManager(include_defaults=False),
                random_seed=settings.seed,
                numpy_random_seed=settings.seed,
                torch_random_seed=settings.seed,
                fewshot_random_seed=settings.seed,
            )
        return {task["task"]: _main_score(cast("dict[str, Any]", result), task["task"]) for task in self.tasks}


def _require_harness() -> None:
    try:
        import lm_eval.models.huggingface  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{INSTALL} ({error})") from error


def _main_score(result: Mapping[str, Any], task: str) -> TaskScore:
    """The first metric of a task, from the harness's table of ``metric,filter`` keys."""
    found = result["results"][task]
    key = next(
        key for key, value in found.items() if "," in key and "_stderr" not in key and isinstance(value, (int, float))
    )
    metric, _, kept = key.partition(",")
    error = found.get(f"{metric}_stderr,{kept}")
    better = (result.get("higher_is_better") or {}).get(task, {}).get(metric, True)
    return TaskScore(metric, float(found[key]), error if isinstance(error, float) else None, bool(better))


def task_record(
    scores: Mapping[str, TaskScore], vanilla: Mapping[str, TaskScore], floor: Mapping[str, TaskScore]
) -> dict[str, Any]:
    """Scores and retention of one model.

    Retention is ``score / vanilla``; chance-corrected ``(score - floor) / (vanilla - floor)``, where vanilla is above
    the floor. Over all tasks it is taken of the mean scores, as in papers, and only of metrics of which more is better.

    Args:
        scores: of this model by task.
        vanilla: of the first model.
        floor: of the model that knows nothing.
    """
    tasks: dict[str, Any] = {}
    for name, mine in scores.items():
        tasks[name] = {"metric": mine.metric, "score": mine.score, "standard_error": mine.standard_error}
        tasks[name] |= {"vanilla": vanilla[name].score, "floor": floor[name].score}
        if mine.higher_is_better:
            tasks[name] |= _retention(mine.score, vanilla[name].score, floor[name].score)
    kept = [name for name in scores if scores[name].higher_is_better]
    record: dict[str, Any] = {"tasks": tasks}
    if kept:
        means = [fmean(table[name].score for name in kept) for table in (scores, vanilla, floor)]
        record["task_score_mean"] = means[0]
        record |= {f"task_{key}": value for key, value in _retention(*means).items()}
    return record


def _retention(score: float, vanilla: float, floor: float) -> dict[str, float | None]:
    corrected = (score - floor) / (vanilla - floor) if vanilla > floor else None
    return {"retention": score / vanilla if vanilla else None, "chance_corrected_retention": corrected}


def randomise_rows(model: PreTrainedModel, seed: int) -> None:
    """Draw embedding and head rows anew, normal with the mean and deviation of each column."""
    import torch

    # On the CPU, so that the draws are the same wherever the model is.
    generator = torch.Generator().manual_seed(seed)
    matrices = [cast("torch.nn.Module", model.get_input_embeddings()), model.get_output_embeddings()]
    weights = {id(module.weight): module.weight for module in matrices if module is not None}
    with torch.no_grad():
        for weight in cast("dict[int, torch.Tensor]", weights).values():
            drawn = torch.randn(weight.shape, generator=generator).to(weight.device)
            exact = weight.float()
            weight.copy_(drawn * exact.std(0) + exact.mean(0))
