import itertools
import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

from tests.conftest import TEXT
from tests.transplantation.builders import build, files, logits, permuted_tokenizer, stories, target_tokenizer
from vocabalign.errors import ArtifactError, ConfigError, VerificationError
from vocabalign.lexicon import Lexicon
from vocabalign.stages import TransplantConfig
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.transplantation.checkpoint import open_checkpoint
from vocabalign.transplantation.matrices import Methods
from vocabalign.transplantation.transplant_stage import Options, run, transplant_model

ALL = ["llama", "llama-tied", "gpt_neox", "gpt2", "phi", "qwen2", "gemma2", "mixtral", "llava"]
ENCODERS = ["bert", "bert-without-head"]


def transplant(source, target, out, corpus=None, **options):
    return run(TransplantConfig(source=str(source), target=str(target), out=out, corpus=corpus or [], **options))


def read_all(folder):
    tensors = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}
    return tensors


@pytest.mark.parametrize("name", ["llama", "llama-tied", "phi"])
def test_the_same_tokenizer_changes_nothing(tmp_path, corpus_file, name):
    source = build(name, tmp_path / "m")
    out = transplant(source, source, tmp_path / "out", [str(corpus_file)])
    old, new = files(source), files(out)
    for file in ("model.safetensors", "config.json", "generation_config.json"):
        assert old[file] == new[file]
    assert torch.equal(logits(source, [1, 5, 9, 300]), logits(out, [1, 5, 9, 300]))


@pytest.mark.parametrize("corpus", [False, True])
@pytest.mark.parametrize("name", ["llama", "llama-tied", "phi"])
def test_a_permuted_vocabulary_permutes_the_logits(tmp_path, corpus_file, name, corpus):
    source = build(name, tmp_path / "m")
    target, order = permuted_tokenizer(source, tmp_path / "t")
    out = transplant(source, target, tmp_path / "out", [str(corpus_file)] if corpus else None)
    new_ids = [3, 77, 250, 399, 12]
    assert torch.equal(logits(out, new_ids), logits(source, order[new_ids].tolist())[:, order])


@pytest.mark.parametrize("kind", ["metaspace", "byte-level"])
@pytest.mark.parametrize("name", ALL + ENCODERS)
def test_there_and_back_restores_every_shared_row(tmp_path, corpus_file, name, kind):
    """Every architecture passes its own verification on the way."""
    source = build(name, tmp_path / "m")
    target = target_tokenizer(kind, tmp_path / "t")
    out = transplant(source, target, tmp_path / "out", [str(corpus_file)], calibrate_head=False)
    back = transplant(out, source, tmp_path / "back", calibrate_head=False)
    first, last = open_checkpoint(source), open_checkpoint(back)
    there = set(load_vocabulary(target).ids_by_bytes())
    shared = [i for token, i in load_vocabulary(source).ids_by_bytes().items() if token in there]
    assert len(shared) > 100
    for part in ("embedding", "head", "bias"):
        if getattr(first, part):
            old, new = first.read(getattr(first, part)), last.read(getattr(last, part))
            assert torch.equal(old[shared], new[shared])
    config = json.loads((out / "config.json").read_text())
    text = config.get("text_config", config)
    assert text["vocab_size"] == len(load_vocabulary(target))
    assert text.get("tie_word_embeddings", config["tie_word_embeddings"]) is first.tied or name in ENCODERS


@pytest.mark.parametrize("name", ALL)
def test_calibrated_transplants_verify_and_untouched_tensors_stay(tmp_path, corpus_file, name):
    source = build(name, tmp_path / "m", dtype=torch.bfloat16, max_shard_size="20KB")
    target = target_tokenizer("metaspace", tmp_path / "t")
    out = transplant(source, target, tmp_path / "out", [str(corpus_file)], pad_to_multiple_of=64)
    checkpoint, old, new = open_checkpoint(source), read_all(source), read_all(out)
    changed = {checkpoint.embedding, checkpoint.head, checkpoint.bias}
    assert old.keys() == new.keys() and len(list(out.glob("model-*.safetensors"))) > 2
    for tensor_name, tensor in old.items():
        assert new[tensor_name].dtype == tensor.dtype
        assert (tensor_name in changed) or torch.equal(tensor, new[tensor_name])
    assert new[checkpoint.embedding].shape[0] % 64 == 0
    metrics = json.loads((out / "manifest.json").read_text())["metrics"]
    assert metrics["rows"] == len(new[checkpoint.embedding]) > metrics["tokens"]
    assert metrics["classes"]["padding"] >= metrics["rows"] - metrics["tokens"]
    assert metrics["head_calibrated"] and metrics["verified_full"]


def test_untie_gives_a_head_of_its_own(tmp_path, corpus_file):
    source = build("llama-tied", tmp_path / "m", max_shard_size="20KB")
    target = target_tokenizer("metaspace", tmp_path / "t")
    out = transplant(source, target, tmp_path / "out", [str(corpus_file)], untie=True)
    found = open_checkpoint(out)
    assert not found.tied and found.head == "lm_head.weight"
    assert not torch.equal(found.read(found.head), found.read(found.embedding))
    with pytest.raises(ConfigError, match="head of its own already"):
        transplant(build("llama", tmp_path / "u"), target, tmp_path / "other", untie=True)


def test_padded_rows_never_win(tmp_path, corpus_file):
    source, target = build("llama", tmp_path / "m"), target_tokenizer("metaspace", tmp_path / "t")
    for corpus in ([], [str(corpus_file)]):
        out = transplant(source, target, tmp_path / "out", corpus, pad_to_multiple_of=1000, overwrite=True)
        num_tokens = len(load_vocabulary(target))
        scores = logits(out, torch.randint(num_tokens, (100,), generator=torch.Generator().manual_seed(0)).tolist())
        assert scores.shape[1] == 1000
        assert (scores[:, num_tokens:].amax(1) < scores[:, :num_tokens].amax(1)).all()


def make_lexicon(source, target, fingerprint=None):
    count = len(target)
    ids = np.stack([np.arange(count) % 400, (np.arange(count) + 7) % 400], 1).astype(np.int32)
    weights = np.tile(np.array([0.75, 0.25], np.float32), (count, 1))
    return Lexicon(
        ids,
        weights,
        np.full(count, 4, np.uint8),
        np.full(count, 0.5, np.float32),
        source.fingerprint,
        fingerprint or target.fingerprint,
    )


def test_a_lexicon_decides_where_there_is_no_twin(tmp_path):
    folder = build("llama", tmp_path / "m")
    source, target = load_vocabulary(folder), load_vocabulary(target_tokenizer("metaspace", tmp_path / "t"))
    options = Options(Methods("lexicon", "lexicon-one"))
    transplant_model(folder, target, tmp_path / "out", lexicon=make_lexicon(source, target), options=options)
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    token = provenance["classes"].index(provenance["class_names"].index("lexicon"))
    old, new = read_all(folder), read_all(tmp_path / "out")
    rows = old["model.embed_tokens.weight"]
    expected = 0.75 * rows[token % 400] + 0.25 * rows[(token + 7) % 400]
    torch.testing.assert_close(new["model.embed_tokens.weight"][token], expected)
    assert torch.equal(new["lm_head.weight"][token], old["lm_head.weight"][token % 400])
    with pytest.raises(ArtifactError, match="other tokenizers"):
        wrong = make_lexicon(source, target, "0" * 64)
        transplant_model(folder, target, tmp_path / "x", lexicon=wrong, options=options)
    with pytest.raises(ConfigError, match="need a lexicon"):
        transplant_model(folder, target, tmp_path / "x", options=options)


def test_a_custom_vocabulary_needs_no_tokenizer(tmp_path):
    tokens = [None, *(bytes([i]) for i in range(256)), b"the", b" the"]
    target = load_vocabulary((tokens, lambda text: [1 + byte for byte in text.encode()]))
    metrics = transplant_model(build("llama", tmp_path / "m"), target, tmp_path / "out", texts=TEXT)
    assert metrics["rows"] == 259 and not (tmp_path / "out" / "tokenizer.json").exists()
    assert logits(tmp_path / "out", [1, 50, 258]).shape == (3, 259)


def test_lists_of_eos_and_other_ids_follow_the_vocabulary(tmp_path):
    source = build("llama", tmp_path / "m")
    config = json.loads((source / "generation_config.json").read_text())
    config |= {"eos_token_id": [0, 65], "suppress_tokens": [66]}
    (source / "generation_config.json").write_text(json.dumps(config))
    target, order = permuted_tokenizer(source, tmp_path / "t")
    out = transplant(source, target, tmp_path / "out")
    new = json.loads((out / "generation_config.json").read_text())
    assert order[new["eos_token_id"]].tolist() == [0, 65] and order[new["suppress_tokens"]].tolist() == [66]


def test_a_failed_verification_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise VerificationError("no")

    monkeypatch.setattr("vocabalign.transplantation.transplant_stage.verify_model", fail)
    source = build("llama", tmp_path / "m")
    with pytest.raises(VerificationError):
        transplant(source, target_tokenizer("byte-level", tmp_path / "t"), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "t"]


def test_real_models(tmp_path, material):
    source, target = material / "models/stories260K-hf", material / "models/stories3M-hf"
    corpus = tmp_path / "stories.jsonl"
    with (material / "corpora/tinystories/train.jsonl").open(encoding="utf-8") as lines:
        corpus.write_text("".join(itertools.islice(lines, 80)), encoding="utf-8")
    out = transplant(source, target, tmp_path / "out", [str(corpus)])
    story = json.loads((material / "corpora/tinystories/heldout.jsonl").read_text().splitlines()[0])["text"]
    ids = [1, *load_vocabulary(target).encode(story)][:512]
    scores = logits(out, ids)[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])
    bits_per_byte = -scores.sum().item() / len(story[: 512 * 3].encode()) / 0.6931
    assert 0 < bits_per_byte < 3


def test_the_same_tokenizer_with_more_ids_than_rows(tmp_path):
    """Some models have fewer rows than their tokenizer has tokens."""
    source = build("llama", tmp_path / "m")
    model = transformers.AutoModelForCausalLM.from_pretrained(source)
    model.resize_token_embeddings(396)
    model.save_pretrained(source)
    out = transplant(source, source, tmp_path / "out")
    old, new = read_all(source)["lm_head.weight"], read_all(out)["lm_head.weight"]
    assert len(old) == 396 and len(new) == 400 and torch.equal(old, new[:396])


def test_the_shift_of_a_head_whose_logits_are_scaled(tmp_path, corpus_file):
    """The same weights behind a divisor: the shifts are larger by it, and so are the same in logits."""
    target = target_tokenizer("metaspace", tmp_path / "t")
    found = {}
    for scaling in (1.0, 8.0):
        source = build("granite", tmp_path / f"m{scaling}")
        config = json.loads((source / "config.json").read_text())
        (source / "config.json").write_text(json.dumps(config | {"logits_scaling": scaling}))
        out = transplant(source, target, tmp_path / f"out{scaling}", [str(corpus_file)], fit_rows=False)
        found[scaling] = np.array(json.loads((out / "provenance.json").read_text())["shift"])
    assert np.abs(found[1.0]).max() > 1
    np.testing.assert_allclose(found[8.0], 8 * found[1.0], rtol=1e-2, atol=1e-2)


def test_a_larger_head_behind_a_divisor_is_fitted_alike(tmp_path):
    """The same logits of the source: rows and shifts of the transplant are larger, and so its logits are the same."""
    source, target = build("granite", tmp_path / "m"), target_tokenizer("metaspace", tmp_path / "t")
    larger = tmp_path / "larger"
    shutil.copytree(source, larger)
    tensors = read_all(source)
    tensors["lm_head.weight"] = 8 * tensors["lm_head.weight"]
    save_file(tensors, larger / "model.safetensors", {"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    (larger / "config.json").write_text(json.dumps(config | {"logits_scaling": 8 * config["logits_scaling"]}))
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in stories(60)))
    one, two = (transplant(model, target, tmp_path / f"{model.name}-out", [str(corpus)]) for model in (source, larger))
    fitted = [json.loads((out / "manifest.json").read_text())["metrics"]["fitted"] for out in (one, two)]
    assert fitted[0]["head_rows"] == fitted[1]["head_rows"] > 0
    heads = [read_all(out)["lm_head.weight"] for out in (one, two)]
    torch.testing.assert_close(heads[1], 8 * heads[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(logits(two, [1, 5, 9, 300]), logits(one, [1, 5, 9, 300]), rtol=1e-3, atol=1e-3)


def test_ids_that_are_lost_are_told_and_logs_of_training_are_not_copied(tmp_path, caplog):
    source = build("llama", tmp_path / "m")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"image_token_id": 399}))
    (source / "metrics.jsonl").write_text("{}")
    with caplog.at_level("WARNING", logger="vocabalign"):
        out = transplant(source, target_tokenizer("metaspace", tmp_path / "t"), tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["image_token_id"] is None
    assert "image_token_id is 399" in caplog.text
    assert not (out / "metrics.jsonl").exists()


def test_a_place_for_pictures_that_the_target_lacks_is_told(tmp_path):
    source = build("llava", tmp_path / "m")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "image_token_index": 399}))
    with pytest.raises(ConfigError, match="image_token_index.*--map-token"):
        transplant(source, target_tokenizer("metaspace", tmp_path / "t"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
