"""Muon: orthogonal steps of one size for matrices, AdamW's for all else, and runs that go on to the same bits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.runs import finetuned, same, weights
from vocabalign.errors import ConfigError
from vocabalign.models import load_model
from vocabalign.train import trainer
from vocabalign.train.head import train_only_rows
from vocabalign.train.muon import ADAMS_SIZE, body_matrices, make_optimizer, orthogonalised

MUON = dict(training={"optimizer": "muon"}, rows_learning_rate=1e-2, learning_rate=1e-3)


def model_with_gradients(folder, seed=0):
    model = load_model(folder, dtype=torch.float32, device=torch.device("cpu"))
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), scale=st.floats(1e-6, 1e6), seed=st.integers(0, 99))
def test_singular_values_come_near_one_and_their_vectors_stay(rows, columns, scale, seed):
    torch.manual_seed(seed)
    u, _, v = torch.linalg.svd(torch.randn(rows, columns, dtype=torch.float64), full_matrices=False)
    values = torch.linspace(0.2, 1.0, len(u[0]), dtype=torch.float64)
    matrix = scale * (u * values) @ v
    found = orthogonalised(torch.stack([matrix, -matrix]))
    inside = u.mT @ found[0] @ v.mT
    assert torch.allclose(found[0], -found[1])
    assert torch.allclose(inside, torch.diag(inside.diagonal()), atol=1e-6)
    # Five steps of the quintic from as little as 0.2 / sqrt(40) of the norm.
    assert 0.6 < float(inside.diagonal().min()) and float(inside.diagonal().max()) < 1.3


def test_nothing_stays_nothing():
    assert torch.equal(orthogonalised(torch.zeros(1, 3, 5)), torch.zeros(1, 3, 5))


def test_a_step_of_a_matrix_is_as_large_as_adams_and_all_else_is_adams(tiny_llama):
    one, two = model_with_gradients(tiny_llama), model_with_gradients(tiny_llama)
    before = {name: value.detach().clone() for name, value in one.named_parameters()}
    matrices = {id(parameter) for parameter in body_matrices(one)}
    assert 0 < len(matrices) < len(before) and id(one.get_input_embeddings().weight) not in matrices
    make_optimizer(one, (), lr=0.01, betas=(0.9, 0.95), weight_decay=0.0).step()
    torch.optim.AdamW(two.parameters(), lr=0.01, betas=(0.9, 0.95), weight_decay=0.0).step()
    adams = dict(two.named_parameters())
    for name, value in one.named_parameters():
        if id(value) in matrices:
            size = float((value - before[name]).detach().square().mean().sqrt())
            assert 0.5 * ADAMS_SIZE * 0.01 < size < 1.3 * ADAMS_SIZE * 0.01
        else:
            torch.testing.assert_close(value, adams[name], rtol=0, atol=1e-8)


def test_weights_decay_where_they_are_told_to(tiny_llama):
    model = model_with_gradients(tiny_llama)
    names = [name for name, value in model.named_parameters() if value.ndim == 2]
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad.zero_()
    make_optimizer(model, names, lr=0.01, betas=(0.9, 0.95), weight_decay=0.5).step()
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, before[name] * (0.995 if name in names else 1.0))


def test_rows_alone_need_no_matrices(tiny_llama):
    model = model_with_gradients(tiny_llama)
    train_only_rows(model)
    assert body_matrices(model) == []
    make_optimizer(model, (), lr=0.01, betas=(0.9, 0.95), weight_decay=0.0).step()


def test_an_interrupted_run_goes_on_alike_and_it_is_not_adamws(tmp_path, tiny_llama, corpus_file, monkeypatch):
    expected = finetuned(tiny_llama, corpus_file, tmp_path / "whole", **MUON)
    adamw = finetuned(tiny_llama, corpus_file, tmp_path / "adamw", **{**MUON, "training": {}})
    name = next(name for name in weights(adamw) if name.endswith("o_proj.weight"))
    assert not torch.equal(weights(expected)[name], weights(adamw)[name])
    original, calls = trainer.StageTrainer.compute_loss, []

    def counted(self, *args, **keywords):
        calls.append(1)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return original(self, *args, **keywords)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer.StageTrainer, "compute_loss", counted)
        finetuned(tiny_llama, corpus_file, tmp_path / "stopped", **MUON)
    assert same(finetuned(tiny_llama, corpus_file, tmp_path / "stopped", **MUON), expected)


def test_a_range_test_goes_by_the_same_steps(tmp_path, tiny_llama, corpus_file):
    auto = {**MUON, "learning_rate": "auto", "rows_learning_rate": "auto"}
    assert finetuned(tiny_llama, corpus_file, tmp_path / "auto", **auto).is_dir()


def test_it_is_not_for_adapters(tmp_path, tiny_llama, corpus_file):
    with pytest.raises(ConfigError, match="thin"):
        finetuned(tiny_llama, corpus_file, tmp_path / "x", train="lora", **MUON)


def test_two_optimizers_are_refused(tmp_path, tiny_llama, corpus_file):
    with pytest.raises(ConfigError, match="two optimizers"):
        finetuned(tiny_llama, corpus_file, tmp_path / "x", trainer={"optim": "adafactor"}, **MUON)
