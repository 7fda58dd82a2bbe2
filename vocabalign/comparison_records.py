"""What a comparison of row methods says: scores with intervals, paired differences, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vocabalign.evaluation.bits_per_byte import DocumentScores
    from vocabalign.evaluation.statistics import Interval, Resamples

SOURCE = "source"


def summarise(
    at_once: Mapping[str, DocumentScores],
    finetuned: Mapping[str, DocumentScores],
    facts: Mapping[str, Mapping[str, Any]],
    *,
    seed: int,
) -> dict[str, Any]:
    """Records of the source and of every method, and of every two methods.

    Args:
        at_once: name -> scores right after the transplant; the untouched source is ``source``.
        finetuned: the same after training; empty without.
        facts: name -> what else is known of it.
        seed: of the resamples.

    Returns:
        ``source``, ``methods`` (best first), ``pairs``, and how much text it was.

    Raises:
        ValueError: the methods were not scored on the same documents.
    """
    records = {name: dict(facts[name]) for name in at_once}
    pairs: list[dict[str, Any]] = []
    for scores, moment in ((at_once, None), (finetuned, "finetuned")):
        if not scores:
            continue
        from vocabalign.evaluation.statistics import resample

        resamples = resample(scores, seed=seed)
        methods = [name for name in scores if name != SOURCE]
        best = min(methods, key=lambda name: scores[name].bits_per_byte)
        for name in scores:
            record = _record(name, best, scores, resamples)
            if moment is None:
                records[name] |= record
            else:
                records[name][moment] = record
        pairs += [_pair(resamples, a, b, moment is not None) for a, b in combinations(methods, 2)]
    source = records.pop(SOURCE)
    one = at_once[SOURCE]
    return {
        "source": source,
        "documents": len(one.nats),
        "bytes": int(one.num_bytes.sum()),
        "methods": sorted(
            ({"method": name, **record} for name, record in records.items()), key=lambda row: row["bits_per_byte"]
        ),
        "pairs": pairs,
    }


def _record(name: str, best: str, scores: Mapping[str, DocumentScores], resamples: Resamples) -> dict[str, Any]:
    one = scores[name]
    record = _named("bits_per_byte", resamples.interval(name))
    record["tokens_per_kilobyte"] = 1000 * float(one.num_tokens.sum()) / float(one.num_bytes.sum())
    if name != SOURCE:
        record |= _named("gap", resamples.difference(SOURCE, name).difference)
        record |= _named("behind", resamples.difference(best, name).difference)
    return record


def _pair(resamples: Resamples, first: str, second: str, finetuned: bool) -> dict[str, Any]:
    paired = resamples.difference(first, second)
    return {
        "method": second,
        "against": first,
        "finetuned": finetuned,
        **_named("difference", paired.difference),
        "documents_better": paired.documents_better,
        "documents_worse": paired.documents_worse,
    }


def _named(name: str, interval: Interval) -> dict[str, float | None]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def comparison_table(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of text: the source, then the methods, best first."""
    trained = bool(result["finetune_steps"])
    header = ["method", "bits per byte", "95 % interval", "above source", "behind the best, 95 % interval"]
    if trained:
        header += [f"after {result['finetune_steps']:,} steps", "95 % interval", "behind the best, 95 % interval"]
    rows = []
    for record in ({"method": SOURCE, **result["source"]}, *result["methods"]):
        row = [record["method"], f"{record['bits_per_byte']:.4f}", _bounds(record, "bits_per_byte")]
        row += [_signed(record.get("gap")), _behind(record)]
        if trained:
            later = record["finetuned"]
            row += [f"{later['bits_per_byte']:.4f}", _bounds(later, "bits_per_byte"), _behind(later)]
        rows.append(row)
    return header, rows


def _bounds(record: Mapping[str, Any], name: str, form: str = ".3f") -> str:
    low, high = record[f"{name}_low"], record[f"{name}_high"]
    return "" if low is None or high is None else f"{low:{form}} to {high:{form}}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"


def _behind(record: Mapping[str, Any]) -> str:
    if record.get("behind") is None:
        return ""
    if record["behind"] == 0:
        return "best"
    bounds = _bounds(record, "behind", "+.3f")
    return f"{record['behind']:+.4f}" + (f" ({bounds})" if bounds else "")


def sure_differences(result: Mapping[str, Any], finetuned: bool) -> Sequence[str]:
    """Methods whose paired interval against the best one leaves out 0."""
    rows = [row["finetuned"] | {"method": row["method"]} if finetuned else row for row in result["methods"]]
    return [row["method"] for row in rows if row["behind_low"] is not None and row["behind_low"] > 0]
