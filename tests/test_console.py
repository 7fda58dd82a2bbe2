"""What commands say."""

import json

import pytest

from vocabalign.console import explain, is_main_process, model_table, show
from vocabalign.errors import ConfigError, ModelError


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigError("wrong key"), 2, "wrong key"),
        (ModelError("no model"), 1, "no model"),
        (OSError(28, "No space left on device"), 1, "No space left"),
        (MemoryError(), 1, "Out of memory"),
        (RuntimeError("strange\nthing"), 1, "--debug"),
    ],
)
def test_every_error_is_one_sentence_with_a_code(error, code, words):
    message, told = explain(error)
    assert told == code and words in message and "\n" not in message


def test_a_result_is_text_for_people_and_one_object_for_machines(capsys):
    show({"a": "é"}, False, "words")
    assert capsys.readouterr().out == "words\n"
    show({"a": "é"}, True, "words")
    assert json.loads(capsys.readouterr().out) == {"a": "é"}


def test_only_the_first_process_speaks(monkeypatch):
    assert is_main_process()
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()


def test_the_table_names_every_model():
    models = [
        {"name": name, "path": name, "bits_per_byte": 1.5, "tokens_per_kilobyte": 300.0} for name in ("one", "two")
    ]
    table = model_table({"models": models})
    assert "one" in table and "two" in table and "1.5" in table
