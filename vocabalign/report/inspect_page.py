"""The page of an inspection: tokenizers in tables and bars, one file that works offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vocabalign.report.blocks import Bars, Block, Paragraph, Section, number
from vocabalign.report.html import render_html
from vocabalign.report.inspect_tables import (
    RULE_NAMES,
    Result,
    compression_table,
    facts_table,
    false_friends_table,
    names_of,
    script_table,
    sharing_table,
    special_table,
    token_table,
)

MAX_BARS = 24
"""Files and scripts that get bars; tables have more."""
# Lengths in bytes that share a row: single up to 16, then wider and wider.
_LENGTH_ENDS = (*range(1, 17), 24, 32, 64, 128, 2**31)


def render_inspection(result: Result) -> str:
    """The whole page.

    Args:
        result: as from ``vocabalign.text.inspection.inspect_vocabularies``.
    """
    names = names_of(result)
    sections = [
        Section("summary", "Overview", [*map(Paragraph, _sentences(result)), facts_table(result)]),
        Section("sharing", "What they share", _sharing(result)),
        Section("compression", "Compression", _compression(result)),
        Section("scripts", "Scripts", _scripts(result)),
        Section("lengths", "Lengths of tokens", _lengths(result)),
        Section("odd", "Odd tokens", _odd(result)),
        Section("specials", "Special tokens", _specials(result)),
    ]
    return render_html(" and ".join(names), [section for section in sections if section.blocks], "inspect")


def _sentences(result: Result) -> list[str]:
    """What to know first."""
    names = names_of(result)
    entries = result["vocabularies"]
    sizes = " and ".join(f"{name} has {number(entry['size'])} tokens" for name, entry in zip(names, entries))
    sentences = [f"{sizes}."]
    if "shared" in result:
        raw, by_bytes = result["shared"]["raw_string"], result["shared"]["bytes"]
        sentences.append(
            f"{by_bytes['type_share_of_b']:.2%} of the types of {names[1]} stand for the same bytes as a token of "
            f"{names[0]}; {raw['type_share_of_b']:.2%} are written the same."
        )
        if "corpus" in result:
            sentences.append(
                f"Of running tokens, {by_bytes['token_share_of_b']:.2%} of those of {names[1]} are shared by bytes and "
                f"{by_bytes['token_share_of_a']:.2%} of those of {names[0]}."
            )
    if "corpus" in result:
        corpus = result["corpus"]
        rates = ", ".join(
            f"{name} {entry['compression']['bytes_per_token']:.3f}" for name, entry in zip(names, entries)
        )
        sentences.append(
            f"Bytes per token on {number(corpus['bytes'] / 1000)} kB in {number(len(corpus['files']))} "
            f"{'file' if len(corpus['files']) == 1 else 'files'}: {rates}."
        )
    return sentences


def _sharing(result: Result) -> list[Block]:
    if "shared" not in result:
        return []
    names = names_of(result)
    series = [f"types of {name}" for name in names]
    keys = ["type_share_of_a", "type_share_of_b"]
    if "corpus" in result:
        series += [f"running tokens of {name}" for name in names]
        keys += ["token_share_of_a", "token_share_of_b"]
    rows = [(RULE_NAMES[rule], [_percent(shares[key]) for key in keys]) for rule, shares in result["shared"].items()]
    blocks: list[Block] = [
        Bars("Share of each side that the other has too, by what is compared.", "Compared by", series, rows),
        sharing_table(result),
        _script_bars(result, names),
        script_table(result),
    ]
    return [*blocks, false_friends_table(result)] if result["false_friends"]["count"] else blocks


def _script_bars(result: Result, names: Sequence[str]) -> Bars:
    rows = []
    for entry in result["shared_by_script"][:MAX_BARS]:
        shares = entry["shared"]["bytes"]
        values = []
        for side in "ab":
            count = entry[f"types_of_{side}"]
            share = shares[f"type_share_of_{side}"]
            values.append((share, f"{share:.0%} of {number(count)}" if count else "none"))
        rows.append((entry["script"], values))
    caption = "Types shared by bytes, by the script of their letters; scripts with the most types first."
    return Bars(caption, "Script", [f"types of {name}" for name in names], rows)


def _compression(result: Result) -> list[Block]:
    if "corpus" not in result:
        return []
    files = result["corpus"]["files"]
    best = max((one["bytes_per_token"] for file in files for one in file["compression"]), default=0.0) or 1.0
    rows = [
        (
            file["label"],
            [(one["bytes_per_token"] / best, number(one["bytes_per_token"], 2)) for one in file["compression"]],
        )
        for file in files[:MAX_BARS]
    ]
    more = f" The first {MAX_BARS} of {number(len(files))} files." if len(files) > MAX_BARS else ""
    caption = f"Bytes that a token stands for on average; more is shorter text.{more}"
    return [Bars(caption, "File", names_of(result), rows), compression_table(result)]


def _scripts(result: Result) -> list[Block]:
    """How a vocabulary is spent on scripts."""
    entries = result["vocabularies"]
    totals: dict[str, int] = {}
    for entry in entries:
        for script, counts in entry["scripts"].items():
            totals[script] = totals.get(script, 0) + counts["types"]
    shown = sorted(totals, key=lambda script: -totals[script])[:MAX_BARS]
    rows = []
    for script in shown:
        counts = [entry["scripts"].get(script, {}).get("types", 0) for entry in entries]
        values = [
            (count / entry["size"], f"{number(count)} ({count / entry['size']:.1%})")
            for count, entry in zip(counts, entries)
        ]
        rows.append((script, values))
    more = f" {MAX_BARS} of {len(totals)} scripts." if len(totals) > MAX_BARS else ""
    return [Bars(f"Types by the script of their letters.{more}", "Script", names_of(result), rows)]


def _lengths(result: Result) -> list[Block]:
    entries = result["vocabularies"]
    histograms = [_grouped(entry["lengths"]["types"]) for entry in entries]
    used = [label for label in histograms[0] if any(histogram[label] for histogram in histograms)]
    rows = []
    largest = max((max(histogram.values()) / entry["size"] for histogram, entry in zip(histograms, entries)), default=1)
    for label in used:
        values = [
            (histogram[label] / entry["size"] / (largest or 1), f"{number(histogram[label])}")
            for histogram, entry in zip(histograms, entries)
        ]
        rows.append((label, values))
    caption = "Types by their length in bytes; bars are shares of each vocabulary."
    blocks: list[Block] = [Bars(caption, "Bytes", names_of(result), rows)]
    for name, entry in zip(names_of(result), entries):
        blocks.append(token_table(entry["longest_tokens"], f"The longest tokens of {name}."))
    return blocks


def _grouped(histogram: Mapping[Any, int]) -> dict[str, int]:
    """``"1"`` … ``"16"``, ``"17 to 24"`` … ``"over 128"`` -> types."""
    result = {}
    start = 1
    for end in _LENGTH_ENDS:
        label = str(end) if end == start else f"over {start - 1}" if end == _LENGTH_ENDS[-1] else f"{start} to {end}"
        result[label] = sum(count for length, count in histogram.items() if start <= int(length) <= end)
        start = end + 1
    return result


def _odd(result: Result) -> list[Block]:
    blocks: list[Block] = []
    for name, entry in zip(names_of(result), result["vocabularies"]):
        if entry["odd_tokens"]:
            caption = f"Some tokens of {name} of each kind of oddity; the overview counts all."
            blocks.append(token_table(entry["odd_tokens"], caption))
    return blocks


def _specials(result: Result) -> list[Block]:
    pairs = zip(names_of(result), result["vocabularies"])
    return [special_table(entry, name) for name, entry in pairs if entry["special_tokens"]]


def _percent(share: float) -> tuple[float, str]:
    return share, f"{share:.2%}"
