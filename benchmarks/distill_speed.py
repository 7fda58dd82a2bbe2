"""What a step of distillation costs beside the student's own training step and the teacher's forward pass.

    python benchmarks/distill_speed.py [--student stories260K] [--teacher stories3M] [--rounds 8]

Needs VOCABALIGN_MATERIAL. Forward and backward passes of one batch, in turn, medians of several rounds: cross-entropy
alone; the teacher's forward pass alone, to its logits; distillation with one vocabulary (a model teaches itself);
across tokenizers; and from caches. The limit is the student's step plus the teacher's pass plus 10 %, from a cache the
student's step plus 10 %. Optimizer steps are the same for all and left out, which makes the ratios worse, not better.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vocabalign.config import make_config
from vocabalign.stages import DistillCacheConfig, DistillConfig
from vocabalign.train import caches
from vocabalign.train.data import Blocks, tokenize
from vocabalign.train.distill_sources import read_sources
from vocabalign.train.lesson_plan import make_plan
from vocabalign.train.lesson_sides import make_extend
from vocabalign.train.objectives import cross_entropy
from vocabalign.train.run import Run, read_trainee
from vocabalign.train.teachers import read_teacher
from vocabalign.train.texts import training_texts
from vocabalign.train.unified import Distillation

CPU = torch.device("cpu")


def main() -> None:
    """One table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="stories260K")
    parser.add_argument("--teacher", default="stories3M")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--kinds", nargs="*", default=["log-probs", "top-k"])
    arguments = parser.parse_args()
    material = Path(os.environ["VOCABALIGN_MATERIAL"])
    models = {side: str(material / "models" / f"{getattr(arguments, side)}-hf") for side in ("student", "teacher")}
    corpus = str(material / "corpora" / "tinystories" / "heldout.jsonl")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="vocabalign-benchmark-") as temporary:
        measure(arguments, models, corpus, Path(temporary))


def measure(arguments: argparse.Namespace, models: dict[str, str], corpus: str, folder: Path) -> None:
    """Steps in turn, and what they cost beside their limit."""
    same = {"student": models["teacher"], "teacher": models["teacher"], "corpus": [corpus], "out": folder / "out"}
    across = {**same, "student": models["student"]}
    steps: dict[str, tuple[Callable[[], object], str]] = {}
    for name, values in (("one vocabulary", same), ("two vocabularies", across)):
        trainee = read_trainee(values["student"])
        config = make_config(DistillConfig, values)
        run = Run(folder, work(folder, name), {})
        texts = training_texts([corpus], config.training, trainee.vocabulary)
        documents = tokenize(texts, trainee.vocabulary, run.work, "text")
        sources = read_sources(config, trainee)
        plain = Blocks(documents, arguments.context, 0).__getitems__(range(arguments.batch))
        steps[f"{name}: cross-entropy"] = step(trainee, cross_entropy, plain), ""
        if name == "one vocabulary":
            teacher = read_teacher(sources[0].folder, sources[0].vocabulary, "float32", "cpu", False, CPU)
            steps[f"{name}: teacher"] = forward(teacher, plain["input_ids"], plain["position_ids"]), ""
            unified = Distillation(teacher, "forward-kl", 0.5, 1.0, len(trainee.vocabulary))
            steps[f"{name}: token"] = step(trainee, unified, plain), "teacher"
            continue
        for loss in ("auto", "event", "event+chunks", "prefixes"):
            chosen = config.model_copy(update={"loss": loss})
            plan = make_plan(chosen, Run(folder, run.work, {}), trainee, sources)
            batch = with_teachers(plan, run, trainee, documents, arguments)
            if loss == "auto":
                lesson, running = batch["teachers"][0], plan.running[0]
                steps[f"{name}: teacher"] = forward(running, lesson.input_ids, lesson.positions), ""
            steps[f"{name}: {loss}"] = step(trainee, plan.objective(CPU), batch), "teacher"
        for kind in arguments.kinds:
            out = folder / kind
            cached = {"teacher": models["teacher"], "corpus": [corpus], "out": out, "kind": kind}
            caches.run(make_config(DistillCacheConfig, cached))
            chosen = config.model_copy(update={"cache": out})
            plan = make_plan(chosen, Run(folder, run.work, {}), trainee, read_sources(chosen, trainee))
            batch = with_teachers(plan, run, trainee, documents, arguments)
            steps[f"{name}: cache of {kind}"] = step(trainee, plan.objective(CPU), batch), "cache"
    show(steps, arguments.rounds)


def work(folder: Path, name: str) -> Path:
    """A folder for tokenised text."""
    path = folder / name.replace(" ", "-")
    path.mkdir()
    return path


def with_teachers(plan, run, trainee, documents, arguments) -> dict:  # noqa: ANN001
    """A batch with the teachers' sides."""
    extend = make_extend(plan, run, trainee, arguments.context)(documents)
    return Blocks(documents, arguments.context, 0, extend=extend).__getitems__(range(arguments.batch))


def forward(teacher, input_ids, positions) -> Callable[[], object]:  # noqa: ANN001
    """The teacher's forward pass as it is used elsewhere: to its logits."""

    def once() -> None:
        with torch.no_grad():
            teacher.model(input_ids=input_ids, position_ids=positions, use_cache=False)

    return once


def step(trainee, objective, batch) -> Callable[[], object]:  # noqa: ANN001
    """Forward and backward pass."""

    def once() -> None:
        trainee.model.train()
        trainee.model.zero_grad(set_to_none=True)
        items = (batch["labels"] >= 0).sum().double()
        objective(trainee.model, batch, items)["loss"].backward()

    return once


def show(steps: dict[str, tuple[Callable[[], object], str]], rounds: int) -> None:
    """Medians over rounds in which every step had its turn; of the ratios to what is allowed in the same round."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, (function, _) in steps.items():
            started = time.process_time()
            function()
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - started)
    for name, (_, limit) in steps.items():
        group = name.partition(":")[0]
        line = f"{name:<36}{statistics.median(seconds[name]) * 1000:9.1f} ms of the processor"
        if limit:
            # Within each round, because the machine is not equally fast in all of them.
            alone = zip(seconds[f"{group}: cross-entropy"], seconds[f"{group}: teacher"], strict=True)
            allowed = [student + (teacher if limit == "teacher" else 0) for student, teacher in alone]
            ratio = statistics.median(a / b for a, b in zip(seconds[name], allowed, strict=True))
            what = "student's step + teacher's pass" if limit == "teacher" else "student's step"
            line += f"   {ratio:5.2f} of the {what}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
