"""Logits from hidden states are the model's own, whatever its head does to them."""

import pytest
import torch

from tests.transplantation.builders import build
from vocabalign.errors import ModelError
from vocabalign.losses.logits import Head
from vocabalign.models import load_model
from vocabalign.train.head import check_head, head_logits, hidden_states, read_head


@pytest.mark.parametrize("kind", ["llama", "phi", "granite", "gemma2"])
def test_logits_of_hidden_states_are_the_models(kind, tmp_path):
    model = load_model(build(kind, tmp_path / "m"), dtype=torch.float32, device=torch.device("cpu")).eval()
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        head, states = read_head(model), hidden_states(model, ids, None)
        torch.testing.assert_close(head_logits(states, head, head.num_rows), expected)
        torch.testing.assert_close(head_logits(states, head, 20), expected[..., :20])
    check_head(model, tmp_path / "m")


def test_bias_scale_and_cap_in_their_order():
    states, weight, bias = torch.tensor([[2.0, 0.0]]), torch.eye(3, 2), torch.tensor([1.0, 1.0, 5.0])
    found = head_logits(states, Head(weight, bias, scale=0.5, softcap=2.0), 2)
    torch.testing.assert_close(found, 2 * torch.tanh(torch.tensor([[1.5, 0.5]]) / 2))


def test_logits_made_in_another_way_are_refused(tmp_path):
    model = load_model(build("llama", tmp_path / "m"), dtype=torch.float32, device=torch.device("cpu"))
    model.lm_head.register_forward_hook(lambda module, inputs, logits: logits * 1.5)
    with pytest.raises(ModelError, match="the two differ on a probe"):
        check_head(model, tmp_path / "m")
