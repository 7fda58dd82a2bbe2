"""A teacher's expectations corrected by the text: what moves, what stays, and where it is refused silently."""

import json

import pytest
import torch

from tests.losses.toy import random_side
from tests.train.runs import distilled, losses, same
from vocabalign.config import make_config
from vocabalign.losses.logits import Head
from vocabalign.manifests import read_manifest
from vocabalign.stages import DistillCacheConfig, TrainingOptions
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train import caches
from vocabalign.train.teacher_calibration import LARGEST, calibrate, corrected, correction_of, expectations
from vocabalign.train.teachers import read_teacher

CPU = torch.device("cpu")


def read(folder):
    vocabulary = load_vocabulary(folder)
    return read_teacher(folder, vocabulary, "float32", "cpu", False, CPU), vocabulary


def test_the_mean_distribution_comes_near_that_of_the_text(spaced, corpus_file):
    teacher, vocabulary = read(spaced)
    texts = [json.loads(line)["text"] for line in corpus_file.read_text().splitlines()]
    before, there = expectations(teacher, vocabulary, texts)
    assert float(before.sum()) == pytest.approx(float(there.sum())) and float(there.sum()) > 500
    moved = calibrate([str(corpus_file)], TrainingOptions(), teacher, vocabulary, CPU)
    after, again = expectations(teacher, vocabulary, texts)
    assert torch.equal(there, again)
    distances = [float((side - there).abs().sum() / there.sum() / 2) for side in (before, after)]
    assert moved == pytest.approx(distances[0]) and distances[1] < 0.5 * distances[0]


def test_special_and_rare_tokens_stay_as_they_are(spaced):
    vocabulary = load_vocabulary(spaced)
    expected = torch.full((len(vocabulary),), 500.0, dtype=torch.float64)
    there = expected.clone()
    special = min(vocabulary.special_ids)
    plain = next(i for i in range(len(vocabulary)) if i not in vocabulary.special_ids)
    there[[special, plain]] = 0
    expected[plain + 1], there[plain + 1] = 0.01, 1
    expected[plain + 2], there[plain + 2] = 1e9, 0
    correction = correction_of(expected, there, vocabulary)
    assert correction[special] == 0 and correction[plain] < -3 and correction[plain + 2] == -LARGEST
    assert 0 < float(correction[plain + 1]) < 0.1
    others = torch.ones(len(vocabulary), dtype=torch.bool)
    others[[special, plain, plain + 1, plain + 2]] = False
    assert not correction[others].any()


@pytest.mark.parametrize("bias", [False, True])
def test_logits_are_raised_by_the_correction(bias):
    hidden, head = random_side(4, 3, 9, 0)
    old = Head(head.weight, torch.arange(9.0).double() if bias else None, scale=0.5)
    new = corrected(old, torch.arange(7.0))

    def logits(h):
        return h.scale * (hidden @ h.weight.T + (0 if h.bias is None else h.bias))

    wanted = torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 0]).double()
    torch.testing.assert_close(logits(new) - logits(old), wanted.expand(4, 9))
    assert old.bias is None or torch.equal(old.bias, torch.arange(9.0).double())


@pytest.mark.parametrize("across", [False, True])
def test_a_run_is_taught_by_the_corrected_teacher(tmp_path, tiny_llama, spaced, twin, corpus_file, across):
    teacher = spaced if across else twin
    options = dict(check_teacher=False, distillation_weight=1.0)
    plain = distilled(tiny_llama, teacher, corpus_file, tmp_path / "plain", calibrate_teacher=False, **options)
    better = distilled(tiny_llama, teacher, corpus_file, tmp_path / "better", calibrate_teacher=True, **options)
    assert not same(plain, better) and losses(plain) != losses(better)
    (moved,) = read_manifest(better)["metrics"]["teacher_calibration"]
    assert 0 < moved < 1 and "teacher_calibration" not in read_manifest(plain)["metrics"]


@pytest.mark.parametrize("kind", ["top-k", "hidden"])
def test_a_cache_is_of_the_corrected_teacher(tmp_path, tiny_llama, spaced, corpus_file, kind, caplog):
    """All that is kept is what the corrected teacher says at hand."""
    options = dict(check_teacher=False, distillation_weight=1.0, loss="event")
    schedule = {"steps": 2, "context": 127, "batch_size": 2}
    values = {"top_k": 480, "exact": True} if kind == "top-k" else {}
    taught = {"online": distilled(tiny_llama, spaced, corpus_file, tmp_path / "online", schedule, **options)}
    caplog.set_level("INFO", logger="vocabalign")
    for name, wanted in (("corrected", True), ("plain", False)):
        fields = {"teacher": str(spaced), "corpus": [str(corpus_file)], "kind": kind, **values}
        cache = caches.run(
            make_config(DistillCacheConfig, {**fields, "out": tmp_path / name, "calibrate_teacher": wanted})
        )
        assert ("teacher_calibration" in read_manifest(cache)["metrics"]) == wanted
        caplog.clear()
        taught[name] = distilled(
            tiny_llama, [], corpus_file, tmp_path / f"{name}-out", schedule, cache=cache, **options
        )
        assert ("not corrected to the text" in caplog.text) != wanted
    assert losses(taught["corrected"]) == pytest.approx(losses(taught["online"]), rel=1e-2)
    assert losses(taught["plain"]) != pytest.approx(losses(taught["online"]), rel=2e-2)


def test_without_text_the_teacher_is_as_it_was(spaced):
    teacher, vocabulary = read(spaced)
    before = teacher.head(CPU)
    expected, there = expectations(teacher, vocabulary, [])
    assert not there.any() and not expected.any() and teacher.head(CPU) is before
