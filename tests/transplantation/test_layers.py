"""Models with some of their layers."""

import json

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from tests.transplantation.builders import build, target_tokenizer
from vocabalign.config import make_config
from vocabalign.errors import ConfigError, ModelError
from vocabalign.stages import TransplantConfig
from vocabalign.transplantation.layers import cut_layers, parse_layers
from vocabalign.transplantation.transplant_stage import run


def test_lists_of_layers():
    assert parse_layers("0-2, 5", 6) == [0, 1, 2, 5]
    assert parse_layers("3,0", 4) == [3, 0]
    for text, said in (("", "expected numbers"), ("1-", "expected"), ("9", "no layer 9"), ("1,0-2", "each layer once")):
        with pytest.raises(ConfigError, match=said):
            parse_layers(text, 6)


@pytest.mark.parametrize("name", ["llama", "llama-tied", "qwen2", "gpt_neox", "gpt2", "phi"])
@pytest.mark.parametrize("shards", ["5GB", "30KB"])
def test_the_cut_model_is_the_model_without_the_other_layers(tmp_path, name, shards):
    source = build(name, tmp_path / "source", max_shard_size=shards)
    out = cut_layers(source, tmp_path / "out", "1")
    whole, cut = (AutoModelForCausalLM.from_pretrained(folder).eval() for folder in (source, out))
    blocks = next(module for module in whole.modules() if isinstance(module, torch.nn.ModuleList))
    del blocks[0]
    for index, block in enumerate(blocks):
        for part in block.modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = index
    ids = torch.arange(12)[None]
    for model in (whole, cut):
        model.config.use_cache = False
    # The remaining block by itself, on the same input: independent of how either model loops over its blocks.
    for (name_a, a), (name_b, b) in zip(blocks[0].named_parameters(), _blocks(cut)[0].named_parameters(), strict=True):
        assert name_a == name_b and torch.equal(a, b)
    others = {n: p for n, p in cut.named_parameters() if ".0." not in n}
    known = dict(whole.named_parameters())
    assert others and all(torch.equal(p, known[n]) for n, p in others.items())
    assert cut(input_ids=ids).logits.isfinite().all() and len(_blocks(cut)) == 1


def _blocks(model):
    return next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList))


def test_all_layers_are_the_same_model(tmp_path):
    source = build("llama", tmp_path / "source")
    out = cut_layers(source, tmp_path / "out", "0-1")
    with safe_open(source / "model.safetensors", "pt") as a, safe_open(out / "model.safetensors", "pt") as b:
        assert set(a.keys()) == set(b.keys())
        assert all(torch.equal(a.get_tensor(name), b.get_tensor(name)) for name in a.keys())
    assert json.loads((source / "config.json").read_text()) == json.loads((out / "config.json").read_text())


def test_lists_over_layers_are_cut_and_unclear_models_refused(tmp_path):
    source = build("llama", tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    config |= {"layer_types": ["full_attention", "sliding_attention"], "mlp_only_layers": [1], "max_window_layers": 1}
    (source / "config.json").write_text(json.dumps(config))
    told = json.loads((cut_layers(source, tmp_path / "out", "1") / "config.json").read_text())
    assert told["layer_types"] == ["sliding_attention"] and told["mlp_only_layers"] == [0]
    assert told["num_hidden_layers"] == 1 and told["max_window_layers"] == 0
    (source / "config.json").write_text(json.dumps({**config, "decoder_sparse_step": 2}))
    with pytest.raises(ModelError, match="decoder_sparse_step"):
        cut_layers(source, tmp_path / "out", "1")


def test_the_stage_cuts_layers_and_gives_exact_rows(tmp_path, corpus_file):
    source, target = build("llama", tmp_path / "source"), target_tokenizer("metaspace", tmp_path / "target")
    owner = build("gpt2", tmp_path / "owner")  # 400 rows: too few for 480 tokens
    values = {"source": str(source), "target": str(target), "corpus": [str(corpus_file)]}
    values |= {"keep_layers": "1", "rows": 512, "out": tmp_path / "out"}
    model = AutoModelForCausalLM.from_pretrained(run(make_config(TransplantConfig, values)))
    assert len(model.model.layers) == 1 and len(model.lm_head.weight) == len(model.model.embed_tokens.weight) == 512
    with pytest.raises(ConfigError, match="400 rows are asked for"):
        run(make_config(TransplantConfig, {**values, "rows": str(owner), "out": tmp_path / "out2"}))
    with pytest.raises(ConfigError, match="--keep-layers 7"):
        run(make_config(TransplantConfig, {**values, "keep_layers": "7", "out": tmp_path / "out3"}))
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"source", "target", "owner", "out"}
