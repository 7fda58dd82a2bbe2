"""No loss makes a tensor of positions times vocabulary, and what it holds does not grow with their product."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vocabalign.losses.consistency import consistency_loss
from vocabalign.losses.decoupled import LABELLED
from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.losses.fused import Head, fused_loss
from vocabalign.losses.mixture import CrossEntropyRows
from vocabalign.losses.ranking import plackett_luce_loss
from vocabalign.losses.sparse import sampled_loss, top_loss
from vocabalign.losses.streaming import Side, stream_rows
from vocabalign.losses.targets import capture_ranking, capture_samples, capture_top

N, V, H = 2048, 4096, 8


class Largest(TorchDispatchMode):
    """The most bytes that any single operation gave back."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        for result in results if isinstance(results, (tuple, list)) else (results,):
            if isinstance(result, torch.Tensor):
                self.bytes = max(self.bytes, result.numel() * result.element_size())
        return results


def teacher(name, **more):
    return lambda x, head, y, t: (
        fused_loss(
            x,
            head,
            y,
            teacher_hidden=t,
            teacher_head=Head(head.weight.detach()),
            divergence=name,
            **{"weight": 0.5, **more},
        ).loss
    )


def frozen(head):
    return Head(head.weight.detach())


LOSSES = {
    "cross-entropy": lambda x, head, y, t: fused_loss(x, head, y).loss,
    **{name: teacher(name) for name in (*DIVERGENCES, *LABELLED)},
    "temperature": teacher("jensen-shannon", temperature=2.0),
    "standardised": teacher("forward-kl", standardise=True),
    "mixture": teacher({name: 0.1 for name in DIVERGENCES}),
    "top-k": lambda x, head, y, t: top_loss(x, head, y, capture_top(t, frozen(head), 8)).loss,
    "renormalised": lambda x, head, y, t: (
        top_loss(x, head, y, capture_top(t, frozen(head), 8), tail="renormalised").loss
    ),
    "sampled": lambda x, head, y, t: sampled_loss(x, head, y, capture_samples(t, frozen(head), 8)).loss,
    "plackett-luce": lambda x, head, y, t: plackett_luce_loss(x, head, y, capture_ranking(t, frozen(head), y, 8)),
    "consistency": lambda x, head, y, t: consistency_loss(x, head, t, head, y),
    "rows": lambda x, head, y, t: stream_rows(CrossEntropyRows(y), [Side(x, head)]).square().mean(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_no_tensor_of_half_the_logits_in_two_bytes(name):
    g = torch.Generator().manual_seed(0)
    x, w = (torch.randn(rows, H, generator=g).requires_grad_() for rows in (N, V))
    labels = torch.randint(0, V, (N,), generator=g)
    with Largest() as largest:
        LOSSES[name](x, Head(w), labels, torch.randn(N, H, generator=g)).backward()
    assert x.grad.any() and w.grad.any()
    assert largest.bytes < N * V * 2


@pytest.mark.parametrize("name", ["jensen-shannon", "top-k"])
def test_memory_has_no_slope_in_positions_times_vocabulary(name):
    def peak(n):
        g = torch.Generator().manual_seed(0)
        x, w = (torch.randn(rows, H, generator=g).requires_grad_() for rows in (n, V))
        labels = torch.randint(0, V, (n,), generator=g)
        t = torch.randn(n, H, generator=g)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as record:
            LOSSES[name](x, Head(w), labels, t).backward()
        held = highest = 0
        for event in record.profiler.kineto_results.events():
            if event.name() == "[memory]":
                held += event.nbytes()
                highest = max(highest, held)
        return highest

    # Blocks are full from 128 rows on; what is left are hidden states, labels, values and targets.
    small = peak(512)
    assert small > 128 * V * 4
    assert peak(1024) - small < 0.05 * 512 * V * 4
