"""What was counted while a draft was tried, and what follows from it for drafts of other lengths and sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

LONGEST_DRAFT = 16


@dataclass
class Tally:
    """What was written with and without a draft.

    Attributes:
        tokens: written by the teacher with the draft.
        passes: of the teacher for them.
        proposed: tokens of the draft that it checked.
        seconds: with the draft.
        alone: (tokens, seconds) of the teacher without it.
        draft_alone: (tokens, seconds) of the draft by itself.
        prompts: how many.
        same: of how many prompts the text is the same with and without the draft.
        single: seconds of each of the teacher's passes over one token.
        checks: (drafted tokens, seconds) of each of its passes over these and one more.
    """

    tokens: int = 0
    passes: int = 0
    proposed: int = 0
    seconds: float = 0.0
    alone: tuple[int, float] = (0, 0.0)
    draft_alone: tuple[int, float] = (0, 0.0)
    prompts: int = 0
    same: int = 0
    single: list[float] = field(default_factory=list)
    checks: list[tuple[int, float]] = field(default_factory=list)

    @property
    def checking_cost(self) -> float:
        """What a drafted token adds to a pass of the teacher, over a pass for one token; 0 where that is free."""
        checks = [(proposed, seconds) for proposed, seconds in self.checks if proposed]
        if not self.single or not checks:
            return 0.0
        alone = median(self.single)
        return max(0.0, median((seconds / alone - 1) / proposed for proposed, seconds in checks))

    @property
    def accepted(self) -> int:
        """Each pass gives one token of the teacher's own behind those that it accepts."""
        return max(0, self.tokens - self.passes)


def draft_record(
    tally: Tally, parameters_ratio: float, draft_tokens: int, layers_ratio: float | None = None
) -> dict[str, Any]:
    """The keys of a draft in metrics.json: acceptance, speed-up, and what limits it.

    Args:
        tally: what was counted.
        parameters_ratio: parameters of the draft over those of the teacher.
        draft_tokens: tokens of a draft.
        layers_ratio: layers of the draft over those of the teacher, where both say.
    """
    speed = {name: tokens / seconds for name, (tokens, seconds) in _speeds(tally).items() if tokens and seconds}
    per_pass = tally.tokens / tally.passes if tally.passes else 0.0
    cost = speed["teacher"] / speed["draft"] if "teacher" in speed and "draft" in speed else None
    record: dict[str, Any] = {
        "draft_acceptance_rate": tally.accepted / tally.proposed if tally.proposed else 0.0,
        "draft_tokens_per_teacher_pass": per_pass,
        "draft_speed_up": speed["together"] / speed["teacher"] if len(speed) == 3 else None,
        "draft_teacher_tokens_per_second": speed.get("teacher"),
        "draft_tokens_per_second": speed.get("together"),
        "draft_cost_ratio": cost,
        "draft_checking_cost_ratio": tally.checking_cost,
        "draft_parameters_ratio": parameters_ratio,
        "draft_layers_ratio": layers_ratio,
        "draft_same_text_share": tally.same / tally.prompts if tally.prompts else 0.0,
        "draft_tokens": draft_tokens,
    }
    measured = None if cost is None else cost + tally.checking_cost
    for name, ratio in (("cost", measured), ("parameters", parameters_ratio)):
        if ratio is not None:
            length, gain = best_draft(acceptance_of(per_pass, draft_tokens), ratio)
            record |= {f"draft_best_tokens_by_{name}": length, f"draft_best_speed_up_by_{name}": gain}
    if record["draft_speed_up"] is not None and record["draft_speed_up"] < 1:
        record["draft_note"] = _why_slower(record)
    return record


def _speeds(tally: Tally) -> dict[str, tuple[int, float]]:
    return {"teacher": tally.alone, "together": (tally.tokens, tally.seconds), "draft": tally.draft_alone}


def acceptance_of(tokens_per_pass: float, draft_tokens: int) -> float:
    """The chance that a token of a draft is accepted if those before it were; in [0, 1].

    The inverse of equation 1 of Leviathan et al. (2023): a pass gives ``1 + a + a^2 + … + a^n`` tokens.
    """
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if sum(middle**n for n in range(draft_tokens + 1)) < tokens_per_pass:
            low = middle
        else:
            high = middle
    return low


def best_draft(acceptance: float, cost: float) -> tuple[int, float]:
    """(tokens of the best draft, its speed-up), 0 and 1.0 where no draft pays.

    Args:
        acceptance: as from ``acceptance_of``.
        cost: time of a token of the draft over that of a pass of the teacher.

    Reference:
        Leviathan et al. (2023), theorem 3.8.
    """
    best = (0, 1.0)
    for length in range(1, LONGEST_DRAFT + 1):
        gain = sum(acceptance**n for n in range(length + 1)) / (1 + length * cost)
        best = max(best, (length, gain), key=lambda pair: pair[1])
    return best


def _why_slower(record: dict[str, Any]) -> str:
    """One sentence on what time was lost to, one on where it would be won."""
    cost, length = record["draft_cost_ratio"], record["draft_best_tokens_by_parameters"]
    reason = (
        f"No time is saved here: a pass of the teacher gives {record['draft_tokens_per_teacher_pass']:.2f} tokens for "
        f"{record['draft_tokens']} drafted, and each of these takes {cost:.2f} of the time of one of the teacher's "
        f"tokens to write and {record['draft_checking_cost_ratio']:.2f} to check"
    )
    if record["draft_layers_ratio"] is not None and cost > 2 * record["draft_parameters_ratio"]:
        reason += f" (small models take time by their layers, and it has {record['draft_layers_ratio']:.2f} of them)"
    if record["draft_best_tokens_by_cost"]:
        reason += (
            f"; drafts of {record['draft_best_tokens_by_cost']} would give up to "
            f"{record['draft_best_speed_up_by_cost']:.2f} times the speed."
        )
    else:
        reason += ", so that no length of drafts pays."
    if not length:
        return (
            f"{reason} Too little is accepted to pay at any size: train the draft longer, best on the teacher's text."
        )
    return (
        f"{reason} Where writing takes time by the parameters, of which the draft has "
        f"{record['draft_parameters_ratio']:.2f} of the teacher's, and checking is free, as for large models on "
        f"accelerators, drafts of {length} give up to "
        f"{record['draft_best_speed_up_by_parameters']:.2f} times the speed."
    )
