"""Special tokens: overrides, then names, then roles."""

import dataclasses

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


CHAT = make(
    [
        "<bos>",
        "<eos>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<start_of_image>",
        "<image_soft_token>",
        "<unused0>",
        "<unused1>",
    ],
    {"bos": "<bos>", "eos": "<eos>", "pad": "<eos>"},
)
OTHER = make(
    [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
        "<|reserved_7|>",
        "<|reserved_8|>",
    ]
    + ["<|reserved_9|>", "<|novel|>"],
    {"eos": "<|im_end|>", "pad": "<|endoftext|>"},
)


def named(mapped, source, target):
    return {target.raw_tokens[t]: [source.raw_tokens[s] for s in ids] for t, ids in mapped.items()}


def test_chat_markers_images_and_reserved_tokens():
    mapped = map_special_tokens(CHAT, OTHER)
    assert named(mapped, CHAT, OTHER) == {
        "<|endoftext|>": ["<eos>"],
        "<|im_start|>": ["<start_of_turn>"],
        "<|im_end|>": ["<eos>"],
        "<|image_pad|>": ["<image_soft_token>"],
        "<|video_pad|>": ["<image_soft_token>"],
        "<|reserved_7|>": ["<unused0>"],
        "<|reserved_8|>": ["<unused1>"],
    }
    assert mapped.rules[4] == "role video from image" and [OTHER.raw_tokens[i] for i in mapped.unmapped] == [
        "<|reserved_9|>",
        "<|novel|>",
    ]
    # The source's end of turn is what its settings call EOS.
    back = named(map_special_tokens(OTHER, CHAT), OTHER, CHAT)
    assert back["<eos>"] == back["<end_of_turn>"] == ["<|im_end|>"] and back["<start_of_turn>"] == ["<|im_start|>"]
    assert back["<bos>"] == ["<|im_end|>"] and "<start_of_image>" not in back or back["<start_of_image>"]


def test_collisions_are_told():
    mapped = map_special_tokens(OTHER, CHAT)
    notes = " ".join(mapped.notes)
    assert "'<eos>' is eos and pad of the target: it takes '<|im_end|>' (role eos)." in mapped.notes
    assert "The source has no bos: '<bos>' takes its eos '<|im_end|>'." in mapped.notes
    assert "'<|im_end|>' of the source serves several tokens of the target: '<bos>', '<eos>'" in notes
    assert not map_special_tokens(CHAT, CHAT).notes[1:]


def test_further_eos_tokens_of_generation():
    target = dataclasses.replace(make(["<a>", "<b>"], {"eos": "<a>"}), more_eos=(0, 1))
    assert dict(map_special_tokens(LLAMA, target)) == {0: [2], 1: [2]}


def test_words_that_look_like_roles_are_words():
    source = make(["<s>", "</s>"], {"bos": "<s>", "eos": "</s>"})
    assert dict(map_special_tokens(source, make(["<u>"], {}, ("a", "<eos>", "<|im_end|>")))) == {}


def test_lists_and_commas_in_overrides():
    target = make(["<x>", "<y>"], {})
    mapped = map_special_tokens(GPT, target, {"<x>": [",", "a"], "<y>": ["<|im_end|>"]})
    assert mapped[0] == [4, 1] and mapped[1] == [3]
    with pytest.raises(ConfigError, match="'', which the source"):
        map_special_tokens(GPT, target, {"<x>": []})


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
