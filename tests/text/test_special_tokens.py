"""Special tokens: overrides, then names, then roles."""

import pytest

from vocabalign.errors import ConfigError
from vocabalign.text.special_tokens import map_special_tokens
from vocabalign.text.vocabulary import Vocabulary


def make(specials, roles, words=("a", "b")):
    raw = (*specials, *words)
    return Vocabulary(
        name="toy",
        token_bytes=tuple(None if token in specials else token.encode() for token in raw),
        encode_batch=lambda texts: [[] for _ in texts],
        raw_tokens=raw,
        roles={role: raw.index(token) for role, token in roles.items()},
        special_ids=frozenset(range(len(specials))),
        byte_ids=frozenset(),
        dummy_prefix=False,
        fingerprint="",
    )


GPT = make(["<|endoftext|>"], {"bos": "<|endoftext|>", "eos": "<|endoftext|>"}, ("a", "b", "<|im_end|>", ","))
LLAMA = make(
    ["<unk>", "<s>", "</s>", "<pad>", "<|im_end|>"], {"unk": "<unk>", "bos": "<s>", "eos": "</s>", "pad": "<pad>"}
)


def test_names_then_roles():
    mapped = map_special_tokens(GPT, LLAMA)
    assert dict(mapped) == {1: [0], 2: [0], 3: [0], 4: [3]}
    assert mapped.rules == {1: "role bos", 2: "role eos", 3: "role pad from eos", 4: "same token"}
    assert mapped.unmapped == (0,) and 0 not in mapped


def test_a_token_with_several_roles_takes_the_eos():
    mapped = map_special_tokens(LLAMA, GPT)
    assert dict(mapped) == {0: [2]} and mapped.rules == {0: "role eos"}


@pytest.mark.parametrize(("have", "want"), [("eos", "bos"), ("eos", "pad"), ("bos", "eos"), ("pad", "eos")])
def test_stand_ins(have, want):
    mapped = map_special_tokens(make(["<h>"], {have: "<h>"}), make(["<w>"], {want: "<w>"}))
    assert mapped[0] == [0] and mapped.rules[0] == f"role {want} from {have}"


def test_identical_vocabularies_map_to_themselves():
    assert dict(map_special_tokens(LLAMA, LLAMA)) == {i: [i] for i in range(5)}


def test_overrides():
    mapped = map_special_tokens(GPT, LLAMA, {"</s>": "<|im_end|>", "pad": "a,b", "<s>": ","})
    assert mapped[2] == [3] and mapped[3] == [1, 2] and mapped[1] == [4]
    assert mapped.rules[2] == mapped.rules[3] == "override"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"<nope>": "a"}, "'<nope>', which the target"),
        ({"</s>": "nope"}, "'nope', which the source"),
        ({"</s>": ""}, "which the source"),
        ({"</s>": "a", "eos": "b"}, "contradict"),
    ],
)
def test_bad_overrides(overrides, message):
    with pytest.raises(ConfigError, match=message):
        map_special_tokens(GPT, LLAMA, overrides)
