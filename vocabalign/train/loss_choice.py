"""Which losses a run takes: what the configuration names, or what the coverage of two tokenizers speaks for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from vocabalign.errors import ConfigError
from vocabalign.train.coverage import Coverage

TOKEN, SENTENCE, AUTO = "token", "sentence", "auto"
# Across tokenizers; ``token`` needs one vocabulary, ``sentence`` none of the teacher's distribution.
ACROSS = ("event", "chunks", "prefixes", "projection", "uld", "gold", "hidden")
NAMES = (TOKEN, *ACROSS)
# Completed by the text at every label: the teacher's share may be large. Others are added to the cross-entropy.
COMPLETED_BY_TEXT = (TOKEN, "event", "prefixes")
WEIGHT, WEIGHT_ADDED = 0.9, 0.5
# What of a teacher each kind of cache keeps, and the losses that this is enough for.
LOSSES_OF_KIND: dict[str, tuple[str, ...]] = {
    "online": NAMES,
    "hidden": NAMES,
    "top-k": (TOKEN, "event"),
    "sampled": (TOKEN, "event"),
    "log-probs": ("chunks",),
}

# Below this share of agreeing next events the classes of two tokenizers are no common language.
LEAST_EVENT_AGREEMENT = 0.5
# Below this share of the student's tokens too few places are left to compare distributions at.
LEAST_ALIGNMENT_RATE = 0.05
# Byte prefixes are nearly exact from here on, and worth their price where the starts that meet are fewer than this.
GOOD_PREFIX_AGREEMENT, FEW_STARTS = 0.95, 0.8


@dataclass(frozen=True)
class LossChoice:
    """Losses with their coefficients, and the reason in one sentence.

    Attributes:
        terms: name -> coefficient; together they are the share of the loss that the teacher has.
        reason: why.
    """

    terms: tuple[tuple[str, float], ...]
    reason: str

    def __str__(self) -> str:
        """As it can be given to ``--loss``."""
        return "+".join(name if factor == 1 else f"{factor:g}*{name}" for name, factor in self.terms)


def parse_loss(text: str) -> tuple[tuple[str, float], ...]:
    """``"event+0.5*chunks"`` -> names with coefficients; empty for ``auto``.

    Raises:
        ConfigError: an unknown name, a coefficient that is no positive number, or ``token``, ``sentence`` or ``auto``
            beside others.
    """
    terms: list[tuple[str, float]] = []
    for part in text.replace(" ", "").split("+"):
        match = re.fullmatch(r"(?:(\d+(?:\.\d+)?|\.\d+)\*)?([a-z-]+)", part)
        name = match.group(2) if match else part
        if match is None or name not in (*NAMES, SENTENCE, AUTO):
            known = ", ".join((AUTO, *NAMES, SENTENCE))
            raise ConfigError(
                f"The loss '{text}' has an unknown part '{part}': expected {known}, or a sum such as event+0.5*chunks."
            )
        factor = float(match.group(1) or 1)
        if not factor > 0:
            raise ConfigError(f"The loss '{text}' gives '{name}' the coefficient {factor:g}: expected a positive one.")
        terms.append((name, factor))
    names = [name for name, _ in terms]
    alone = [name for name in names if name in (AUTO, SENTENCE)]
    if len(set(names)) < len(names) or (alone and len(names) > 1):
        raise ConfigError(f"The loss '{text}' names a loss twice, or '{(alone or names)[0]}' beside others.")
    return () if names == [AUTO] else tuple(terms)


def choose_loss(coverage: Coverage, kind: str = "online", *, lexicon: bool = False) -> LossChoice:
    """What ``auto`` takes.

    Args:
        coverage: of the two tokenizers on text like that to be trained on.
        kind: what of the teacher is known; a key of ``LOSSES_OF_KIND``.
        lexicon: whether there is one for a projection.
    """
    if kind == "log-probs":
        return LossChoice(
            (("chunks", 1.0),), "the teacher tells what it gives to the text that is there, and nothing else"
        )
    if coverage.one_vocabulary:
        return LossChoice(((TOKEN, 1.0),), "every id means the same on both sides")
    events = f"next events agree at {coverage.event_agreement:.1%} of {coverage.alignment_rate:.2f} starts a token"
    usable = coverage.event_agreement >= LEAST_EVENT_AGREEMENT and coverage.alignment_rate >= LEAST_ALIGNMENT_RATE
    if kind in ("top-k", "sampled"):
        return LossChoice((("event", 1.0),), f"the cache keeps distributions, and {events}")
    if not usable:
        if lexicon:
            return LossChoice((("projection", 1.0), ("chunks", 1.0)), f"only {events}, and there is a lexicon")
        return LossChoice((("chunks", 1.0),), f"only {events}: too few to compare distributions at")
    dense = coverage.prefix_agreement >= GOOD_PREFIX_AGREEMENT and coverage.alignment_rate < FEW_STARTS
    if dense and coverage.prefix_rate > coverage.alignment_rate:
        return LossChoice(
            (("prefixes", 1.0),),
            f"the student's tokens are shorter: its cuts of the teacher's tell {coverage.prefix_rate:.2f} of its next "
            f"tokens ({coverage.prefix_agreement:.1%} agree), starts that meet only {coverage.alignment_rate:.2f}",
        )
    return LossChoice((("event", 1.0),), events)


def weight_of(weight: float | None, names: Iterable[str]) -> float:
    """The teachers' share of the loss: as configured, or what suits the losses."""
    if weight is not None:
        return weight
    return WEIGHT if all(name in COMPLETED_BY_TEXT for name in names) else WEIGHT_ADDED


def check_known(terms: tuple[tuple[str, float], ...], kind: str, one_vocabulary: bool, lexicon: bool) -> None:
    """Refuse losses for which something is missing.

    Raises:
        ConfigError: ``token`` without one vocabulary, a loss that the cache does not keep enough for, ``projection``
            without a lexicon.
    """
    for name, _ in terms:
        if name == SENTENCE:
            continue
        if name not in LOSSES_OF_KIND[kind]:
            known = ", ".join(LOSSES_OF_KIND[kind])
            raise ConfigError(
                f"The loss '{name}' needs more of the teacher than a cache of kind '{kind}' keeps: take {known}, or "
                "make a cache of kind 'hidden'."
            )
        if name == "projection" and not lexicon:
            raise ConfigError("The loss 'projection' needs a lexicon: make one with 'vocabalign align' (--lexicon).")
        if name == TOKEN and not one_vocabulary:
            raise ConfigError(
                "The loss 'token' needs one vocabulary: take --loss auto, or transplant the teacher's tokenizer into "
                "the student first (vocabalign transplant)."
            )
