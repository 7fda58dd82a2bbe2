"""Losses across tokenizers cost what distillation within one vocabulary costs: time, memory, preparation.

    python benchmarks/losses_cross_tokenizer.py [--vocab 32000 128000] [--rows 768] [--hidden 256] [--repeats 5]

Forward and backward pass of each loss against forward KL of one shared vocabulary at the same sizes, in turns in one
process; the largest single allocation and its growth when the rows are doubled; and, where VOCABALIGN_MATERIAL is
set, the time to build classes and to align a batch of 16,000 tokens.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from vocabalign.losses.aligned import AlignedChunks, ChunkRows, Document, aligned_chunks, aligned_starts
from vocabalign.losses.chunks import chunk_loss
from vocabalign.losses.classes import EventClasses, common_classes
from vocabalign.losses.events import EventMerge, event_loss
from vocabalign.losses.fused import fused_loss
from vocabalign.losses.gold import gold_loss
from vocabalign.losses.gold_rows import ChunkSide, GoldRows
from vocabalign.losses.hidden import hidden_loss
from vocabalign.losses.likelihood import observed_log_probs
from vocabalign.losses.logits import Head
from vocabalign.losses.marginal import PrefixMerge, prefix_loss
from vocabalign.losses.prefixes import PrefixMap, PrefixRows, prefix_rows
from vocabalign.losses.projection import LexiconProjection, projection_loss
from vocabalign.losses.uld import uld_loss

Step = Callable[[], torch.Tensor]


def sides(vocab: int, rows: int, width: int) -> tuple[torch.Tensor, Head, torch.Tensor, Head]:
    """Student's and teacher's hidden states and heads."""
    torch.manual_seed(0)
    hidden, teacher = torch.randn(rows, width), torch.randn(rows, width)
    heads = [torch.randn(vocab, width) / width**0.5 for _ in range(2)]
    return hidden.requires_grad_(), Head(heads[0].requires_grad_()), teacher, Head(heads[1])


def random_classes(vocab: int, alone: float, other: bool) -> EventClasses:
    """Classes shaped like those of real pairs: most ids alone, few classes with very many members."""
    rng = np.random.default_rng(0)
    count = int(alone * vocab)
    parts = []
    for _ in range(2):
        more = np.minimum(rng.zipf(1.3, vocab - count) - 1, count - 1)
        more = rng.permutation(count)[more] if not other else np.full(vocab - count, count - 1)
        parts.append(rng.permutation(np.concatenate([np.arange(count), more])))
    return EventClasses(*parts, count, count - 1 if other else None)


def losses(vocab: int, rows: int, width: int) -> dict[str, Step]:
    """Name -> the loss at these sizes; the first one is the baseline."""
    x, head, t, teacher = sides(vocab, rows, width)
    rng = np.random.default_rng(1)
    labels = torch.from_numpy(rng.integers(0, vocab, rows))
    merge = EventMerge(random_classes(vocab, 0.6, False))
    shared = EventMerge(random_classes(vocab, 0.6, True))
    ids = rng.integers(0, vocab, (vocab, 4))
    weights = rng.dirichlet(np.ones(4), vocab)
    alone = rng.random(vocab) < 0.6
    weights[alone] = [1, 0, 0, 0]
    projection = LexiconProjection(ids, weights, vocab)
    return {
        "forward KL, one vocabulary": lambda: (
            fused_loss(x, head, labels, teacher_hidden=t, teacher_head=teacher, weight=1.0).loss
        ),
        "event": lambda: event_loss(x, head, t, teacher, merge),
        "chunks (teacher online)": chunk_step(x, head, t, teacher, labels, None),
        "chunks (both remedies)": chunk_step(x, head, t, teacher, labels, torch.from_numpy(rng.random(vocab) < 0.3)),
        "prefix": prefix_step(x, head, t, teacher, vocab),
        "projection": lambda: projection_loss(x, head, t, teacher, projection),
        "ULD": lambda: uld_loss(x, head, t, teacher),
        "GOLD, corrected": gold_step(x, head, t, teacher, labels, shared),
        "hidden states": lambda: hidden_loss(x, t),
    }


def chunk_step(
    x: torch.Tensor, head: Head, t: torch.Tensor, teacher: Head, labels: torch.Tensor, starts: torch.Tensor | None
) -> Step:
    """Chunks of one or two tokens."""
    rows = len(x)
    begins = torch.arange(0, rows, 4)[:, None] + torch.tensor([0, 1, 2])
    begins = begins.flatten()[begins.flatten() < rows]
    stops = torch.cat([begins[1:], torch.tensor([rows])])
    side = ChunkRows(torch.arange(rows), labels, begins, stops, torch.cat([begins[1:], torch.tensor([-1])]))
    chunks = AlignedChunks(side, side, 4 * (stops - begins))

    def step() -> torch.Tensor:
        observed = observed_log_probs(t, teacher, labels, starts)
        return chunk_loss(x, head, chunks, observed, starts=starts)

    return step


def prefix_step(x: torch.Tensor, head: Head, t: torch.Tensor, teacher: Head, vocab: int) -> Step:
    """A fifth of the student's tokens start inside a teacher token, with 200 candidates each."""
    rows, inside = len(x), len(x) // 5
    rng = np.random.default_rng(2)
    whole = np.minimum(np.arange(vocab), rng.integers(0, vocab, vocab))
    merge = PrefixMerge(SimpleNamespace(whole=whole, num_tokens=(vocab, vocab)))  # type: ignore[arg-type]
    prefix = torch.cat([torch.full((rows - inside,), -1), torch.arange(inside)])
    offsets = 200 * torch.arange(inside + 1)
    candidates, continuations = (torch.from_numpy(rng.integers(0, vocab, 200 * inside)) for _ in range(2))
    moved = torch.where(torch.arange(rows) % 10 == 0, 5, -1)
    owner = (moved >= 0).nonzero().squeeze(1)
    observed = candidates[torch.cat([torch.zeros(rows - inside, dtype=torch.int64), offsets[:-1]])]
    made = PrefixRows(
        torch.zeros(rows, 2, dtype=torch.int64),
        prefix,
        offsets,
        candidates,
        continuations,
        observed,
        moved,
        torch.from_numpy(whole)[observed],
        torch.zeros(len(owner), dtype=torch.int64),
        torch.zeros(len(owner), dtype=torch.int64),
        owner,
    )
    return lambda: prefix_loss(x, head, t, teacher, made, merge, torch.full((len(owner),), -5.0))


def gold_step(
    x: torch.Tensor, head: Head, t: torch.Tensor, teacher: Head, labels: torch.Tensor, classes: EventMerge
) -> Step:
    """Three quarters of the rows begin a chunk, the others are further tokens of one."""
    rows = len(x)
    starts = rows * 3 // 4
    more = rows - starts
    owner = torch.arange(more) * 3
    origin = torch.full((starts,), -1).index_fill_(0, owner, 7)
    side = ChunkSide(labels[:starts], origin, torch.arange(starts, rows), labels[starts:], owner)
    event = torch.full((starts,), classes.num_classes)
    made = GoldRows(torch.zeros(starts, 2, dtype=torch.int64), event, side, side)

    def step() -> torch.Tensor:
        rest = observed_log_probs(t[starts:], teacher, labels[starts:]).tokens
        return gold_loss(
            x[:starts], head, x[starts:], t[:starts], teacher, rest, made, classes, divergence="forward-kl"
        )

    return step


def seconds(step: Step) -> float:
    """Processor time of forward and backward pass: what else runs on the machine counts less."""
    started = time.process_time()
    step().backward()
    return time.process_time() - started


def largest(step: Step) -> int:
    """Bytes of the largest single allocation."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step().backward()
    return max(event.cpu_memory_usage for event in record.events())


def time_losses(vocab: int, rows: int, width: int, repeats: int) -> float:
    """Print a line for each loss; the baseline's seconds."""
    steps = losses(vocab, rows, width)
    found: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step().backward()
    for _ in range(repeats):
        for name, step in steps.items():
            found[name].append(seconds(step))
    base = found["forward KL, one vocabulary"]
    for name, values in found.items():
        ratio = statistics.median(value / other for value, other in zip(values, base, strict=True))
        print(f"V {vocab:>7,} N {rows:>5,}  {name:<28} {statistics.median(values):7.3f} s  ratio {ratio:5.2f}")
    return statistics.median(base)


def memory(vocab: int, rows: int, width: int) -> None:
    """The largest allocation at N and 2 N rows, against what N times V would be."""
    one, two = losses(vocab, rows, width), losses(vocab, 2 * rows, width)
    for name in one:
        a, b = largest(one[name]), largest(two[name])
        print(
            f"V {vocab:>7,}  {name:<28} largest allocation {a / 2**20:6.1f} MiB, {b / 2**20:6.1f} MiB for twice the "
            f"rows; one matrix of {rows:,} x V {rows * vocab * 4 / 2**20:.0f} MiB"
        )


def preparation(folder: Path, num_tokens: int, loss_seconds_per_row: float) -> None:
    """Classes of a real pair, and alignment of a batch, as shares of the loss of that batch."""
    from vocabalign.text.alignment import align_tokens
    from vocabalign.text.tokenizers import load_vocabulary

    student, teacher = (load_vocabulary(folder / "tokenizers" / name) for name in ("llama2", "gpt2"))
    started = time.perf_counter()
    classes = common_classes(student, teacher)
    print(
        f"classes of {len(student):,} x {len(teacher):,} tokens: {time.perf_counter() - started:.1f} s, once; "
        f"{classes.num_classes:,} classes"
    )
    started = time.perf_counter()
    prefixes = PrefixMap(student, teacher)
    print(f"prefix map: {time.perf_counter() - started:.1f} s, once")
    lines = (folder / "corpora" / "ntrex" / "en.txt").read_text(encoding="utf-8").splitlines()
    encoded = []
    total = 0
    for start in range(0, len(lines), 20):
        text = " ".join(lines[start : start + 20])
        encoded.append((np.array(student.encode(text)), np.array(teacher.encode(text)), text))
        total += len(encoded[-1][0])
        if total >= num_tokens:
            break
    for name in ("first", "second"):
        started = time.perf_counter()
        documents, at = [], [0, 0]
        for mine, theirs, text in encoded:
            alignment = align_tokens(student, mine, teacher, theirs, text)
            if alignment is not None:
                documents.append(Document(alignment, mine, theirs, *at, same_opening=False))
            at = [at[0] + len(mine), at[1] + len(theirs)]
        chunks, starts = aligned_chunks(documents), aligned_starts(documents)
        spent = time.perf_counter() - started
        prefix_rows(documents, prefixes)
        more = time.perf_counter() - started - spent
        share = spent / (total * loss_seconds_per_row)
        print(
            f"{name} batch of {total:,} tokens: alignment, chunks and starts {1e3 * spent:.1f} ms "
            f"({100 * share:.2f} % of the loss), prefix rows {1e3 * more:.1f} ms "
            f"({100 * more / (total * loss_seconds_per_row):.2f} %); {len(chunks):,} chunks, {len(starts):,} starts"
        )


def main() -> None:
    """Print all three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, nargs="+", default=[32_000, 128_000])
    parser.add_argument("--rows", type=int, default=768)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-memory", action="store_true")
    arguments = parser.parse_args()
    base = {v: time_losses(v, arguments.rows, arguments.hidden, arguments.repeats) for v in arguments.vocab}
    if not arguments.no_memory:
        memory(arguments.vocab[0], arguments.rows, 64)
    material = os.environ.get("VOCABALIGN_MATERIAL")
    if material:
        preparation(Path(material), 16_000, base[arguments.vocab[0]] / arguments.rows)


if __name__ == "__main__":
    main()
