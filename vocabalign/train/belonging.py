"""Does this tokenizer belong to this model? Asked before training, which would only teach a wrong pair to get along."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vocabalign.errors import CorpusError, ModelError
from vocabalign.losses.fused import IGNORE
from vocabalign.models import context_length
from vocabalign.provenance import PROVENANCE, read_provenance
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.head import embedding_rows
from vocabalign.train.heldout import HeldOut

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# A tokenizer may leave rows over (padding to a round number), but not most of them.
LEAST_ROWS_USED = 0.6
# Nats above chance in every one of the samples. Measured: a tokenizer that is the model's own is at least 3.4 below
# chance in the best of them, and other tokenizers are 1.3 to 5.2 above.
ABOVE_CHANCE = 0.5
SAMPLE_TOKENS = 64
# The first article of the Universal Declaration of Human Rights, a fairy tale's beginning, and a line of code.
SAMPLES = (
    "All human beings are born free and equal in dignity and rights.",
    "Once upon a time there was a little girl who lived with her mother in a small house. One day she went out.",
    "Todos los seres humanos nacen libres e iguales en dignidad y derechos.",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.",
    "人人生而自由,在尊严和权利上一律平等。",
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "for index in range(10):\n    print(index)\n",
)


def check_vocabulary_belongs(model: PreTrainedModel, vocabulary: Vocabulary, folder: Path) -> None:
    """Refuse a tokenizer that the model was not made for, as far as that can be told.

    A transplanted model says itself which tokens its rows are for. Any other one must do better than chance on a
    sentence in one of ten languages; one that was never trained does as well as chance, and passes.

    Raises:
        ModelError: the tokenizer is another one.
    """
    rows = embedding_rows(model).shape[0]
    if len(vocabulary) < LEAST_ROWS_USED * rows:
        raise ModelError(
            f"The tokenizer in {folder} has {len(vocabulary):,} tokens and the model {rows:,} rows: they do not belong "
            "together. Put the model's own tokenizer there, or transplant this one into it (vocabalign transplant)."
        )
    provenance = read_provenance(folder)
    if provenance is not None:
        told = [(entry["id"], entry["token"]) for entry in provenance.get("least_certain", [])]
        wrong = [token for i, token in told if i >= len(vocabulary) or vocabulary.raw_tokens[i] != token]
        if provenance.get("num_tokens", len(vocabulary)) != len(vocabulary) or wrong:
            found = f"the token {wrong[0]!r} is another one there" if wrong else f"it has {len(vocabulary):,} tokens"
            raise ModelError(
                f"{folder / PROVENANCE} tells of another tokenizer than the one in that folder ({found}): they do not "
                "belong together. Transplant again, or put the right tokenizer there."
            )
        return
    surprise, chance = min_nats_per_token(model, vocabulary, SAMPLES), math.log(rows)
    if surprise > chance + ABOVE_CHANCE:
        raise ModelError(
            f"The model in {folder} finds sentences in ten languages less likely than chance ({surprise:.1f} nats a "
            f"token, chance is {chance:.1f}) as its tokenizer cuts them: the tokenizer does not belong to it. Put the "
            "model's own there, or transplant this one into it (vocabalign transplant)."
        )


@torch.no_grad()
def min_nats_per_token(model: PreTrainedModel, vocabulary: Vocabulary, texts: Sequence[str]) -> float:
    """The mean surprise a token of the text that surprises the model least."""
    context = min(SAMPLE_TOKENS, context_length(model) or SAMPLE_TOKENS)
    found = []
    for text in texts:
        try:
            windows = HeldOut([text], vocabulary, context, 1)
        except CorpusError:
            continue  # a single token, with nothing before it
        tokens = sum(int(labels.ne(IGNORE).sum()) for _, _, labels in windows.batches)
        found.append(windows.bits_per_byte(model) * math.log(2) * windows.num_bytes / tokens)
    return min(found, default=0.0)
