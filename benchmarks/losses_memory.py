"""What every streamed loss allocates: its largest tensor, and how its peak grows with the number of positions.

Beside them the size of the logits of one model in two bytes (N V 2), which no allocation may reach, and the loss
written out. Forward and backward, as the profiler counts them; the seconds are with the profiler on.

python benchmarks/losses_memory.py
python benchmarks/losses_memory.py --small
python benchmarks/losses_memory.py --device cuda --positions 8192 --vocabulary 128256
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from vocabalign.losses.consistency import consistency_loss
from vocabalign.losses.decoupled import LABELLED
from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.losses.fused import Head, fused_loss
from vocabalign.losses.ranking import plackett_luce_loss
from vocabalign.losses.sparse import sampled_loss, top_loss
from vocabalign.losses.targets import capture_ranking, capture_samples, capture_top

Loss = Callable[[Tensor, Head, Tensor, Tensor], Tensor]


def distilled(divergence: object, **more: object) -> Loss:
    """Half cross-entropy, half the divergence, from a teacher with the same head."""
    return lambda x, head, labels, teacher: (
        fused_loss(
            x,
            head,
            labels,
            teacher_hidden=teacher,
            teacher_head=Head(head.weight.detach()),
            divergence=divergence,  # type: ignore[arg-type]
            weight=0.5,
            **more,  # type: ignore[arg-type]
        ).loss
    )


def written_out(x: Tensor, head: Head, labels: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy and forward KL on full logits."""
    z = x @ head.weight.T
    p = F.log_softmax(teacher @ head.weight.detach().T, -1)
    kl = F.kl_div(F.log_softmax(z, -1), p, log_target=True, reduction="batchmean")
    return (F.cross_entropy(z, labels) + kl) / 2


LOSSES: dict[str, Loss] = {
    "forward-kl written out": written_out,
    "cross-entropy": lambda x, head, y, t: fused_loss(x, head, y).loss,
    **{name: distilled(name) for name in (*DIVERGENCES, *LABELLED)},
    "all divergences at once": distilled({name: 0.1 for name in DIVERGENCES}),
    "jensen-shannon, T 2": distilled("jensen-shannon", temperature=2.0),
    "standardised": distilled("forward-kl", standardise=True, temperature=2.0),
    "top-k, captured": lambda x, head, y, t: top_loss(x, head, y, capture_top(t, Head(head.weight.detach()), 64)).loss,
    "sampled, captured": lambda x, head, y, t: (
        sampled_loss(x, head, y, capture_samples(t, Head(head.weight.detach()), 50)).loss
    ),
    "plackett-luce, captured": lambda x, head, y, t: plackett_luce_loss(
        x, head, y, capture_ranking(t, Head(head.weight.detach()), y, 64)
    ),
    "consistency": lambda x, head, y, t: consistency_loss(x, head, t, head, y),
}


def measure(loss: Loss, n: int, v: int, h: int, device: str) -> tuple[int, int, float]:
    """Bytes of the largest allocation and of the peak beyond the inputs, and seconds."""
    g = torch.Generator().manual_seed(0)
    x, w = ((torch.randn(rows, h, generator=g) / h**0.25).to(device).requires_grad_() for rows in (n, v))
    labels = torch.randint(0, v, (n,), generator=g).to(device)
    teacher = torch.randn(n, h, generator=g).to(device)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    started = time.perf_counter()
    with profile(activities=activities, profile_memory=True) as record:
        loss(x, Head(w), labels, teacher).backward()
    seconds = time.perf_counter() - started
    held = peak = largest = 0
    for event in record.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            peak, largest = max(peak, held), max(largest, event.nbytes())
    return largest, peak, seconds


def main() -> None:
    """Print one line for each loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=1024)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true", help="a vocabulary of 4,000")
    arguments = parser.parse_args()
    n, v = arguments.positions, 4000 if arguments.small else arguments.vocabulary
    logits = n * v
    print(f"N {n}, V {v}, logits of one model in two bytes {logits * 2 / 1e6:.0f} MB")
    for name, loss in LOSSES.items():
        measure(loss, 64, v, arguments.hidden, arguments.device)
        _, half, _ = measure(loss, n // 2, v, arguments.hidden, arguments.device)
        largest, peak, seconds = measure(loss, n, v, arguments.hidden, arguments.device)
        print(
            f"{name:26} largest {largest / 1e6:6.1f} MB, {largest / logits / 2:5.2f} of N V 2   "
            f"peak {peak / 1e6:6.1f} MB, slope {(peak - half) / (logits / 2):6.3f} bytes per logit   {seconds:6.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
