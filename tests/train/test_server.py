"""A teacher behind a small server of our own: both ways of asking, and everything that servers do wrong."""

import http.server
import json
import threading

import numpy as np
import pytest
import torch

from tests.conftest import make_byte_level_tokenizer, make_llama
from tests.train.runs import distilled, losses, weights
from vocabalign.config import make_config
from vocabalign.errors import ConfigError, CorpusError, ServerError
from vocabalign.manifests import read_manifest
from vocabalign.models import load_model
from vocabalign.stages import DistillCacheConfig
from vocabalign.stages.distill_configs import ServerOptions
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train import caches
from vocabalign.train.cache_reading import TargetCache
from vocabalign.train.server import Server

FAST = dict(check_teacher=False)
QUICK = {"retries": 2, "pause_seconds": 0.01, "timeout_seconds": 5}


class Teacher(http.server.ThreadingHTTPServer):
    """Tells the log-probabilities of a prompt as OpenAI's interface or as vLLM does, with faults on demand."""

    daemon_threads = True

    def __init__(self, folder, dialect="echo", fault=None):
        super().__init__(("127.0.0.1", 0), Answer)
        self.vocabulary = load_vocabulary(folder)
        self.model = load_model(folder, dtype=torch.float32, device=torch.device("cpu"))
        self.dialect, self.fault, self.asked = dialect, fault, []
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def tell(self, text):
        ids = self.vocabulary.encode(text)
        begin = self.vocabulary.roles["bos"]
        with torch.no_grad(), self.lock:
            logits = self.model(torch.tensor([[begin, *ids]])).logits[0].log_softmax(-1)
        values = [float(logits[place, token]) for place, token in enumerate(ids)]
        return ids, values

    def answer(self, payload):
        text = payload["prompt"]
        with self.lock:
            self.asked.append(text)
        ids, values = self.tell(text)
        tokens = [self.vocabulary.token_bytes[token].decode(errors="replace") for token in ids]
        if "prompt_logprobs" in payload and self.dialect == "prompt_logprobs":
            entries = [{str(i): {"logprob": v, "decoded_token": t}} for i, v, t in zip(ids, values, tokens)]
            return {"choices": [{"text": "", "prompt_logprobs": [None, *entries]}]}
        if payload.get("echo") and self.dialect == "echo":
            ends = np.cumsum([0, *(len(self.vocabulary.token_bytes[token]) for token in ids)])
            places = [len(text.encode()[:end].decode(errors="ignore")) for end in ends[:-1]]
            found = {"tokens": tokens, "token_logprobs": values, "text_offset": places}
            return {"choices": [{"text": text, "logprobs": found}]}
        return None


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self._send(200, {"data": [{"id": "the-model"}]})

    def do_POST(self):
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = self.server.fault(payload) if self.server.fault else None
        if isinstance(fault, tuple):
            return self._send(*fault)
        if fault == "hang up":
            return self.connection.close()
        answer = self.server.answer(payload)
        return self._send(200, answer) if answer else self._send(400, {"error": "unknown parameter"})

    def _send(self, code, value):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("behind")
    make_byte_level_tokenizer(path, texts=["other words for the one behind the server, over and over"] * 4)
    return make_llama(path, 400, seed=3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    words = "the cat sat on the mat and the dog lay by the door of Müller ".split()
    with path.open("w", encoding="utf-8") as file:
        for number in range(40):
            text = " ".join(words[(number + i * i) % len(words)] for i in range(30))
            file.write(json.dumps({"text": f"{text} {number}"}, ensure_ascii=False) + "\n")
    return path


def cached(url, corpus, out, **values):
    fields = {"teacher": url, "corpus": [str(corpus)], "out": out, "server": QUICK, **values}
    return caches.run(make_config(DistillCacheConfig, fields))


@pytest.mark.parametrize("dialect", ["echo", "prompt_logprobs"])
def test_what_a_server_tells_is_what_the_model_gives(folder, dialect):
    teacher = Teacher(folder, dialect)
    server = Server(teacher.url, ServerOptions(**QUICK))
    assert server.dialect == dialect and server.model == "the-model"
    text = "The cat sat on the mat, 12 pears."
    told = server.tell(text)
    ids, values = teacher.tell(text)
    sizes = [len(teacher.vocabulary.token_bytes[token]) for token in ids]
    assert told.ends[-1] == len(text.encode())
    known = ~np.isnan(told.log_probs)
    assert np.allclose(told.log_probs[known], values, atol=1e-5)
    assert np.diff(told.ends, prepend=0)[known].tolist() == sizes


def test_tokens_that_are_parts_of_characters(folder):
    server = Server(Teacher(folder).url, ServerOptions(**QUICK))
    text = "Müller и девочка 🙂."
    told = server.tell(text)
    assert told.ends[-1] == len(text.encode()) and (np.diff(told.ends) >= 0).all()


def test_a_student_learns_from_a_server(tmp_path, tiny_llama, folder, corpus):
    teacher = Teacher(folder)
    options = dict(distillation_weight=1.0, learning_rate=1e-2, server=QUICK, **FAST)
    out = distilled(tiny_llama, teacher.url, corpus, tmp_path / "out", {"steps": 15}, **options)
    assert np.mean(losses(out)[-3:]) < 0.95 * np.mean(losses(out)[:3])
    assert read_manifest(out)["metrics"]["loss"][0].startswith("chunks (the teacher tells")
    assert len(set(teacher.asked)) == 41  # the documents and the trial: nothing twice
    # The same by way of a cache.
    folder = cached(teacher.url, corpus, tmp_path / "cache")
    again = distilled(tiny_llama, [], corpus, tmp_path / "again", {"steps": 15}, cache=folder, **options)
    assert all(torch.equal(a, b) for a, b in zip(weights(out).values(), weights(again).values()))


def test_long_documents_are_read_in_windows(tmp_path, folder):
    (tmp_path / "long.txt").write_text("The cat sat on the mat, and the dog lay by the door. " * 30)
    teacher = Teacher(folder)
    out = cached(teacher.url, tmp_path / "long.txt", tmp_path / "cache", server={**QUICK, "context": 400})
    assert max(len(text) for text in teacher.asked) <= 400 and len(teacher.asked) > 5
    text = (tmp_path / "long.txt").read_text()
    assert TargetCache(out).ends_of(text)[-1] == len(text)


def test_a_busy_server_is_asked_again(folder, caplog):
    caplog.set_level("INFO", "vocabalign")
    count = iter(range(10**6))
    faults = {1: (503, {"error": "busy"}), 2: (200, b"no json"), 4: "hang up", 5: (429, {"error": "slow down"})}
    teacher = Teacher(folder, fault=lambda payload: faults.get(next(count)))
    server = Server(teacher.url, ServerOptions(**QUICK))
    for text in ("One.", "Two.", "Three."):
        assert len(server.tell(text).ends)
    assert "again in" in caplog.text and "503" in caplog.text


def test_a_server_that_dies_loses_nothing(tmp_path, tiny_llama, folder, corpus, monkeypatch):
    monkeypatch.setattr(caches, "GROUP_CHARACTERS", 500)
    dead = []
    teacher = Teacher(folder, fault=lambda payload: (500, {"error": "out of memory"}) if dead else None)
    original = caches.ServerReader.read

    def dies_after_a_few(self, items):
        if len(teacher.asked) > 10:
            dead.append(True)
        return original(self, items)

    monkeypatch.setattr(caches.ServerReader, "read", dies_after_a_few)
    options = dict(server=QUICK, **FAST)
    with pytest.raises(ServerError, match="HTTP 500.*3 times.*is kept"):
        distilled(tiny_llama, teacher.url, corpus, tmp_path / "out", {"steps": 1}, **options)
    assert not (tmp_path / "out").exists()
    first = list(teacher.asked)
    dead.clear()
    monkeypatch.setattr(caches.ServerReader, "read", original)
    distilled(tiny_llama, teacher.url, corpus, tmp_path / "out", {"steps": 1}, **options)
    second = teacher.asked[len(first) :]
    assert not (set(first) & set(second)) - {"Hello world"}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"choices": []}, "answered.*expected a log-probability for each token"),
        ({"choices": [{"logprobs": {"tokens": ["Hel"], "token_logprobs": [-1.0]}}]}, "expected a log-probability"),
        ({"choices": [{"logprobs": {"tokens": ["Hello world"], "token_logprobs": [3.0]}}]}, "at most 0"),
        ({"choices": [{"logprobs": {"tokens": ["Hello", " world"], "token_logprobs": [-1.0]}}]}, "one for each token"),
        (
            {"choices": [{"logprobs": {"tokens": ["Hello", " world"], "token_logprobs": [-1, float("nan")]}}]},
            "at most 0",
        ),
        ([1, 2], "expected"),
    ],
)
def test_nonsense_is_told(folder, answer, message):
    teacher = Teacher(folder, fault=lambda payload: (200, answer))
    with pytest.raises(ServerError, match=message):
        Server(teacher.url, ServerOptions(**QUICK))


def test_what_cannot_be_used_is_told(tmp_path, folder, corpus):
    refuses = Teacher(folder, dialect="none")
    with pytest.raises(ServerError, match="no log-probabilities of a prompt.*unknown parameter"):
        Server(refuses.url, ServerOptions(**QUICK))
    with pytest.raises(ServerError, match="no answer"):
        Server("http://127.0.0.1:9/v1", ServerOptions(**QUICK))
    with pytest.raises(ConfigError, match="kind=log-probs"):
        cached(refuses.url, corpus, tmp_path / "out", kind="top-k")
    (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "Hi"}]}))
    with pytest.raises(CorpusError, match="conversation"):
        cached(Teacher(folder).url, tmp_path / "chat.jsonl", tmp_path / "out")
    assert not (tmp_path / "out").exists()
