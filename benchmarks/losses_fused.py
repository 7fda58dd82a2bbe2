"""Time and memory of the streamed Jensen-Shannon loss beside the formula written out, forward and backward.

Memory is the peak beyond the inputs and the gradients. Each way runs in processes of its own, by turns; the bare matrix
products are timed as well. Processor seconds (of all threads) tell more than seconds where the machine is busy.

python benchmarks/losses_fused.py
python benchmarks/losses_fused.py --small
python benchmarks/losses_fused.py --device cuda --dtype bfloat16 --hidden 2048 --teacher-hidden 4096 --case 8192x128256
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vocabalign.losses.fused import Head, fused_loss

CASES = ["768x32000", "1024x128256", "768x262144"]
Way = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def naive(x: Tensor, w: Tensor, teacher_x: Tensor, teacher_w: Tensor, labels: Tensor) -> Tensor:
    """The formula as GKD trainers write it, with the mean over positions."""
    q = F.log_softmax((x @ w.T).float(), -1)
    with torch.no_grad():
        p = F.log_softmax((teacher_x @ teacher_w.T).float(), -1)
    m = torch.logaddexp(p, q) - math.log(2)
    both = F.kl_div(m, p, log_target=True, reduction="sum") + F.kl_div(m, q, log_target=True, reduction="sum")
    return both / 2 / len(labels)


def streamed(x: Tensor, w: Tensor, teacher_x: Tensor, teacher_w: Tensor, labels: Tensor) -> Tensor:
    """Ours."""
    return fused_loss(
        x,
        Head(w),
        labels,
        teacher_hidden=teacher_x,
        teacher_head=Head(teacher_w),
        divergence="jensen-shannon",
        weight=1.0,
    ).loss


def products(x: Tensor, w: Tensor, teacher_x: Tensor, teacher_w: Tensor, labels: Tensor) -> Tensor:
    """The four matrix products alone, in blocks; no loss, no gradient."""
    total = torch.zeros_like(w, dtype=torch.float32)
    step = max(16, (1 << 29) // (w.shape[0] * 4))
    with torch.no_grad():
        for at in range(0, len(x), step):
            z = x[at : at + step] @ w.T
            teacher_x[at : at + step] @ teacher_w.T
            z @ w
            total += z.T @ x[at : at + step]
    return total


WAYS: dict[str, Way] = {"naive": naive, "streamed": streamed, "products": products}


def measure(way: str, n: int, v: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds, bytes beyond inputs and gradients, and the loss of one forward and backward pass."""
    device, dtype = arguments.device, getattr(torch, arguments.dtype)
    g = torch.Generator().manual_seed(0)
    make = lambda *shape: torch.randn(*shape, generator=g).div_(shape[-1] ** 0.25).to(device, dtype)  # noqa: E731
    x, w = make(n, arguments.hidden).requires_grad_(), make(v, arguments.hidden).requires_grad_()
    inputs = (x, w, make(n, arguments.teacher_hidden), make(v, arguments.teacher_hidden))
    labels = torch.randint(0, v, (n,), generator=g).to(device)
    gradients = (x.numel() + w.numel()) * x.element_size()
    # Libraries and threads start here, not in the measurement.
    small = (x[:64], w[:1000], inputs[2][:64], inputs[3][:1000], labels[:64] % 1000)
    WAYS[way](*small).sum()
    seconds, processor = [], []
    before = _peak(device, reset=True)
    for _ in range(arguments.repeat):
        x.grad = w.grad = None
        _synchronise(device)
        started, worked = time.perf_counter(), time.process_time()
        loss = WAYS[way](*inputs, labels)
        if loss.requires_grad:
            loss.backward()
        _synchronise(device)
        seconds.append(time.perf_counter() - started)
        processor.append(time.process_time() - worked)
    peak = _peak(device) - before - gradients
    return {"seconds": min(seconds), "processor": min(processor), "bytes": peak, "loss": float(loss.sum())}


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _peak(device: str, reset: bool = False) -> int:
    if device == "cuda":
        if reset:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated()
    if reset:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_process(way: str, case: str, arguments: argparse.Namespace) -> dict[str, float]:
    """``measure`` in a fresh interpreter, so that one way's memory is not another's."""
    command = [sys.executable, __file__, "--child", way, "--case", case, "--repeat", str(arguments.repeat)]
    for name in ("device", "dtype", "hidden", "teacher_hidden"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    """Print seconds, megabytes and ratios for every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", help="positions x vocabulary; may be repeated")
    parser.add_argument("--small", action="store_true", help="one small size")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--teacher-hidden", type=int, default=256)
    parser.add_argument("--turns", type=int, default=3, help="processes of each way, by turns")
    parser.add_argument("--repeat", type=int, default=2, help="passes in a process; the fastest counts")
    parser.add_argument("--child", choices=list(WAYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cases = ["256x8192"] if arguments.small else arguments.case or CASES
    if arguments.child:
        n, v = map(int, cases[0].split("x"))
        print(json.dumps(measure(arguments.child, n, v, arguments)))
        return
    for case in cases:
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(arguments.turns):
            for way, results in found.items():
                results.append(in_process(way, case, arguments))
        best = {way: min(result["seconds"] for result in results) for way, results in found.items()}
        work = {way: min(result["processor"] for result in results) for way, results in found.items()}
        size = {way: statistics.median(result["bytes"] for result in results) for way, results in found.items()}
        difference = abs(found["streamed"][0]["loss"] / found["naive"][0]["loss"] - 1)
        print(
            f"{case:12} naive {best['naive']:7.3f} s {size['naive'] / 1e6:7.0f} MB  "
            f"streamed {best['streamed']:7.3f} s {size['streamed'] / 1e6:5.0f} MB  "
            f"time ratio {best['streamed'] / best['naive']:.3f}  "
            f"processor time ratio {work['streamed'] / work['naive']:.3f}  "
            f"memory ratio {size['streamed'] / size['naive']:.3f}  "
            f"time / matrix products {best['streamed'] / best['products']:.2f}  losses differ by {difference:.0e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
