"""Configuration: unknown keys, overrides and files."""

import pytest

from vocabalign.config import make_config, merge, parse_overrides, read_yaml
from vocabalign.errors import ConfigError
from vocabalign.stages import AlignConfig, FinetuneConfig


def test_an_unknown_key_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match="unknown key 'tagret'.*target"):
        make_config(AlignConfig, {"source": "a", "tagret": "b", "target": "b", "corpus": [], "out": "o"})


def test_a_missing_key_says_how_to_give_it():
    with pytest.raises(ConfigError, match="'block_mebibytes' is 0.*greater than 0"):
        make_config(AlignConfig, {"source": "a", "target": "b", "corpus": [], "out": "o", "block_mebibytes": 0})
    with pytest.raises(ConfigError, match="'source' is missing: give it"):
        make_config(AlignConfig, {"target": "b", "corpus": [], "out": "o"})


def test_a_wrong_key_in_a_nested_block_is_named_with_its_path():
    with pytest.raises(ConfigError, match=r"training\.stpes"):
        make_config(FinetuneConfig, {"model": "m", "corpus": [], "out": "o", "training": {"stpes": 3}})


def test_configurations_are_frozen():
    config = make_config(AlignConfig, {"source": "a", "target": "b", "corpus": [], "out": "o"})
    with pytest.raises(ValueError, match="frozen"):
        config.top_k = 3


def test_overrides_are_yaml_and_nest():
    assert parse_overrides(["a.b=3", "a.c=[1, 2]", "d=null", "e=x=y"]) == {
        "a": {"b": 3, "c": [1, 2]},
        "d": None,
        "e": "x=y",
    }


@pytest.mark.parametrize("bad", ["novalue", "=3", "a=[1"])
def test_a_bad_override_is_named(bad):
    with pytest.raises(ConfigError, match="override"):
        parse_overrides([bad])


def test_contradicting_overrides_are_refused():
    with pytest.raises(ConfigError, match="contradicts"):
        parse_overrides(["a=1", "a.b=2"])


def test_merging_keeps_what_is_not_changed():
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}, "e": 5}) == {"a": {"b": 1, "c": 4}, "d": 3, "e": 5}


@pytest.mark.parametrize(
    ("content", "said"), [(b"- a\n", "holds a list"), (b"a: [", "not YAML"), (b"\xff\xfe", "cannot be read as UTF-8")]
)
def test_a_bad_file_is_told(tmp_path, content, said):
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_yaml(tmp_path / "c.yaml")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        read_yaml(tmp_path / "c.yaml")
