"""A tiny world in which everything can be counted: texts with probabilities, and two tokenizers.

A model of such a world knows, by counting texts, the exact probability of every next token after any tokens.
"""

import itertools
from dataclasses import replace

import numpy as np
import torch

from vocabalign.losses.aligned import Document
from vocabalign.losses.fused import fused_loss
from vocabalign.losses.logits import Head
from vocabalign.text.alignment import align_tokens
from vocabalign.text.tokenizers import load_vocabulary

SMALL = [b"a", b"b", b" ", b"ab"]
LARGE = [b"a", b"b", b" ", b" a", b"ba", b" ab", b"aba", b"bb"]


def vocabulary(tokens, eos=True):
    """Greedy longest match; unknown text becomes the unknown token. Special ids: unknown, BOS, EOS, in this order."""
    tokens = list(tokens)
    index = {token: i for i, token in reversed(list(enumerate(tokens)))}
    longest = max(map(len, index))

    def encode(text):
        raw, ids, at = text.encode(), [], 0
        while at < len(raw):
            size = next((n for n in range(min(longest, len(raw) - at), 0, -1) if raw[at : at + n] in index), 0)
            ids.append(index[raw[at : at + size]] if size else len(tokens))
            at += size or 1
        return ids

    specials = [None, None, None] if eos else [None, None]
    made = load_vocabulary((tokens + specials, encode))
    roles = {"unk": len(tokens), "bos": len(tokens) + 1} | ({"eos": len(tokens) + 2} if eos else {})
    return replace(made, roles=roles)


def texts(length=4, letters="ab ", seed=0):
    """Every text up to a length, with a probability."""
    found = ["".join(part) for n in range(1, length + 1) for part in itertools.product(letters, repeat=n)]
    weights = np.random.default_rng(seed).exponential(size=len(found)) ** 2
    return dict(zip(found, weights / weights.sum(), strict=True))


class World:
    """Texts and one tokenizer: the model that knows them by heart."""

    def __init__(self, vocabulary, probabilities):
        self.vocabulary = vocabulary
        self.cuts = {text: self.cut(text) for text in probabilities}
        self.probabilities = probabilities

    def cut(self, text):
        roles = self.vocabulary.roles
        return [roles["bos"], *self.vocabulary.encode(text), roles["eos"]]

    def next(self, before):
        """(V,) probabilities of the next token."""
        result = np.zeros(len(self.vocabulary))
        for text, cut in self.cuts.items():
            if cut[: len(before)] == list(before) and len(cut) > len(before):
                result[cut[len(before)]] += self.probabilities[text]
        return result / result.sum()

    def hidden(self, text):
        """(L, V) log-probabilities: with the identity as head they are the logits."""
        cut = self.cut(text)
        rows = [self.next(cut[: i + 1]) for i in range(len(cut) - 1)] + [np.ones(len(self.vocabulary))]
        return torch.tensor(np.log(np.maximum(np.array(rows), 1e-300)))

    @property
    def head(self):
        return Head(torch.eye(len(self.vocabulary), dtype=torch.float64))


def document(student, teacher, text):
    """A text on both sides, with BOS and EOS."""
    ids = [
        [v.roles["bos"], *v.encode(text), *([v.roles["eos"]] if "eos" in v.roles else [])] for v in (student, teacher)
    ]
    return Document(align_tokens(student, ids[0], teacher, ids[1]), np.array(ids[0]), np.array(ids[1]))


def random_side(rows, width, columns, seed, dtype=torch.float64):
    """Hidden states and a head."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, generator=generator, dtype=torch.float64).to(dtype)
    return hidden, Head(torch.randn(columns, width, generator=generator, dtype=torch.float64).to(dtype))


def check_plain(loss, hidden, head, rows, divergence):
    """A loss across one vocabulary is the plain divergence of hidden states and the teacher's head, bit for bit.

    ``rows`` are the student's and the teacher's hidden states, and the teacher's head.
    """
    mine, theirs, teacher_head = rows
    plain = fused_loss(
        mine,
        head,
        torch.zeros(len(mine), dtype=torch.int64),
        teacher_hidden=theirs,
        teacher_head=teacher_head,
        divergence=divergence,
        weight=1.0,
    ).loss
    assert loss == plain
    for a, b in zip(*(torch.autograd.grad(value, (hidden, head.weight)) for value in (loss, plain))):
        assert torch.equal(a, b)


def without_large_buffers(function, limit):
    """The largest single allocation while a function runs must be below a limit in bytes."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        function()
    largest = max(event.cpu_memory_usage for event in record.events())
    assert largest < limit, (largest, limit)
