"""Roles from settings and from names."""

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from vocabalign.text.roles import SPECIAL, role_bit, role_masks, roles_by_name, roles_of
from vocabalign.text.tokenizers import load_vocabulary


@pytest.mark.parametrize(
    ("token", "roles"),
    [
        ("<|im_start|>", ("turn_start",)),
        ("<start_of_turn>", ("turn_start",)),
        ("[INST]", ("turn_start", "user")),
        ("[/INST]", ("turn_end", "assistant")),
        ("<|eot_id|>", ("turn_end",)),
        ("<|reserved_special_token_17|>", ("reserved",)),
        ("<unused12>", ("reserved",)),
        ("[unused3]", ("reserved",)),
        ("<|unused_3|>", ("reserved",)),
        ("<|image_pad|>", ("image",)),
        ("<image_soft_token>", ("image",)),
        ("<|fim_prefix|>", ("fim_prefix",)),
        ("</s>", ("eos",)),
        ("<s>x", ()),
        ("the", ()),
    ],
)
def test_names(token, roles):
    assert roles_by_name(token) == roles


def test_settings_come_first_and_words_have_none(byte_level_folder):
    tokenizer = Tokenizer.from_file(str(byte_level_folder / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False), AddedToken("<|im_end|>", special=True)])
    vocabulary = load_vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|endoftext|>"))
    added = {vocabulary.raw_tokens[i]: roles for i, roles in roles_of(vocabulary).items()}
    assert added == {"<|endoftext|>": ("pad", "eos"), "<tool_call>": ("tool_start",), "<|im_end|>": ("turn_end",)}
    masks = role_masks(vocabulary)
    assert masks[0] == SPECIAL | role_bit("pad") | role_bit("eos")
    assert set(np.flatnonzero(masks)) == set(vocabulary.special_ids)  # a token of text is none, whatever its name
    with pytest.raises(ValueError):
        masks[0] = 0
