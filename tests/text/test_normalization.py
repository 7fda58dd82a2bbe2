"""What normalizers do, in plain words."""

import pytest
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from vocabalign.text.normalization import normalized, normalizer_effects
from vocabalign.text.tokenizers import load_vocabulary


def make(normalizer):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    return load_vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]"))


@pytest.mark.parametrize(
    ("normalizer", "effects"),
    [
        (None, []),
        (normalizers.Lowercase(), ["lower case"]),
        (normalizers.NFC(), ["NFC"]),
        (normalizers.NFD(), ["NFD"]),
        (normalizers.NFKC(), ["NFC", "compatibility"]),
        (normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]), ["accents"]),
        (normalizers.Strip(), ["spaces at the ends"]),
        (normalizers.BertNormalizer(), ["lower case", "accents", "line ends", "control", "spaces around Chinese"]),
    ],
)
def test_effects(normalizer, effects):
    found = normalizer_effects(make(normalizer))
    assert len(found) == len(effects) and all(name.startswith(effect) for name, effect in zip(found, effects)), found


def test_spaces_and_byte_alphabets_are_no_change(byte_level_folder, metaspace_folder):
    for folder in (byte_level_folder, metaspace_folder):
        vocabulary = load_vocabulary(folder)
        assert normalizer_effects(vocabulary) == ()
        assert normalized(vocabulary, "a \u00e9  b").removeprefix(" ") == "a \u00e9  b"
