"""Overrides for special tokens, from the command line and from files."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vocabalign.errors import ConfigError
from vocabalign.text.overrides import merge_overrides, parse_overrides, read_overrides

TOKENS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


def test_from_the_command_line():
    assert parse_overrides(["<x>=<y>", "pad=a,b", "<x>=<y>", "k=a=b"]) == {"<x>": "<y>", "pad": "a,b", "k": "a=b"}


@pytest.mark.parametrize("text", ["<x>", "=a", "a=", ""])
def test_what_cannot_be_read(text):
    with pytest.raises(ConfigError, match="expected TARGET=SOURCE"):
        parse_overrides([text])


@pytest.mark.parametrize("ending", ["yaml", "json"])
@given(overrides=st.dictionaries(TOKENS, st.one_of(TOKENS, st.lists(TOKENS, min_size=1, max_size=3)), max_size=4))
def test_files(tmp_path_factory, ending, overrides):
    path = tmp_path_factory.mktemp("o") / f"map.{ending}"
    write = yaml.safe_dump if ending == "yaml" else json.dumps
    path.write_text(write(overrides), encoding="utf-8")
    if overrides or ending == "json":
        assert read_overrides(path) == overrides


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.yaml", "- a\n", "expected a mapping"),
        ("m.json", "[1]", "expected a mapping"),
        ("m.yaml", "a: b\na: c\n", "contradict each other: 'a' is mapped to 'b' and to 'c'"),
        ("m.json", '{"a": "b", "a": ["c"]}', "contradict"),
        ("m.yaml", "1: b\n", "says 1: 'b'"),
        ("m.yaml", "a: []\n", r"says 'a': \[\]"),
        ("m.json", '{"a": {"b": "c"}}', "expected a token"),
        ("m.yaml", "a: [", "cannot be read"),
        ("no.yaml", None, "cannot be read"),
    ],
)
def test_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_overrides(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_and_the_command_line_may_agree_but_not_contradict():
    assert merge_overrides({"a": "b"}, {"a": "b", "c": ["d"]}) == {"a": "b", "c": ["d"]}
    with pytest.raises(ConfigError, match="contradict"):
        merge_overrides({"a": "b"}, {"a": ["b", "c"]})
