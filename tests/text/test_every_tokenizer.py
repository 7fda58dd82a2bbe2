"""The bytes of every tokenizer, on text of thirty scripts: it comes back, or what was lost is told to the byte."""

from collections import Counter
from functools import lru_cache

import pytest
from hypothesis import HealthCheck, given, settings

from tests.text.multilingual import ODDITIES, SCRIPTS, texts
from vocabalign.text.alignment import align_tokens
from vocabalign.text.normalization import normalized
from vocabalign.text.reconstruction import check_reconstruction
from vocabalign.text.tokenizers import load_vocabulary

SMALL = ["models/stories3M-hf", "models/stories260K-hf", "models/tlm-833K-hf", "tokenizers/bert-uncased"]
SMALL += ["tokenizers/german-unigram-30k", "tokenizers/tinystories-bpe_16384", "tokenizers/llama2"]
SMALL += ["tokenizers/raw/tokenizer_4096.model"]
LARGE = [
    "tokenizers/mistral-v0.1",
    "tokenizers/phi-3",
    "tokenizers/gpt2",
    "tokenizers/pythia-neox",
    "tokenizers/llama3",
]
LARGE += ["tokenizers/qwen1.5", "tokenizers/o200k_base", "tokenizers/raw/r50k_base.tiktoken"]
LOSSY = ("bert-uncased", "german-unigram-30k", "tinystories-bpe_16384", "tlm-833K-hf")


@lru_cache(maxsize=2)
def load(path):
    return load_vocabulary(path)


def check(vocabulary, text, *, lossy):
    report = check_reconstruction(vocabulary, [text])
    assert report.proven, report
    assert report.lossless or lossy, report
    ids = vocabulary.encode(text)
    joined = b"".join(vocabulary.token_bytes[i] or b"" for i in ids)
    expected = normalized(vocabulary, text).encode() if not report.counts["exact"] else text.encode()
    lost = Counter(expected) - Counter(joined)
    assert report.lost_bytes == (lost if not report.lossless else Counter())
    told = sum(len(part) * n for part, n in report.unknown.items())
    told += sum(len(space.encode()) * n for space, n in report.lost_white_space.items())
    assert told >= lost.total() * (not vocabulary.components.normalizer), report
    alignment = align_tokens(vocabulary, ids, vocabulary, ids, text)
    if report.counts["exact"]:
        assert alignment.num_bytes == len(text.encode()) and (alignment.byte_end[-1:] == len(text.encode())).all()


def property_of(examples):
    quiet = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)

    def run(path, *, lossy):
        @quiet
        @given(texts)
        def holds(text):
            check(load(path), text, lossy=lossy)

        holds()

    return run


@pytest.mark.parametrize("name", SMALL)
def test_small_tokenizers(material, name):
    property_of(30)(material / name, lossy=name.endswith(LOSSY))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL + LARGE)
def test_every_tokenizer(material, name):
    property_of(400)(material / name, lossy=name.endswith(LOSSY))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL + LARGE)
def test_every_script_and_oddity(material, name):
    everything = [*("".join(map(chr, range(ord(a), ord(b) + 1, 3)))[:200] for a, b in SCRIPTS.values()), *ODDITIES]
    for text in everything:
        for context in (text, f"a{text}b", f" {text} {text}", f"\n{text}\r\n"):
            check(load(material / name), context, lossy=name.endswith(LOSSY))


def test_tiny_tokenizers(byte_level_folder, metaspace_folder):
    for folder in (byte_level_folder, metaspace_folder):
        property_of(150)(folder, lossy=False)
