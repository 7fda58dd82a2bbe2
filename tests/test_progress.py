"""Progress: plain lines where there is no terminal."""

import logging

import pytest

from vocabalign import progress as module
from vocabalign.progress import progress, track


def test_track_gives_every_item_once():
    assert list(track(range(5), "counting")) == [0, 1, 2, 3, 4]


def test_without_a_terminal_there_are_plain_lines(monkeypatch, caplog):
    monkeypatch.setattr(module, "PLAIN_SECONDS", 0.0)
    monkeypatch.setattr(module.logger, "propagate", True)
    with caplog.at_level(logging.INFO, logger="vocabalign"), progress("training", 4) as counter:
        counter.advance(1, "loss 3.2")
        counter.advance(1)
    assert "training:  25% loss 3.2" in caplog.text and "50%" in caplog.text and "\x1b" not in caplog.text


def test_on_a_terminal_there_is_a_bar_and_it_is_closed_on_errors(monkeypatch):
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(module.logger, "level", logging.INFO)
    module.logger.setLevel(logging.INFO)
    with pytest.raises(RuntimeError), progress("training", 4) as counter:
        assert counter._bar is not None
        counter.advance(2)
        raise RuntimeError
    assert counter._bar.finished is not None and counter.done == 2
