import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocabalign.errors import ConfigError
from vocabalign.tokenizer_tools.script_filter import Scripts

LATIN_CYRILLIC = Scripts(["Latin", "Cyrillic"])


@given(st.text("aé Жя,1\u0301", min_size=1), st.data())
def test_every_cut_of_text_in_the_scripts_may_be_in_them(text, data):
    raw = text.encode()
    start = data.draw(st.integers(0, len(raw) - 1))
    end = data.draw(st.integers(start + 1, len(raw)))
    assert LATIN_CYRILLIC.may_contain(raw[start:end])


@given(st.characters(categories=("Lo",)))
def test_other_letters_are_not(character):
    name = unicodedata.name(character, "")
    if any(name.startswith(script) for script in ("HANGUL", "CJK", "THAI", "DEVANAGARI", "ETHIOPIC")):
        assert not LATIN_CYRILLIC.contain(character)
        assert not LATIN_CYRILLIC.may_contain(b"a" + character.encode())
        # The first byte of three alone could also begin a sign that belongs to no script.
        assert not Scripts(["Hebrew"]).contain(f"x{character}")


def test_an_unknown_script_is_named():
    with pytest.raises(ConfigError, match="'Klingon' is no Unicode script"):
        Scripts(["Latin", "Klingon"])
