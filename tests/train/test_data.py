"""Blocks: every token once an epoch, drawn by number, documents apart."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from tests.conftest import TEXT, make_llama
from vocabalign.errors import CorpusError
from vocabalign.losses.fused import IGNORE
from vocabalign.text.batches import in_batches
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train.data import Blocks, tokenize
from vocabalign.train.head import hidden_states
from vocabalign.train.heldout import HeldOut


@pytest.fixture(params=["byte_level_folder", "metaspace_folder"])
def vocabulary(request):
    return load_vocabulary(request.getfixturevalue(request.param))


def test_an_epoch_is_the_whole_text_in_another_order_each_time(tmp_path, vocabulary):
    documents = tokenize(TEXT, vocabulary, tmp_path, "text")
    blocks = Blocks(documents, 16, seed=3)
    per_epoch = blocks.blocks_per_epoch
    epochs = []
    for epoch in range(2):
        batch = blocks.__getitems__(range(epoch * per_epoch, (epoch + 1) * per_epoch))
        stream = batch["input_ids"].flatten().tolist()
        order, _ = blocks._make_order(epoch)
        expected = [i for d in order for i in documents.ids[documents.starts[d] : documents.starts[d + 1]].tolist()]
        assert stream == expected[: len(stream)] and len(expected) - len(stream) <= 16
        assert documents.num_bytes == sum(len(text.encode()) for text in TEXT)
        epochs.append(stream)
    assert epochs[0] != epochs[1]
    again = Blocks(tokenize([], vocabulary, tmp_path, "text"), 16, seed=3)
    for number in (5, per_epoch + 2):
        one, other = blocks.__getitems__([number]), again.__getitems__([number])
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_first_token_of_the_next_document_is_no_label_unless_it_ends_the_last(tmp_path, vocabulary):
    documents = tokenize(TEXT, vocabulary, tmp_path, "text")
    batch = Blocks(documents, 40, seed=0).__getitems__([0, 1])
    starts = batch["position_ids"][:, 1:] == 0
    assert starts.any()
    labels = batch["labels"][:, :-1][starts]
    if vocabulary.roles["bos"] == vocabulary.roles["eos"]:
        assert (labels == vocabulary.roles["eos"]).all()
    else:
        assert (labels == IGNORE).all()
        assert (batch["labels"] == vocabulary.roles["eos"]).any()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_documents_in_a_block_do_not_see_each_other(tmp_path, byte_level_folder, kind):
    if kind == "llama":
        model = AutoModelForCausalLM.from_pretrained(make_llama(tmp_path / "model", 400))
    else:
        model = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=64))
    model.eval()
    blocks = Blocks(tokenize(TEXT, load_vocabulary(byte_level_folder), tmp_path, "text"), 48, seed=0)
    with torch.no_grad():
        for number in range(blocks.blocks_per_epoch):
            batch = blocks.__getitems__([number])
            packed = hidden_states(model, batch["input_ids"], batch["position_ids"])[0]
            at = 0
            for fragment in blocks.fragments(number):
                size = min(fragment.last - fragment.first, 48 - at)
                if size:
                    alone = hidden_states(model, batch["input_ids"][:, at : at + size], None)[0]
                    torch.testing.assert_close(packed[at : at + size], alone, rtol=1e-4, atol=1e-5)
                at += size


def test_memory_follows_characters_not_documents(tmp_path, vocabulary, monkeypatch):
    monkeypatch.setattr("vocabalign.train.documents.in_batches", lambda texts: in_batches(texts, 200))
    groups: list[list[str]] = []

    def encode_batch(batch):
        groups.append(list(batch))
        return vocabulary.encode_batch(batch)

    watched = replace(vocabulary, encode_batch=encode_batch)
    documents = tokenize([*TEXT, "long " * 100, *TEXT], watched, tmp_path, "few")
    assert [text for group in groups for text in group] == [*TEXT, "long " * 100, *TEXT]
    assert all(len(group) == 1 or sum(map(len, group)) <= 200 for group in groups)
    monkeypatch.undo()
    whole = tokenize([*TEXT, "long " * 100, *TEXT], vocabulary, tmp_path, "many")
    assert (documents.ids == whole.ids).all() and (documents.starts == whole.starts).all()


def test_too_little_text(tmp_path, vocabulary):
    with pytest.raises(CorpusError, match="too few"):
        Blocks(tokenize(["few words"], vocabulary, tmp_path, "a"), 64, 0)
    with pytest.raises(CorpusError, match="no text"):
        tokenize([], vocabulary, tmp_path, "b")
    with pytest.raises(CorpusError, match="empty"):
        HeldOut([], vocabulary, 16, 4)


def test_bits_per_byte_is_that_of_the_plain_loss(tmp_path, byte_level_folder):
    import math

    model = AutoModelForCausalLM.from_pretrained(make_llama(tmp_path / "model", 400)).eval()
    vocabulary = load_vocabulary(byte_level_folder)
    nats = 0.0
    for text in TEXT:
        ids = torch.tensor([[vocabulary.roles["bos"], *vocabulary.encode(text)]])
        with torch.no_grad():
            logits = model(ids).logits[0, :-1]
        nats += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
    expected = nats / math.log(2) / sum(len(text.encode()) for text in TEXT)
    assert HeldOut(TEXT, vocabulary, 128, 3).bits_per_byte(model) == pytest.approx(expected, rel=1e-5)
