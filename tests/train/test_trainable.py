"""What is trained, and that the rest stays as it is, bit for bit."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import make_byte_level_tokenizer, make_llama
from tests.train.runs import Interrupted, finetuned, interrupted_at, losses, make_neox, same, weights
from vocabalign.errors import ConfigError, ModelError
from vocabalign.stages import LoraOptions, TransplantConfig
from vocabalign.train import trainable
from vocabalign.train.trainable import merge_lora, merged_weights, new_rows, train_lora
from vocabalign.transplantation import transplant_stage


def changed(before, after) -> set[str]:
    old, new = weights(before), weights(after)
    assert old.keys() == new.keys()
    return {name for name in old if not torch.equal(old[name], new[name])}


@pytest.fixture(params=["untied", "tied"])
def transplanted(request, tmp_path, metaspace_folder):
    """A model with a vocabulary of its own, from another one."""
    source = make_llama(make_byte_level_tokenizer(tmp_path / "source"), 400, tied=request.param == "tied")
    config = TransplantConfig(source=str(source), target=str(metaspace_folder), out=tmp_path / "transplanted")
    return transplant_stage.run(config)


def test_new_rows_are_those_that_the_transplant_did_not_copy(tmp_path, transplanted, corpus_file):
    out = finetuned(transplanted, corpus_file, tmp_path / "out", {"steps": 12}, train="new-rows")
    provenance = json.loads((out / "provenance.json").read_text())
    tied = provenance["tied"]
    rows = {"model.embed_tokens.weight"} | (set() if tied else {"lm_head.weight"})
    assert changed(transplanted, out) == rows
    before, after = weights(transplanted), weights(out)
    for name, part in zip(sorted(rows, reverse=True), ("input", "head"), strict=False):
        new = torch.from_numpy(new_rows(provenance, part))
        moved = (before[name] != after[name]).any(1)
        assert moved.any() and not (moved & ~new).any() and not new.all()
    shared = provenance["class_names"].index("identical")
    old = torch.tensor(provenance["classes"]) == shared
    assert old.sum() > 100 and not torch.from_numpy(new_rows(provenance, "input"))[old].all()


def test_new_rows_need_a_transplant_and_no_decay(tmp_path, tiny_llama, transplanted, corpus_file):
    with pytest.raises(ModelError, match="has no provenance.json"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", train="new-rows")
    with pytest.raises(ConfigError, match="weight_decay"):
        finetuned(transplanted, corpus_file, tmp_path / "out", {"weight_decay": 0.1}, train="new-rows")
    with pytest.raises(ConfigError, match="fsdp"):
        finetuned(transplanted, corpus_file, tmp_path / "out", train="new-rows", trainer={"fsdp": "full_shard"})
    wrong = tmp_path / "wrong"
    shutil.copytree(tiny_llama, wrong)
    shutil.copyfile(transplanted / "provenance.json", wrong / "provenance.json")
    with pytest.raises(ModelError, match="do not belong together"):
        finetuned(wrong, corpus_file, tmp_path / "out", train="new-rows")


def test_rows_alone_in_both_stages(tmp_path, tiny_llama, corpus_file):
    out = finetuned(tiny_llama, corpus_file, tmp_path / "out", train="rows")
    assert changed(tiny_llama, out) == {"model.embed_tokens.weight", "lm_head.weight"}


@pytest.mark.parametrize("kind", ["llama", "neox"])
def test_merged_adapters_are_the_adapted_model(tmp_path, tiny_llama, kind):
    pytest.importorskip("peft")
    folder = tiny_llama if kind == "llama" else make_neox(tmp_path / "neox")
    model = AutoModelForCausalLM.from_pretrained(folder)
    names = set(dict(model.named_parameters()))
    trained = train_lora(model, LoraOptions(rank=2), seed=3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # they begin at 0
                parameter.normal_(std=0.3)
    ids = torch.arange(12)[None]
    adapted = model.eval()(ids).logits
    merged = merged_weights(model)
    merge_lora(model)
    assert set(dict(model.named_parameters())) == names and not any(".lora_" in name for name in model.state_dict())
    torch.testing.assert_close(model(ids).logits, adapted, rtol=1e-4, atol=2e-4)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(merged[name], value)
    starts = []
    for drawn in (0, 5):  # the start of the adapters does not depend on what was drawn before
        again = AutoModelForCausalLM.from_pretrained(folder)
        torch.rand(drawn)
        assert train_lora(again, LoraOptions(rank=2), seed=3) == trained
        starts.append({name: value for name, value in again.state_dict().items() if "lora_A" in name})
    assert starts[0] and all(torch.equal(value, starts[1][name]) for name, value in starts[0].items())
    assert len([name for name in trained if "lora" not in name]) == 2


def test_lora_trains_body_and_rows_and_leaves_an_ordinary_model(tmp_path, tiny_llama, corpus_file, heldout_file):
    pytest.importorskip("peft")
    arguments = dict(train="lora", learning_rate=1e-2, heldout=[str(heldout_file)])
    training = {"steps": 10, "evaluate_every": 2, "checkpoint_every": 2}
    out = finetuned(tiny_llama, corpus_file, tmp_path / "out", training, **arguments)
    names = changed(tiny_llama, out)
    assert {name.split(".")[-2] for name in names} == {
        "embed_tokens", "lm_head", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
    }  # fmt: skip
    assert losses(out)[-1] < losses(out)[0] and AutoModelForCausalLM.from_pretrained(out)
    with interrupted_at(9, error=Interrupted):
        finetuned(tiny_llama, corpus_file, tmp_path / "b", training, **arguments)
    assert same(finetuned(tiny_llama, corpus_file, tmp_path / "b", training, **arguments), out)


def test_lora_without_its_package_says_how_to_get_it(tmp_path, tiny_llama, corpus_file, monkeypatch):
    monkeypatch.setattr(trainable, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"vocabalign\[lora\]"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", train="lora")
