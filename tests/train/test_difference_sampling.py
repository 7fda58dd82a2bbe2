"""Difference sampling: what the teacher likes more by the byte is kept; and texts that are found by their number."""

import json

import numpy as np
import pytest
import torch

from tests.train.runs import SMALL
from vocabalign.config import make_config
from vocabalign.errors import ConfigError
from vocabalign.models import load_model
from vocabalign.stages import DistillConfig
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train.difference_sampling import choose_documents
from vocabalign.train.text_store import store_texts
from vocabalign.train.texts import TrainingText


@pytest.fixture(scope="module")
def sides(tiny_llama):
    model = load_model(tiny_llama, dtype=torch.float32, device=torch.device("cpu"))
    vocabulary = load_vocabulary(tiny_llama)
    better = load_model(tiny_llama, dtype=torch.float32, device=torch.device("cpu"))
    # A teacher that finds one letter likelier than the other model does.
    letter = vocabulary.encode("z")[0]
    head = better.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    with torch.no_grad():
        hidden = better.base_model(torch.tensor([[0, *vocabulary.encode("z z z")]])).last_hidden_state[0]
        head.weight[letter] += hidden.mean(0) / hidden.mean(0).square().sum() * 3
    return (better, vocabulary), (model, vocabulary), vocabulary


def configured(path, tmp_path, keep):
    values = {"student": "s", "teacher": "t", "corpus": [str(path)], "out": tmp_path / "out", "training": SMALL}
    return make_config(DistillConfig, {**values, "difference_sampling": {"keep": keep}})


def test_what_the_teacher_likes_more_is_kept_in_its_order(tmp_path, sides):
    teacher, reference, vocabulary = sides
    texts = [f"{'z' * 12 if number % 2 else 'quiet day'} {number}" for number in range(150)]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    out = choose_documents(configured(path, tmp_path, 0.5), tmp_path, teacher, reference, vocabulary)
    kept = [json.loads(line)["text"] for line in out.read_text().splitlines()]
    assert kept == [text for text in texts if text.startswith("z")]
    scores = np.array([float(line) for line in (tmp_path / "chosen.jsonl.scores").read_text().splitlines()])
    # An interrupted run goes on with the scores that are there.
    out.unlink()
    lines = (tmp_path / "chosen.jsonl.scores").read_text().splitlines(keepends=True)
    (tmp_path / "chosen.jsonl.scores").write_text("".join(lines[:100]))
    again = choose_documents(configured(path, tmp_path, 0.5), tmp_path, teacher, reference, vocabulary)
    assert [json.loads(line)["text"] for line in again.read_text().splitlines()] == kept
    found = [float(line) for line in (tmp_path / "chosen.jsonl.scores").read_text().splitlines()]
    assert np.allclose(found, scores)


def test_conversations_are_refused(tmp_path, sides, tiny_llama):
    teacher, reference, vocabulary = sides
    vocabulary.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    messages = [{"role": "user", "content": "Hi "}, {"role": "assistant", "content": "Hello"}]
    path = tmp_path / "talk.jsonl"
    path.write_text(json.dumps({"messages": messages}) + "\n")
    with pytest.raises(ConfigError, match="conversations"):
        choose_documents(configured(path, tmp_path, 0.5), tmp_path, teacher, reference, vocabulary)
    vocabulary.tokenizer.chat_template = None


def test_texts_come_back_by_number(tmp_path):
    texts = ["one", "zwei Müller", "", "четыре 🙂"]
    store = store_texts((TrainingText(text) for text in texts), tmp_path, "texts")
    assert list(store) == texts and store[3] == texts[3] and len(store) == 4
    assert list(store_texts(iter(()), tmp_path, "texts")) == texts
