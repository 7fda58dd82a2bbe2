"""Agreement and KL against the definition, over full distributions and over events."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import make_llama, make_metaspace_tokenizer
from vocabalign.evaluation import teacher as module
from vocabalign.evaluation.options import Place, Subject
from vocabalign.evaluation.teacher import TeacherComparison
from vocabalign.losses.classes import common_classes
from vocabalign.text.alignment import align_tokens
from vocabalign.text.compression import encode_documents
from vocabalign.text.tokenizers import load_vocabulary

PLACE = Place(torch.device("cpu"), torch.float32)


def subject_of(folder, texts) -> Subject:
    vocabulary = load_vocabulary(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return Subject(folder.name, folder, model, vocabulary, encode_documents(vocabulary, texts))


@pytest.fixture(scope="module")
def twin(tmp_path_factory, tiny_llama):
    """Another model with the same vocabulary."""
    import shutil

    folder = tmp_path_factory.mktemp("twin")
    make_llama(folder, 400, seed=1)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_llama / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A model with another vocabulary, and more rows than tokens."""
    folder = tmp_path_factory.mktemp("other")
    make_metaspace_tokenizer(folder)
    return make_llama(folder, 512, seed=2)


def distributions(subject: Subject, ids: list[int], start: int) -> torch.Tensor:
    with torch.no_grad():
        logits = subject.model(torch.tensor([[start, *ids]])).logits[0]
    return logits[:, : len(subject.vocabulary)].double().softmax(-1)


def test_a_model_and_itself(tiny_llama, texts):
    record = TeacherComparison(str(tiny_llama), texts, PLACE)(subject_of(tiny_llama, texts))
    assert record["teacher_top1_agreement"] == 1
    assert record["teacher_kl_nats_per_position"] == pytest.approx(0, abs=1e-9)
    assert record["teacher_positions_share"] == 1
    assert record["teacher_same_vocabulary"]


def test_one_vocabulary_is_compared_as_it_is(tiny_llama, twin, texts):
    subject = subject_of(tiny_llama, texts)
    record = TeacherComparison(str(twin), texts, PLACE)(subject)
    nats, agreements, count = 0.0, 0, 0
    for ids in subject.ids:
        q, p = distributions(subject, ids, 0)[:-1], distributions(subject_of(twin, []), ids, 0)[:-1]
        nats += float((p * (p / q).log()).sum())
        agreements += int((p.argmax(-1) == q.argmax(-1)).sum())
        count += len(ids)
    assert record["teacher_positions"] == count
    assert record["teacher_top1_agreement"] == pytest.approx(agreements / count)
    assert record["teacher_kl_nats_per_position"] == pytest.approx(nats / count, rel=1e-5)
    num_bytes = sum(len(text.encode()) for text in texts)
    assert record["teacher_kl_bits_per_byte"] == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)


@pytest.mark.parametrize("at_once", [1, 3, 256])
def test_parts_change_nothing(tiny_llama, twin, texts, monkeypatch, at_once):
    whole = TeacherComparison(str(twin), texts, PLACE)(subject_of(tiny_llama, texts))
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", at_once)
    parts = TeacherComparison(str(twin), texts, PLACE)(subject_of(tiny_llama, texts))
    assert parts == pytest.approx(whole, rel=1e-5)


def test_two_vocabularies_are_compared_by_events_at_common_starts(tiny_llama, other, texts):
    subject, teacher = subject_of(tiny_llama, texts), subject_of(other, texts)
    record = TeacherComparison(str(other), texts, PLACE)(subject)
    classes = common_classes(subject.vocabulary, teacher.vocabulary)
    nats, agreements, count = 0.0, 0, 0
    for text, mine, theirs in zip(texts, subject.ids, teacher.ids, strict=True):
        q, p = distributions(subject, mine, 0), distributions(teacher, theirs, 1)
        alignment = align_tokens(subject.vocabulary, mine, teacher.vocabulary, theirs, text)
        for _, i, j in alignment.start_pairs:
            events = []
            for row, side in ((q[i + 1], classes.student), (p[j + 1], classes.teacher)):
                sums = np.array([row.numpy()[side == k].sum() for k in range(classes.num_classes)])
                events.append(sums / sums.sum())
            nats += float((events[1] * np.log(events[1] / events[0])).sum())
            agreements += int(events[0].argmax() == events[1].argmax())
            count += 1
    assert record["teacher_positions"] == count > 50
    assert record["teacher_events"] == classes.num_classes
    assert not record["teacher_same_vocabulary"]
    assert record["teacher_top1_agreement"] == pytest.approx(agreements / count)
    assert record["teacher_kl_nats_per_position"] == pytest.approx(nats / count, rel=1e-4)


def test_long_documents_have_half_a_window_before_every_position(tiny_llama, twin, monkeypatch):
    read = []
    original = module._Side.logits

    def watch(self, ids, positions):
        end = int(positions[-1]) + 1
        read.append((int(positions[0]), max(0, end - self.window)))
        return original(self, ids, positions)

    monkeypatch.setattr(module._Side, "logits", watch)
    text = "The cat sat on the mat, and the dog lay by the door. " * 40
    record = TeacherComparison(str(twin), [text], PLACE, window=64)(subject_of(tiny_llama, [text]))
    assert record["teacher_positions_share"] == 1
    assert all(begin == 0 or first - begin >= 32 for first, begin in read)


def test_texts_that_never_meet_leave_a_note(tiny_llama, other):
    subject = subject_of(tiny_llama, [""])
    record = TeacherComparison(str(other), [""], PLACE)(subject)
    assert list(record) == ["teacher_note"]
