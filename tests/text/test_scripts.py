"""Scripts of characters and tokens."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocabalign.text.scripts import (
    DIGITS,
    FRAGMENT,
    NO_TEXT,
    OTHERS,
    SEVERAL,
    SYMBOLS,
    WHITE_SPACE,
    character_script,
    token_script,
)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        (" the", "Latin"), ("д", "Cyrillic"), ("中文", "Han"), ("한국", "Hangul"), ("ｱ", "Katakana"), ("Ａ", "Latin"),
        ("กำ", "Thai"), ("ᠪᠢ", "Mongolian"), ("ᦀ", "New Tai Lue"), ("中の", SEVERAL), ("12", DIGITS),
        ("२", "Devanagari"), ("²", DIGITS), (" \n", WHITE_SPACE), ("\u3000", WHITE_SPACE), ("!?", SYMBOLS),
        ("\N{SNOWMAN}", SYMBOLS), ("é1!", "Latin"), ("e\u0301", "Latin"), ("\u0301", SYMBOLS), ("", NO_TEXT),
    ],
)  # fmt: skip
def test_known(text, script):
    assert token_script(text.encode()) == script


def test_what_is_no_text():
    assert token_script(None) == NO_TEXT
    assert token_script("д".encode()[:1]) == FRAGMENT


@given(st.text(min_size=1))
def test_a_token_is_of_the_scripts_of_its_characters(text):
    scripts = {character_script(character) for character in text} - {None}
    found = token_script(text.encode())
    assert found == SEVERAL if len(scripts) > 1 else {found} == scripts or (not scripts and found in OTHERS)


def test_agrees_with_unicode():
    """The ``regex`` package (which transformers brings along) holds the real property."""
    regex = pytest.importorskip("regex")
    names = ("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Thai", "Han", "Hangul", "Hiragana", "Katakana", "Tamil")
    patterns = {name: regex.compile(rf"\p{{Script={name}}}") for name in names}
    wrong = tried = 0
    for number in range(0x30000):
        character = chr(number)
        if unicodedata.category(character)[0] != "L":
            continue
        tried += 1
        name = character_script(character)
        wrong += any(bool(pattern.match(character)) != (name == known) for known, pattern in patterns.items())
    assert tried > 100_000 and wrong / tried < 0.003
