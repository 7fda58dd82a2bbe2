"""The library: functions, configuration objects and vocabularies of one's own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vocabalign
from vocabalign.errors import ConfigError
from vocabalign.lexicon import Evidence
from vocabalign.stages import EvaluateConfig

OPTIONS = {"embeddings": {"dimensions": 8, "epochs": 1}}


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, vocabalign; assert not {'torch', 'transformers', 'gensim', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(vocabalign.__all__) <= set(dir(vocabalign))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        vocabalign.nonsense  # noqa: B018


def test_a_vocabulary_of_ones_own_is_aligned_and_transplanted(tiny_llama, texts, tmp_path):
    """Bytes and an encode function are all that is needed."""
    import torch
    from transformers import AutoModelForCausalLM

    tokens = [bytes([byte]) for byte in range(256)] + [b"the", b" the", b" cat"]
    ids = {token: number for number, token in enumerate(tokens)}

    def encode(text: str) -> list[int]:
        data, result, position = text.encode(), [], 0
        while position < len(data):
            token = next(data[position : position + n] for n in (4, 3, 1) if data[position : position + n] in ids)
            result.append(ids[token])
            position += len(token)
        return result

    lexicon = vocabalign.align(source=str(tiny_llama), target=(tokens, encode), texts=texts, **OPTIONS)
    assert lexicon.source_ids.shape[0] == len(tokens)
    assert (lexicon.evidence[:256] == Evidence.IDENTICAL).all()
    assert np.allclose(lexicon.weights.sum(1)[lexicon.evidence > 0], 1, atol=1e-5)
    out = vocabalign.transplant(
        source=tiny_llama, target=(tokens, encode), lexicon=lexicon, texts=texts, out=tmp_path / "new"
    )
    model = AutoModelForCausalLM.from_pretrained(out)
    logits = model(torch.tensor([encode("the cat sat")])).logits
    assert logits.shape[-1] == len(tokens) and torch.isfinite(logits).all()


def test_align_takes_text_or_files_but_not_both(tiny_llama, metaspace_folder, texts, corpus_file):
    with pytest.raises(ConfigError, match="either corpus= .* or texts="):
        vocabalign.align(source=tiny_llama, target=metaspace_folder)
    with pytest.raises(ConfigError, match="unknown key 'nonsense'"):
        vocabalign.align(source=tiny_llama, target=metaspace_folder, texts=texts, nonsense=1)


def test_files_and_text_give_the_same_lexicon(tiny_llama, metaspace_folder, corpus_file, tmp_path):
    import json

    texts = [json.loads(line)["text"] for line in corpus_file.read_text().splitlines()]
    written = vocabalign.align(
        source=tiny_llama, target=metaspace_folder, corpus=corpus_file, out=tmp_path / "lexicon", **OPTIONS
    )
    in_memory = vocabalign.align(source=tiny_llama, target=metaspace_folder, texts=texts, **OPTIONS)
    assert np.array_equal(written.source_ids, in_memory.source_ids)
    assert np.array_equal(written.weights, in_memory.weights)
    assert (tmp_path / "lexicon" / "lexicon.tsv").is_file()


def test_evaluate_takes_fields_or_a_configuration(tiny_llama, corpus_file, tmp_path):
    fields = {"models": {"tiny": str(tiny_llama)}, "corpus": corpus_file, "max_bytes": 400, "sample_tokens": 2}
    rows = vocabalign.evaluate(**fields)
    config = EvaluateConfig(**{**fields, "corpus": [str(corpus_file)]}, out=tmp_path / "metrics")
    assert vocabalign.evaluate(config)[0]["bits_per_byte"] == rows[0]["bits_per_byte"] > 0
    assert vocabalign.evaluate(**{**fields, "models": [tiny_llama]})[0]["name"] == Path(tiny_llama).name


def test_finetune_and_distill_take_fields(tiny_llama, corpus_file, tmp_path):
    training = {"steps": 2, "batch_size": 2, "context": 32}
    tuned = vocabalign.finetune(model=str(tiny_llama), corpus=corpus_file, training=training, out=tmp_path / "tuned")
    fields = {"student": str(tuned), "teacher": str(tiny_llama), "corpus": corpus_file, "training": training}
    distilled = vocabalign.distill(**fields, out=tmp_path / "distilled")
    assert (distilled / "model.safetensors").is_file()
