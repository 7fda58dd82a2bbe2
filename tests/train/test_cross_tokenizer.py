"""Distillation across tokenizers on tiny models: what it equals, what it learns, how it resumes, what is refused."""

import json

import numpy as np
import pytest
import torch

from tests.conftest import make_byte_level_tokenizer, make_llama, make_metaspace_tokenizer
from tests.train.runs import distilled, losses, same, weights
from vocabalign.alignment import align_stage
from vocabalign.errors import ArtifactError, ConfigError, ModelError
from vocabalign.manifests import read_manifest
from vocabalign.stages import AlignConfig

FAST = dict(check_teacher=False)


@pytest.fixture(scope="module")
def writer(tmp_path_factory, twin, corpus_file):
    """A student that writes text rather than bytes."""
    folder = tmp_path_factory.mktemp("writer") / "out"
    options = dict(distillation_weight=0, learning_rate=1e-2)
    return distilled(twin, twin, corpus_file, folder, {"steps": 60, "batch_size": 8}, **options)


def test_distributions_across_equal_tokenizers_are_the_unified_loss(tmp_path, tiny_llama, twin, corpus_file):
    unified = distilled(tiny_llama, twin, corpus_file, tmp_path / "unified", {"steps": 3}, loss="token", **FAST)
    for loss in ("event", "prefixes"):
        aligned = distilled(tiny_llama, twin, corpus_file, tmp_path / loss, {"steps": 3}, loss=loss, **FAST)
        # Where a block begins in the middle of a word the first label has nothing to be lined up with.
        assert np.allclose(losses(aligned), losses(unified), rtol=0.02)


@pytest.mark.parametrize("loss", ["event", "chunks", "prefixes", "uld", "gold", "event+0.5*chunks"])
def test_a_student_gets_nearer_to_a_teacher_with_another_tokenizer(tmp_path, tiny_llama, spaced, corpus_file, loss):
    arguments = dict(loss=loss, distillation_weight=1.0, learning_rate=1e-2, **FAST)
    out = distilled(tiny_llama, spaced, corpus_file, tmp_path / "out", {"steps": 25}, **arguments)
    found = losses(out)
    assert np.mean(found[-3:]) < 0.95 * np.mean(found[:3])
    assert read_manifest(out)["metrics"]["loss"] == [f"{loss} (as configured)"]


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory, spaced, byte_level_folder, corpus_file):
    """From the teacher's tokens to the student's."""
    out = tmp_path_factory.mktemp("lexicon") / "lexicon"
    embeddings = {"dimensions": 8, "epochs": 1}
    return align_stage.run(
        AlignConfig(
            source=str(spaced), target=str(byte_level_folder), corpus=[str(corpus_file)], out=out, embeddings=embeddings
        )
    )


@pytest.mark.parametrize("loss", ["projection", "projection+0.1*chunks"])
def test_a_lexicon_carries_the_students_distribution_to_the_teachers_tokens(
    tmp_path, tiny_llama, spaced, corpus_file, lexicon, loss
):
    options = dict(loss=loss, lexicon=lexicon, distillation_weight=1.0, learning_rate=1e-2, **FAST)
    out = distilled(tiny_llama, spaced, corpus_file, tmp_path / "out", {"steps": 25}, **options)
    found = losses(out)
    assert np.mean(found[-3:]) < 0.95 * np.mean(found[:3])
    assert read_manifest(out)["metrics"]["loss"] == [f"{loss} (as configured)"]


def test_a_lexicon_the_wrong_way_round_is_refused(tmp_path, tiny_llama, spaced, corpus_file, lexicon):
    options = dict(loss="projection", lexicon=lexicon, **FAST)
    with pytest.raises(ArtifactError, match="made for other tokenizers"):
        distilled(spaced, tiny_llama, corpus_file, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_auto_says_what_it_takes_and_why(tmp_path, tiny_llama, spaced, twin, corpus_file, caplog):
    caplog.set_level("INFO", "vocabalign")
    out = distilled(tiny_llama, spaced, corpus_file, tmp_path / "two", {"steps": 1}, **FAST)
    (said,) = read_manifest(out)["metrics"]["loss"]
    assert said.split(" (")[0] in ("event", "prefixes") and "next" in said
    assert "Loss for" in caplog.text and "because" in caplog.text
    one = distilled(tiny_llama, twin, corpus_file, tmp_path / "one", {"steps": 1}, **FAST)
    assert read_manifest(one)["metrics"]["loss"][0].startswith("token (every id means the same")


def test_accumulation_and_one_big_batch_are_the_same(tmp_path, tiny_llama, spaced, corpus_file):
    options = dict(loss="event+chunks", learning_rate=1e-3, **FAST)
    big = distilled(tiny_llama, spaced, corpus_file, tmp_path / "a", {"steps": 2, "batch_size": 4}, **options)
    schedule = {"steps": 2, "batch_size": 2, "accumulation": 2}
    small = distilled(tiny_llama, spaced, corpus_file, tmp_path / "b", schedule, **options)
    assert np.allclose(losses(big), losses(small), rtol=1e-5)
    mine, theirs = weights(big), weights(small)
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-5) for name in mine)


def test_several_teachers_with_weights(tmp_path, tiny_llama, spaced, twin, corpus_file):
    options = dict(distillation_weight=1.0, loss="event", **FAST)
    steps = {"steps": 1}
    single = [
        distilled(tiny_llama, t, corpus_file, tmp_path / f"{i}", steps, **options) for i, t in enumerate((spaced, twin))
    ]
    both = distilled(
        tiny_llama, [str(spaced), str(twin)], corpus_file, tmp_path / "both", steps, teacher_weights=[3, 1], **options
    )
    first = [losses(out)[0] for out in single]
    assert losses(both)[0] == pytest.approx(0.75 * first[0] + 0.25 * first[1], rel=1e-4)
    none = distilled(
        tiny_llama, [str(spaced), str(twin)], corpus_file, tmp_path / "none", steps, teacher_weights=[0, 1], **options
    )
    assert losses(none)[0] == pytest.approx(first[1], rel=1e-5)


def test_a_teacher_that_reads_less_at_once_reads_in_windows(tmp_path, tiny_llama, corpus_file, caplog):
    short = tmp_path / "short"
    make_metaspace_tokenizer(short)
    make_llama(short, 480, seed=5)
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 24}))
    out = distilled(
        tiny_llama, short, corpus_file, tmp_path / "out", {"steps": 2, "context": 100}, loss="event", **FAST
    )
    assert "in windows" in caplog.text and all(np.isfinite(losses(out)))


def test_own_dtype_device_and_offload_change_nothing_but_rounding(tmp_path, tiny_llama, spaced, corpus_file):
    options = dict(loss="event", distillation_weight=1.0, **FAST)
    plain = distilled(tiny_llama, spaced, corpus_file, tmp_path / "a", {"steps": 2}, **options)
    moved = distilled(
        tiny_llama,
        spaced,
        corpus_file,
        tmp_path / "b",
        {"steps": 2},
        teacher_offload=True,
        teacher_device="cpu",
        **options,
    )
    half = distilled(tiny_llama, spaced, corpus_file, tmp_path / "c", {"steps": 2}, teacher_dtype="bfloat16", **options)
    assert same(plain, moved)
    assert losses(half) == pytest.approx(losses(plain), rel=0.05) and losses(half) != losses(plain)


def test_on_policy_batches_learn_too(tmp_path, writer, spaced, twin, corpus_file):
    own = {"share": 1.0, "prompt_tokens": 4}
    for name, teacher in (("two", spaced), ("one", twin)):
        options = dict(distillation_weight=1.0, learning_rate=1e-2, on_policy=own, loss="event", **FAST)
        out = distilled(writer, teacher, corpus_file, tmp_path / name, {"steps": 12, "context": 24}, **options)
        assert np.mean(losses(out)[-3:]) < 0.95 * np.mean(losses(out)[:3])
        again = distilled(writer, teacher, corpus_file, tmp_path / f"{name}-2", {"steps": 12, "context": 24}, **options)
        assert same(out, again)


def test_sentence_level_trains_on_what_the_teacher_writes(tmp_path, tiny_llama, spaced, corpus_file):
    written = {"tokens": 3000, "prompt_tokens": 3}
    options = dict(loss="sentence", sentence=written, calibrate_teacher=False, **FAST)
    out = distilled(tiny_llama, spaced, corpus_file, tmp_path / "out", {"steps": 2}, **options)
    metrics = read_manifest(out)["metrics"]
    assert not same(out, tiny_llama) and metrics["loss"] == ["sentence (as configured)"]
    options["calibrate_teacher"] = True  # then it writes other text
    other = distilled(tiny_llama, spaced, corpus_file, tmp_path / "other", {"steps": 2}, **options)
    assert "teacher_calibration" in read_manifest(other)["metrics"] and "teacher_calibration" not in metrics
    assert not same(other, out)


def test_difference_sampling_keeps_a_share(tmp_path, tiny_llama, twin, corpus_file, caplog):
    caplog.set_level("INFO", "vocabalign")
    distilled(tiny_llama, twin, corpus_file, tmp_path / "out", {"steps": 1}, difference_sampling={"keep": 0.5}, **FAST)
    assert "keeps 80 of 160 documents" in caplog.text


def test_a_worse_teacher_is_warned_of_with_both_figures(tmp_path, tiny_llama, writer, corpus_file, caplog):
    out = distilled(writer, tiny_llama, corpus_file, tmp_path / "out", {"steps": 1})
    metrics = read_manifest(out)["metrics"]
    mine, theirs = metrics["student_bits_per_byte_before"], metrics["teacher_bits_per_byte"]
    assert theirs > mine and f"{theirs:.4f} bits per byte against {mine:.4f}" in caplog.text
    caplog.clear()
    distilled(tiny_llama, writer, corpus_file, tmp_path / "better", {"steps": 1})
    assert "worse" not in caplog.text


def test_vocabularies_that_only_look_equal(tmp_path, tiny_llama, corpus_file, caplog):
    swapped = tmp_path / "swapped"
    make_byte_level_tokenizer(swapped)
    state = json.loads((swapped / "tokenizer.json").read_text())
    words = state["model"]["vocab"]
    first, second = list(words)[300:302]
    words[first], words[second] = words[second], words[first]
    (swapped / "tokenizer.json").write_text(json.dumps(state))
    make_llama(swapped, 400, seed=2)
    with pytest.raises(ModelError, match="'token' needs one"):
        distilled(tiny_llama, swapped, corpus_file, tmp_path / "out", loss="token", **FAST)
    out = distilled(tiny_llama, swapped, corpus_file, tmp_path / "out", {"steps": 1}, **FAST)
    assert "2 ids stand for other tokens" in caplog.text
    assert not read_manifest(out)["metrics"]["loss"][0].startswith("token")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(loss="evnt"), "unknown part 'evnt'"),
        (dict(loss="event+event"), "twice"),
        (dict(loss="0*event"), "positive"),
        (dict(loss="auto+event"), "beside others"),
        (dict(loss="projection"), "needs a lexicon"),
        (dict(loss="hidden"), "one size"),
        (dict(teacher_weights=[1, 2]), "2 numbers for 1 teachers"),
        (dict(on_policy={"share": 0.5}, loss="sentence"), "run here"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, tiny_llama, spaced, corpus_file, options, message):
    with pytest.raises(ConfigError, match=message):
        distilled(tiny_llama, spaced, corpus_file, tmp_path / "out", **options, **FAST)
    assert not (tmp_path / "out").exists()


def test_self_needs_adapters(tmp_path, tiny_llama, corpus_file):
    with pytest.raises(ConfigError, match="has none"):
        distilled(tiny_llama, "self", corpus_file, tmp_path / "out", loss="event", **FAST)
    with pytest.raises(ConfigError, match="no teacher"):
        distilled(tiny_llama, [], corpus_file, tmp_path / "out", **FAST)


def test_the_student_without_its_adapters_teaches(tmp_path, tiny_llama, corpus_file):
    pytest.importorskip("peft")
    options = dict(train="lora", lora={"rank": 2}, learning_rate=1e-1, trainer={}, **FAST)
    schedule = {"steps": 1}
    alone = distilled(tiny_llama, "self", corpus_file, tmp_path / "kl", schedule, distillation_weight=1.0, **options)
    assert losses(alone) == [0.0]
    folder = distilled(tiny_llama, tiny_llama, corpus_file, tmp_path / "folder", {"steps": 12}, **options)
    own = distilled(tiny_llama, "self", corpus_file, tmp_path / "own", {"steps": 12}, **options)
    assert same(folder, own) and not same(own, tiny_llama)
    before, after = weights(tiny_llama), weights(own)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and not any("embed" in name or "lm_head" in name or "norm" in name for name in changed)
