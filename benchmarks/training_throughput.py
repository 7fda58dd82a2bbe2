"""Tokens a second of fine-tuning with cross-entropy alone, beside a bare PyTorch loop that does the same arithmetic.

    python benchmarks/training_throughput.py [--model DIR --corpus FILE --steps 6 --rounds 3]

The bare loop has the same model, batches, streamed loss, AdamW (fused), clipping and schedule, and nothing else: no
Trainer, no record, no look for divergence, no checkpoint. Both take turns in one process; the first two steps of each
turn are not counted. Two ratios, because the machine may be busy: of the clock, and of the processor's seconds.
The second figure is tokenisation into files, beside the tokenizer's own batch encoding of texts that are in memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from vocabalign.memory import keep_freed_memory
from vocabalign.models import load_model
from vocabalign.stages import FinetuneConfig, TrainingOptions
from vocabalign.text.batches import in_batches
from vocabalign.text.corpus import read_texts
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train import finetune
from vocabalign.train.data import Blocks, tokenize
from vocabalign.train.head import train_everything
from vocabalign.train.learning_rates import learning_rate_factor
from vocabalign.train.objectives import cross_entropy
from vocabalign.train.recorder import RecordSteps
from vocabalign.train.texts import training_texts

WARM_UP = 2
Times = list[tuple[float, float]]


def now() -> tuple[float, float]:
    """(clock, processor's seconds of this process)."""
    return time.perf_counter(), time.process_time()


def ours(options: argparse.Namespace, training: TrainingOptions, out: Path) -> Times:
    """When each step of ``finetune`` ended."""
    times: Times = []
    original = RecordSteps.on_step_end

    def on_step_end(self: RecordSteps, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)  # type: ignore[arg-type]
        times.append(now())

    RecordSteps.on_step_end = on_step_end  # type: ignore[method-assign]
    try:
        config = FinetuneConfig(
            model=options.model,
            corpus=[options.corpus],
            out=out,
            rows_share=0,
            training=training,
            device="cpu",
            self_distillation={"enabled": False},
        )
        finetune.run(config)
    finally:
        RecordSteps.on_step_end = original  # type: ignore[method-assign]
    return times


def bare(options: argparse.Namespace, training: TrainingOptions, folder: Path) -> Times:
    """When each step of the bare loop ended."""
    model = load_model(options.model, dtype=torch.float32, device=torch.device("cpu"))
    vocabulary = load_vocabulary(options.model)
    texts = training_texts([options.corpus], training, vocabulary)
    assert training.context is not None
    blocks = Blocks(tokenize(texts, vocabulary, folder, "text"), training.context, seed=0)
    train_everything(model)
    model.train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=5e-5, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: learning_rate_factor(
            training.schedule,
            step,
            training.steps,
            warmup_share=training.warmup_share,
            decay_share=training.decay_share,
            final_share=training.final_learning_rate_share,
        ),
    )
    times: Times = []
    for step in range(training.steps):
        batch = blocks.__getitems__(range(step * training.batch_size, (step + 1) * training.batch_size))
        loss = cross_entropy(model, batch, batch["labels"].ne(-100).sum())["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, training.max_gradient_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        float(loss.detach())
        times.append(now())
    return times


def seconds_per_step(times: Times) -> tuple[list[float], list[float]]:
    """Of the steps after the warm-up, by both clocks."""
    kept = times[WARM_UP - 1 :]
    wall = [b[0] - a[0] for a, b in zip(kept, kept[1:], strict=False)]
    processor = [b[1] - a[1] for a, b in zip(kept, kept[1:], strict=False)]
    return wall, processor


def tokenisation(options: argparse.Namespace, folder: Path) -> None:
    """Print the rates of ``tokenize`` and of the tokenizer's own batch encoding."""
    vocabulary = load_vocabulary(options.tokenizer)
    texts = list(read_texts([options.corpus], options.max_bytes))
    size = sum(len(text.encode()) for text in texts)
    best = {"ours": 0.0, "own": 0.0}
    for number in range(options.rounds):
        started = time.perf_counter()
        for group in in_batches(texts):
            vocabulary.encode_batch(group)
        best["own"] = max(best["own"], size / (time.perf_counter() - started))
        with tempfile.TemporaryDirectory(dir=folder) as place:
            started = time.perf_counter()
            read = training_texts([options.corpus], TrainingOptions(), vocabulary)
            documents = tokenize(_until(read, size), vocabulary, Path(place), f"round-{number}")
            best["ours"] = max(best["ours"], documents.num_bytes / (time.perf_counter() - started))
    print(
        f"tokenisation from a file into files: {best['ours'] / 1e6:.2f} MB/s, the tokenizer's own batch encoding in "
        f"memory {best['own'] / 1e6:.2f} MB/s: ratio {best['ours'] / best['own']:.3f}"
    )


def _until(texts, size):  # noqa: ANN001, ANN202
    for text in texts:
        if size <= 0:
            return
        size -= len(text.text.encode())
        yield text


def main() -> None:
    """Print both rates and their ratio."""
    material = Path(os.environ.get("VOCABALIGN_MATERIAL", "."))
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=str(material / "models" / "stories3M-hf"))
    parser.add_argument("--tokenizer", default=str(material / "tokenizers" / "llama2"))
    parser.add_argument("--corpus", default=str(material / "corpora" / "tinystories" / "train.jsonl"))
    parser.add_argument("--max-bytes", type=int, default=8_000_000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--what", choices=["all", "training", "tokenisation"], default="all")
    options = parser.parse_args()
    keep_freed_memory()
    training = TrainingOptions(steps=options.steps, batch_size=options.batch_size, context=options.context)
    tokens = options.batch_size * options.context
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.what != "training":
            tokenisation(options, folder)
        found: dict[str, tuple[list[float], list[float]]] = {"ours": ([], []), "bare": ([], [])}
        for number in range(options.rounds if options.what != "tokenisation" else 0):
            for who in ("bare", "ours") if number % 2 else ("ours", "bare"):
                times = (
                    ours(options, training, folder / f"out-{number}")
                    if who == "ours"
                    else bare(options, training, folder)
                )
                for kept, new in zip(found[who], seconds_per_step(times), strict=True):
                    kept.extend(new)
        if options.what == "tokenisation":
            return
    middle = {who: [statistics.median(steps) for steps in both] for who, both in found.items()}
    wall, processor = (middle["bare"][clock] / middle["ours"][clock] for clock in (0, 1))
    print(
        f"training, {tokens:,} tokens a step: {tokens / middle['ours'][0]:,.0f} tokens/s, the bare loop "
        f"{tokens / middle['bare'][0]:,.0f}: ratio {wall:.3f} by the clock, {processor:.3f} by the processor's seconds "
        "(limit at least 0.95)"
    )


if __name__ == "__main__":
    main()
