"""A small student learns from a teacher with another tokenizer, in 200 steps: nearer to it than by the text alone."""

import itertools
import math

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from vocabalign.losses.aligned import Document, aligned_chunks, aligned_starts
from vocabalign.losses.chunks import chunk_loss
from vocabalign.losses.classes import common_classes
from vocabalign.losses.events import EventMerge, event_loss
from vocabalign.losses.fused import fused_loss
from vocabalign.losses.likelihood import observed_log_probs
from vocabalign.losses.logits import Head
from vocabalign.models import load_model
from vocabalign.text.alignment import align_tokens
from vocabalign.text.standard_library import passages
from vocabalign.text.tokenizers import load_vocabulary

STEPS, DOCUMENTS, BYTES = 200, 4, 240


class Pair:
    """Texts on both sides, and what the teacher says of them."""

    def __init__(self) -> None:
        self.student, self.teacher = load_vocabulary("demo:source"), load_vocabulary("demo:teacher")
        self.model = load_model("demo:teacher", dtype=torch.float32, device=torch.device("cpu"))
        self.head = Head(self.model.get_output_embeddings().weight.detach())
        self.classes = EventMerge(common_classes(self.student, self.teacher))
        pieces = (p.text[i : i + BYTES] for p in passages() for i in range(0, len(p.text), BYTES))
        texts = itertools.islice((t for t in pieces if t.isascii() and len(t) == BYTES), 40 * 97)
        # From all over the library, in an order of its own.
        self.texts = list(itertools.islice(sorted(texts, key=lambda t: hash_of(t)), 97 * DOCUMENTS))

    def batch(self, texts: list[str], student: LlamaForCausalLM) -> dict:
        documents, hidden, theirs, labels = [], [], [], []
        at = [0, 0]
        for text in texts:
            ids = [np.array([v.roles["bos"], *v.encode(text)]) for v in (self.student, self.teacher)]
            alignment = align_tokens(self.student, ids[0], self.teacher, ids[1], text)
            if alignment is None:
                continue
            documents.append(Document(alignment, *ids, *at))
            at = [at[0] + len(ids[0]), at[1] + len(ids[1])]
            hidden.append(student.model(torch.from_numpy(ids[0])[None]).last_hidden_state[0])
            with torch.no_grad():
                theirs.append(self.model.base_model(torch.from_numpy(ids[1])[None]).last_hidden_state[0])
            labels.append(torch.cat([torch.from_numpy(ids[0][1:]), torch.tensor([-100])]))
        return {
            "documents": documents,
            "hidden": torch.cat(hidden),
            "theirs": torch.cat(theirs),
            "labels": torch.cat(labels),
            "bytes": sum(int(d.alignment.num_bytes) for d in documents),
        }

    def event_kl(self, batch: dict, head: Head) -> torch.Tensor:
        starts = aligned_starts(batch["documents"])
        return event_loss(batch["hidden"][starts[:, 0]], head, batch["theirs"][starts[:, 1]], self.head, self.classes)

    def chunks(self, batch: dict, head: Head) -> torch.Tensor:
        chunks = aligned_chunks(batch["documents"])
        rows = chunks.teacher
        observed = observed_log_probs(batch["theirs"][rows.positions], self.head, rows.labels)
        return chunk_loss(batch["hidden"][chunks.student.positions], head, chunks, observed)

    def loss(self, name: str, batch: dict, head: Head) -> torch.Tensor:
        if name == "cross-entropy":
            return fused_loss(batch["hidden"], head, batch["labels"]).loss
        return self.event_kl(batch, head) if name == "event" else self.chunks(batch, head)


def hash_of(text: str) -> bytes:
    import hashlib

    return hashlib.sha256(text.encode()).digest()


def learn(pair: Pair, ways: dict[str, float]) -> dict[str, list[float]]:
    """Scores on held-out texts before and after training with a mixture of losses."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(pair.student), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=True,
    )  # fmt: skip
    student = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3, weight_decay=0)
    heldout, train = pair.texts[:24], pair.texts[24:]
    scores: dict[str, list[float]] = {"bits_per_byte": [], "event_kl": []}

    def score() -> None:
        with torch.no_grad():
            batch = pair.batch(heldout, student)
            entropy = fused_loss(batch["hidden"], Head(student.lm_head.weight), batch["labels"], num_items=1.0).loss
            scores["bits_per_byte"].append(float(entropy) / batch["bytes"] / math.log(2))
            scores["event_kl"].append(float(pair.event_kl(batch, Head(student.lm_head.weight))))

    score()
    for step in range(STEPS):
        texts = [train[(step * DOCUMENTS + i) % len(train)] for i in range(DOCUMENTS)]
        batch = pair.batch(texts, student)
        head = Head(student.lm_head.weight)
        loss = sum(weight * pair.loss(name, batch, head) for name, weight in ways.items())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    score()
    return scores


@pytest.mark.slow
def test_event_and_chunk_losses_bring_the_student_nearer_to_the_teacher_than_text_alone():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pair = Pair()
    plain = learn(pair, {"cross-entropy": 1.0})
    taught = learn(pair, {"event": 1.0, "chunks": 1.0, "cross-entropy": 0.1})
    torch.set_num_threads(threads)
    for scores in (plain, taught):
        assert scores["bits_per_byte"][1] < 0.8 * scores["bits_per_byte"][0]
        assert scores["event_kl"][1] < 0.8 * scores["event_kl"][0]
    assert taught["event_kl"][1] < plain["event_kl"][1]
