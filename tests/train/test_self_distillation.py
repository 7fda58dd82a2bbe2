"""Self-distillation across tokenizers: the loss against its parts, that the successor comes nearer, resuming."""

import json

import pytest
import torch

from tests.conftest import TEXT, make_llama, make_metaspace_tokenizer
from tests.train.runs import finetuned, interrupted_at, losses, same
from vocabalign.errors import ConfigError
from vocabalign.losses.fused import fused_loss
from vocabalign.models import load_model
from vocabalign.stages import SelfDistillationOptions, TransplantConfig
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train.data import Blocks, tokenize
from vocabalign.train.head import hidden_states, read_head
from vocabalign.train.self_distillation import LEARNED, PARTS, Lessons, SelfDistillation
from vocabalign.train.source_side import SourceSide
from vocabalign.transplantation import transplant_stage

ALL = SelfDistillationOptions(cross_entropy=0.7, hidden=0.5, events=0.9, continuations=1.1, chunks=0.3)


@pytest.fixture
def transplanted(tmp_path, tiny_llama):
    """The tiny model with another tokenizer."""
    target = tmp_path / "target"
    make_metaspace_tokenizer(target)
    config = TransplantConfig(source=str(tiny_llama), target=str(target), out=tmp_path / "transplanted")
    return transplant_stage.run(config)


def objective(model_folder, source_folder, options, folder, share=1.0):
    vocabularies = [load_vocabulary(place) for place in (model_folder, source_folder)]
    model, source = (
        load_model(place, dtype=torch.float32, device=torch.device("cpu")) for place in (model_folder, source_folder)
    )
    source.requires_grad_(False)
    mine, theirs = (tokenize(TEXT, v, folder, str(number)) for number, v in enumerate(vocabularies))
    lessons = Lessons(*vocabularies, read_head(model).num_rows)
    trie = lessons.continuations
    side = SourceSide(
        mine, vocabularies[0], theirs, vocabularies[1], 24, 64, continuations=trie, chunks=True, share=share
    )
    blocks = Blocks(mine, 24, 0, extend=side)
    return model, SelfDistillation(source, lessons, options), blocks


def test_the_loss_is_the_weighted_sum_of_its_parts(tmp_path, transplanted, tiny_llama):
    model, distil, blocks = objective(transplanted, tiny_llama, ALL, tmp_path)
    batch = blocks.__getitems__([0, 1, 2, 3])
    parts = distil(model, batch, 96.0)
    hidden = hidden_states(model, batch["input_ids"], batch["position_ids"])
    entropy = fused_loss(hidden, read_head(model), batch["labels"], num_items=96.0).loss
    assert float(parts["cross_entropy"].detach()) == pytest.approx(float(entropy.detach()))
    expected = 0.7 * parts["cross_entropy"] + 0.9 * parts["event_divergence"] + 1.1 * parts["continuation_divergence"]
    assert float(parts["event_divergence"]) > 0 and float(parts["continuation_divergence"]) > 0
    for name, part in PARTS.items():
        assert float(parts[part.__name__].detach()) > 0
        expected = expected + getattr(ALL, name) * parts[part.__name__]
    assert float(parts["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


@pytest.mark.parametrize("name", sorted(LEARNED))
def test_gradient_of_each_part_against_differences(tmp_path, transplanted, tiny_llama, name):
    only = SelfDistillationOptions(
        **{"cross_entropy": 0.0, **{other: 0.0 for other in LEARNED}, name: 1.0}, enabled=True
    )
    model, distil, blocks = objective(transplanted, tiny_llama, only, tmp_path)
    model.double()
    distil.source.double()
    batch = blocks.__getitems__([0, 1])
    weight = model.get_input_embeddings().weight
    loss = distil(model, batch, 48.0)["loss"]
    loss.backward()
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ends = []
    with torch.no_grad():
        for sign in (1, -1):
            weight += sign * 1e-4 * direction
            ends.append(float(distil(model, batch, 48.0)["loss"]))
            weight -= sign * 1e-4 * direction
    assert float((weight.grad * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-3)


def test_the_source_itself_has_nothing_to_learn(tmp_path, tiny_llama):
    options = SelfDistillationOptions(cross_entropy=0.0, chunks=1.0)
    model, distil, blocks = objective(tiny_llama, tiny_llama, options, tmp_path)
    loss = distil(model, blocks.__getitems__([0, 1, 2]), 72.0)["loss"]
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None) < 1e-6


def test_the_successor_comes_nearer_to_the_source_that_its_transplant_names(tmp_path, transplanted, corpus_file):
    out = finetuned(
        transplanted,
        corpus_file,
        tmp_path / "out",
        dict(steps=30),
        rows_learning_rate=1e-2,
        learning_rate=3e-3,
        self_distillation={"cross_entropy": 0.0},
    )
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for name in ("loss", "hidden_distance", "event_divergence"):
        assert lines[-1][name] < 0.8 * lines[0][name]
    manifest = json.loads((out / "manifest.json").read_text())
    assert "tiny-llama" in manifest["metrics"]["learned_from"]


def test_of_a_batch_that_the_source_does_not_read_the_text_alone_is_learned(tmp_path, transplanted, tiny_llama):
    model, distil, blocks = objective(transplanted, tiny_llama, ALL, tmp_path, share=0.01)
    batch = blocks.__getitems__([0])
    assert not len(batch["starts"])
    parts = distil(model, batch, 24.0)
    assert all(float(value.detach()) == 0 for name, value in parts.items() if name not in ("loss", "cross_entropy"))
    hidden = hidden_states(model, batch["input_ids"], batch["position_ids"])
    entropy = fused_loss(hidden, read_head(model), batch["labels"], num_items=24.0).loss
    weight = read_head(model).weight
    found, expected = (torch.autograd.grad(loss, weight)[0] for loss in (parts["loss"], 0.7 * entropy))
    torch.testing.assert_close(found, expected)


def test_switched_off_it_is_plain_cross_entropy(tmp_path, transplanted, corpus_file):
    import shutil

    plain = tmp_path / "plain"
    shutil.copytree(transplanted, plain, ignore=shutil.ignore_patterns("manifest.json"))
    off = finetuned(transplanted, corpus_file, tmp_path / "off", self_distillation={"enabled": False})
    assert same(off, finetuned(plain, corpus_file, tmp_path / "none"))
    lines = [json.loads(line) for line in (off / "metrics.jsonl").read_text().splitlines()]
    assert all("hidden_distance" not in line for line in lines)


def test_interrupted_at_any_step_the_weights_are_the_same(tmp_path, transplanted, corpus_file):
    more = dict(self_distillation=ALL.model_dump(), rows_learning_rate=1e-2, learning_rate=1e-3)
    expected = finetuned(transplanted, corpus_file, tmp_path / "whole", **more)
    for stop in (1, 3, 5):
        out = tmp_path / f"stopped-{stop}"
        with interrupted_at(stop + 1):
            finetuned(transplanted, corpus_file, out, **more)
        assert same(finetuned(transplanted, corpus_file, out, **more), expected)
        assert losses(out) == losses(expected)


def test_accumulated_batches_are_one_batch(tmp_path, transplanted, corpus_file):
    more = dict(self_distillation=ALL.model_dump(), rows_learning_rate=1e-2, learning_rate=1e-3)
    one = finetuned(transplanted, corpus_file, tmp_path / "one", dict(batch_size=4), **more)
    two = finetuned(transplanted, corpus_file, tmp_path / "two", dict(batch_size=2, accumulation=2), **more)
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)


def test_a_source_from_which_nothing_is_learned_is_refused(tmp_path, transplanted, tiny_llama, corpus_file):
    for options in ({"enabled": False}, {name: 0.0 for name in LEARNED}):
        with pytest.raises(ConfigError, match="learns nothing"):
            finetuned(transplanted, corpus_file, tmp_path / "out", source=str(tiny_llama), self_distillation=options)


def test_another_body_is_refused(tmp_path, tiny_llama, byte_level_folder, corpus_file):
    import shutil

    from vocabalign.errors import ModelError

    other = tmp_path / "other"
    shutil.copytree(byte_level_folder, other)
    make_llama(other, 400, hidden_size=48)
    with pytest.raises(ModelError, match="hidden_size"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", source=str(other))


def test_one_forward_pass_of_the_source_for_each_batch(tmp_path, transplanted, tiny_llama):
    model, distil, blocks = objective(transplanted, tiny_llama, ALL, tmp_path)
    calls = []
    distil.source.base_model.register_forward_hook(lambda *_: calls.append(1))
    for number in range(3):
        distil(model, blocks.__getitems__([number]), 24.0)["loss"].backward()
    assert len(calls) == 3
