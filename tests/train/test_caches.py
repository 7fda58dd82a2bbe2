"""Caches of teachers: what they hold is what the teacher says, in few bytes, for any student, and never of another."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.train.runs import distilled, interrupted_at, losses
from vocabalign.config import make_config
from vocabalign.errors import ArtifactError, ConfigError
from vocabalign.manifests import read_manifest
from vocabalign.stages import DistillCacheConfig
from vocabalign.train import caches
from vocabalign.train.cache_format import bits_for, count_draws, fit_curve, pack_bits, read_curve, unpack_bits
from vocabalign.train.cache_reading import CachedRows, TargetCache

FAST = dict(check_teacher=False)
KINDS = ("log-probs", "top-k", "sampled", "hidden")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory, twin, spaced, corpus_file):
    """With the student's tokenizer and with another one; trained, so that there is something to learn."""
    options = dict(distillation_weight=0, learning_rate=1e-2)
    return {
        name: distilled(model, model, corpus_file, tmp_path_factory.mktemp(name) / "out", {"steps": 40}, **options)
        for name, model in (("one", twin), ("two", spaced))
    }


def cached(teacher, corpus, out, **values):
    fields = {"teacher": str(teacher), "corpus": [str(corpus)], "out": out, "calibrate_teacher": False, **values}
    return caches.run(make_config(DistillCacheConfig, fields))


@given(st.integers(1, 32), st.integers(1, 7), st.integers(0, 5), st.randoms())
def test_packed_bits_come_back(bits, count, rows, random):
    values = np.array([[random.randrange(1 << bits) for _ in range(count)] for _ in range(rows)], dtype=np.int64)
    values = values.reshape(rows, count)
    packed = pack_bits(values, bits)
    assert packed.shape == (rows, -(-bits * count // 8))
    assert (unpack_bits(packed, bits, count) == values).all()


@pytest.mark.parametrize("size", [2, 131_072, 131_073, 262_145, 2**20])
def test_ids_of_any_vocabulary_fit(size):
    ids = np.array([[0, size - 1, size // 2]])
    assert (unpack_bits(pack_bits(ids, bits_for(size)), bits_for(size), 3) == ids).all()
    assert bits_for(size) == int(np.ceil(np.log2(size)))


def test_a_curve_keeps_the_likeliest_and_the_sum():
    torch.manual_seed(0)
    logits = torch.randn(200, 1000) * 3
    log_probs = logits.log_softmax(-1).topk(50).values.numpy()
    back = read_curve(*fit_curve(log_probs), 50)
    assert np.allclose(back[:, :4], log_probs[:, :4], atol=0.02)
    assert np.allclose(np.exp(back).sum(1), np.exp(log_probs).sum(1), rtol=5e-3)
    divergence = (np.exp(log_probs) * (log_probs - back)).sum(1)
    assert abs(divergence).mean() < 0.01


def test_draws_are_counted():
    ids = np.array([[3, 3, 1, 3], [0, 9, 9, 0]])
    sizes, tokens, counts = count_draws(ids)
    assert sizes.tolist() == [2, 2] and tokens.tolist() == [1, 3, 0, 9] and counts.tolist() == [1, 3, 2, 2]


@pytest.mark.parametrize(
    ("kind", "loss"), [("hidden", "token"), ("top-k", "token"), ("hidden", "event"), ("top-k", "event")]
)
def test_all_tokens_of_a_cache_are_the_teacher_at_hand(tmp_path, tiny_llama, twin, corpus_file, kind, loss):
    values = {"top_k": 400, "exact": True} if kind == "top-k" else {}
    folder = cached(twin, corpus_file, tmp_path / "cache", kind=kind, **values)
    # Documents shorter than a block are read alone by both, so that the teacher has read the same.
    # Neither is corrected by the text.
    options = dict(loss=loss, distillation_weight=1.0, calibrate_teacher=False, **FAST)
    schedule = {"steps": 3, "context": 127, "batch_size": 2}
    online = distilled(tiny_llama, twin, corpus_file, tmp_path / "online", schedule, **options)
    offline = distilled(tiny_llama, [], corpus_file, tmp_path / "offline", schedule, cache=folder, **options)
    # A block that begins inside a document: the cache has read it from its beginning.
    assert losses(offline) == pytest.approx(losses(online), rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pair", ["one", "two"])
def test_every_kind_teaches_students_of_any_tokenizer(tmp_path, tiny_llama, teachers, corpus_file, kind, pair):
    folder = cached(teachers[pair], corpus_file, tmp_path / "cache", kind=kind)
    options = dict(distillation_weight=1.0, learning_rate=1e-2, cache=folder, **FAST)
    out = distilled(tiny_llama, str(teachers[pair]), corpus_file, tmp_path / "out", {"steps": 15}, **options)
    assert np.mean(losses(out)[-3:]) < 0.95 * np.mean(losses(out)[:3])


def test_bytes_per_token(tmp_path, twin, corpus_file):
    sizes = {}
    for kind in KINDS:
        folder = cached(twin, corpus_file, tmp_path / kind, kind=kind)
        sizes[kind] = read_manifest(folder)["metrics"]["bytes_per_token"]
    # Two log-probabilities and the width of the token; keys and offsets of these short documents beside them.
    assert sizes["log-probs"] < 7 and sizes["top-k"] < 90 and sizes["sampled"] < 160
    assert sizes["hidden"] == pytest.approx(2 * 32, abs=4)


def test_the_gradient_of_draws_is_that_of_the_distribution_on_average(tmp_path, twin, corpus_file):
    folder = cached(twin, corpus_file, tmp_path / "cache", kind="sampled", draws=255)
    exact = cached(twin, corpus_file, tmp_path / "exact", kind="top-k", top_k=400, exact=True)
    rows = torch.arange(60)
    drawn, whole = (CachedRows(TargetCache(path), torch.device("cpu")) for path in (folder, exact))
    targets, top = drawn.sampled(rows), whole.top(rows)
    estimate, truth = torch.zeros(60, 400), torch.zeros(60, 400)
    estimate.scatter_add_(1, targets.ids, targets.weights)
    truth.scatter_(1, top.ids, top.log_probs.exp())
    assert torch.allclose(estimate.sum(1), torch.ones(60), atol=1e-5)
    assert torch.allclose(estimate.mean(0), truth.mean(0), atol=4e-3)


def test_an_interrupted_cache_goes_on(tmp_path, twin, corpus_file, monkeypatch):
    whole = cached(twin, corpus_file, tmp_path / "whole", kind="sampled")
    monkeypatch.setattr(caches, "GROUP_CHARACTERS", 2000)
    monkeypatch.setattr(caches.ShardWriter, "add", _flush_each(caches.ShardWriter.add))
    with interrupted_at(3, caches.Reader, "read"):
        cached(twin, corpus_file, tmp_path / "parts", kind="sampled")
    assert not (tmp_path / "parts").exists()
    read = []
    monkeypatch.setattr(caches.Reader, "_framed", _counted(caches.Reader._framed, read))
    parts = cached(twin, corpus_file, tmp_path / "parts", kind="sampled")
    assert 0 < len(read) < 160
    mine, theirs = TargetCache(whole), TargetCache(parts)
    assert mine.places.keys() == theirs.places.keys() and len(theirs.shards) > len(mine.shards)
    for key in list(mine.places)[:20]:
        rows = [torch.tensor([cache._row(*cache.places[key])]) for cache in (mine, theirs)]
        found = [CachedRows(cache, torch.device("cpu")).sampled(row) for cache, row in zip((mine, theirs), rows)]
        assert torch.equal(found[0].ids, found[1].ids) and torch.equal(found[0].weights, found[1].weights)


def _flush_each(add):
    def added(self, *values):
        add(self, *values)
        self.flush()

    return added


def _counted(function, calls):
    def counted(self, item, ids):
        calls.append(item)
        return function(self, item, ids)

    return counted


def test_what_does_not_belong_to_the_cache_is_refused(tmp_path, tiny_llama, twin, spaced, corpus_file):
    folder = cached(twin, corpus_file, tmp_path / "cache", kind="top-k")
    arguments = dict(cache=folder, **FAST)
    with pytest.raises(ArtifactError, match="another tokenizer"):
        distilled(tiny_llama, str(spaced), corpus_file, tmp_path / "out", **arguments)
    with pytest.raises(ArtifactError, match="other weights"):
        distilled(tiny_llama, str(tiny_llama), corpus_file, tmp_path / "out", **arguments)
    other = tmp_path / "other.jsonl"
    lines = corpus_file.read_text().splitlines()
    other.write_text("\n".join([*lines[:100], *(json.dumps({"text": f"other {i} " * 40}) for i in range(20))]))
    with pytest.raises(ArtifactError, match="only 100 of the 120 documents.*another text"):
        distilled(tiny_llama, [], other, tmp_path / "out", **arguments)
    with pytest.raises(ConfigError, match="at temperature 1"):
        distilled(tiny_llama, [], corpus_file, tmp_path / "out", temperature=2.0, **arguments)
    with pytest.raises(ConfigError, match="cache of kind 'top-k' keeps"):
        distilled(tiny_llama, [], corpus_file, tmp_path / "out", loss="chunks", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_part_of_the_text_in_another_order_is_found(tmp_path, tiny_llama, twin, corpus_file):
    folder = cached(twin, corpus_file, tmp_path / "cache", kind="log-probs")
    lines = corpus_file.read_text().splitlines()
    (tmp_path / "part.jsonl").write_text("\n".join(reversed(lines[20:90])))
    distilled(tiny_llama, [], tmp_path / "part.jsonl", tmp_path / "out", {"steps": 1}, cache=folder, **FAST)


def test_a_broken_cache_is_refused(tmp_path, tiny_llama, twin, corpus_file):
    folder = cached(twin, corpus_file, tmp_path / "cache", kind="log-probs")
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    shard = broken / "00000.log_probs.npy"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(ArtifactError, match="changed or cut off"):
        TargetCache(broken)
    shard.unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        TargetCache(broken)
    with pytest.raises(ArtifactError, match="no cache of a teacher"):
        distilled(tiny_llama, [], corpus_file, tmp_path / "out", cache=_artifact(tmp_path), **FAST)


def _artifact(tmp_path):
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    return folder


def test_a_document_longer_than_the_teachers_context(tmp_path, twin, tmp_path_factory):
    (tmp_path / "long.txt").write_text("The cat sat on the mat, and the dog lay by the door. " * 20)
    short = cached(twin, tmp_path / "long.txt", tmp_path / "short", kind="log-probs", context=32)
    whole = cached(twin, tmp_path / "long.txt", tmp_path / "whole", kind="log-probs")
    values = [np.asarray(TargetCache(folder).shards[0]["log_probs"], dtype=np.float64) for folder in (short, whole)]
    assert len(values[0]) == len(values[1])
    assert np.allclose(values[0][:32], values[1][:32], atol=2e-3)
    assert not np.allclose(values[0][40:], values[1][40:], atol=1e-6)


def test_a_document_that_is_not_its_tokens_teaches_nothing(tmp_path, tiny_llama, twin, corpus_file):
    lines = corpus_file.read_text().splitlines()
    odd = json.dumps({"text": "A text that spells <|endoftext|> in the middle of it. " * 3})
    (tmp_path / "odd.jsonl").write_text("\n".join([*lines[:30], odd, *lines[30:60]]))
    folder = cached(twin, tmp_path / "odd.jsonl", tmp_path / "cache", kind="top-k")
    cache = TargetCache(folder)
    rows = cache.rows_of([json.loads(line)["text"] for line in (tmp_path / "odd.jsonl").read_text().splitlines()])
    assert (rows < 0).sum() == 1 and rows[30] == -1 and len(set(rows.tolist())) == len(rows)
    out = distilled(tiny_llama, [], tmp_path / "odd.jsonl", tmp_path / "out", {"steps": 3}, cache=folder, **FAST)
    assert np.isfinite(losses(out)).all()
