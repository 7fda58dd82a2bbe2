"""What was measured of the models: scores, differences, by domain and language, samples and all optional measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vocabalign.report import figures
from vocabalign.report.blocks import Bars, Block, Figure, Samples, Section, Table, number, number_table
from vocabalign.report.escape import slug
from vocabalign.report.measured import measure_tables

Metrics = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]
GROUPS = {"language": "languages", "domain": "domains"}
MAX_BARS = 40


def model_sections(name: str, metrics: Metrics, suffix: str = "") -> list[Section]:
    """Every section of one evaluate artefact; those without content are left out.

    Args:
        name: of the artefact.
        metrics: as in metrics.json.
        suffix: tells several artefacts apart in the headings.
    """
    rows: Rows = metrics["models"]
    made = (
        ("models", "Models", _models(name, metrics)),
        ("groups", "By language and domain", _groups(metrics)),
        ("compression", "Compression by language", _compression(rows)),
        ("measures", "More measures", measure_tables(metrics)),
        ("samples", "Samples", _samples(rows, metrics)),
    )
    sections = [Section(slug(f"{kind}-{name}"), f"{title}{suffix}", list(blocks)) for kind, title, blocks in made]
    return [section for section in sections if section.blocks]


def _models(name: str, metrics: Metrics) -> Iterator[Block]:
    rows: Rows = metrics["models"]
    yield _model_table(rows)
    if figures.can_draw():
        caption = "Bits per byte on held-out text; the line is the 95 % interval of resampling documents."
        yield Figure(figures.draw_scores(rows, f"scores-{name}"), caption)
    if metrics.get("comparisons"):
        caption = "Differences in bits per byte, paired by document. Below zero: better."
        yield _comparison_table(metrics["comparisons"], caption)
    if metrics.get("other_comparisons"):
        caption = "The other pairs of models, measured alike."
        yield replace(_comparison_table(metrics["other_comparisons"], caption), title="The other pairs of models")


def _model_table(rows: Rows) -> Table:
    columns = (
        ("Bits per byte", lambda row: number(row.get("bits_per_byte"), 4)),
        ("95 % interval", lambda row: _interval(row, "bits_per_byte")),
        ("Tokens per kB", lambda row: number(row.get("tokens_per_kilobyte"), 1)),
        ("Bytes per token", lambda row: number(row.get("bytes_per_token"), 2)),
        ("Fallback", _fallback),
        ("Parameters", lambda row: number(row.get("parameters"))),
        ("Vocabulary", lambda row: number(row.get("vocabulary_size"))),
    )
    kept = [(title, form) for title, form in columns if any(form(row) for row in rows)]
    cells = [(str(row.get("name", "")), *(form(row) for _, form in kept)) for row in rows]
    caption = "Every model on the same held-out text. Bits per byte: less is better. A kilobyte is 1,000 bytes."
    if any(title == "Fallback" for title, _ in kept):
        caption += " Fallback: share of tokens that stand for single bytes or for the unknown."
    header = ("Model", *(title for title, _ in kept))
    return Table(caption, header, cells, frozenset(range(1, len(header))), frozenset({0}))


def _fallback(row: Mapping[str, Any]) -> str:
    share, unknown = row.get("byte_fallback_share"), row.get("unknown_share")
    return "" if share is None else f"{share + (unknown or 0):.2%}"


def _interval(row: Mapping[str, Any], key: str, digits: int = 4) -> str:
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    return "" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"


def _comparison_table(comparisons: Rows, caption: str) -> Table:
    header = ("Model", "Against", "Difference", "95 % interval", "Documents better", "Documents worse")
    cells = [
        (
            str(row.get("name", "")),
            str(row.get("against", "")),
            _signed(row.get("bits_per_byte_difference")),
            _signed_interval(row, "bits_per_byte_difference"),
            number(row.get("documents_better")),
            number(row.get("documents_worse")),
        )
        for row in comparisons
    ]
    return Table(caption, header, cells, frozenset(range(2, len(header))), frozenset({0, 1}))


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"


def _signed_interval(row: Mapping[str, Any], key: str) -> str:
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    return "" if low is None or high is None else f"{low:+.4f} to {high:+.4f}"


def _groups(metrics: Metrics) -> Iterator[Block]:
    """Bits per byte of each language and domain with intervals, and the paired differences there."""
    rows: Rows = metrics["models"]
    for kind, key in GROUPS.items():
        groups = rows[0].get(key) or {}
        if not groups:
            continue
        names = [str(row["name"]) for row in rows]
        cells = [(group, *(_score(row.get(key, {}).get(group, {})) for row in rows)) for group in groups]
        medians = [row.get(f"bits_per_byte_{kind}_median") for row in rows]
        if None not in medians:
            cells.append(("median", *(number(value, 4) for value in medians)))
        caption = f"Bits per byte by {kind}, with half the width of the 95 % interval."
        yield number_table(caption, (kind.title(), *names), cells)
        pairs = [row for row in metrics.get("comparisons") or () if row.get(key)]
        differences = [(group, *(_difference(row[key].get(group, {})) for row in pairs)) for group in groups]
        if pairs:
            caption = f"Paired differences in bits per byte to {pairs[0]['against']} by {kind}, with 95 % intervals."
            yield number_table(caption, (kind.title(), *(str(row["name"]) for row in pairs)), differences)


def _score(record: Mapping[str, Any]) -> str:
    value, low, high = (record.get(f"bits_per_byte{end}") for end in ("", "_low", "_high"))
    half = "" if low is None or high is None else f" ± {(high - low) / 2:.4f}"
    return "" if value is None else f"{value:.4f}{half}"


def _difference(record: Mapping[str, Any]) -> str:
    value, interval = record.get("bits_per_byte_difference"), _signed_interval(record, "bits_per_byte_difference")
    return "" if value is None else f"{value:+.4f} ({interval})" if interval else f"{value:+.4f}"


def _compression(rows: Rows) -> Iterator[Block]:
    """Bytes per token of each language (else domain): the first model is before, other tokenizers are after."""
    key = next((key for key in GROUPS.values() if rows[0].get(key)), None)
    tokenizers = _tokenizers(rows, key) if key else {}
    if key is None or len(tokenizers) < 2:
        return
    kind = next(kind for kind, plural in GROUPS.items() if plural == key)
    groups = list(rows[0][key])
    values = {
        group: [row.get(key, {}).get(group, {}).get("bytes_per_token") or 0.0 for row in tokenizers.values()]
        for group in groups
    }
    longest = max(max(line) for line in values.values()) or 1.0
    bars = [(group, [(value / longest, number(value, 2)) for value in values[group]]) for group in groups[:MAX_BARS]]
    more = f" The first {MAX_BARS} of {len(groups)}." if len(groups) > MAX_BARS else ""
    caption = f"Bytes that a token stands for on average, by {kind}; more is shorter text.{more}"
    yield Bars(caption, kind.title(), list(tokenizers), bars)
    header = [kind.title()]
    header += [f"Tokens per kB, {name}" for name in tokenizers]
    header += [f"Change, {name}" for name in list(tokenizers)[1:]]
    cells = []
    for group in groups:
        rates = [row.get(key, {}).get(group, {}).get("tokens_per_kilobyte") for row in tokenizers.values()]
        changes = [f"{rate / rates[0] - 1:+.1%}" if rate and rates[0] else "" for rate in rates[1:]]
        cells.append((group, *(number(rate, 1) for rate in rates), *changes))
    yield number_table(f"Length of the same text in tokens, by {kind}; less is shorter and cheaper.", header, cells)


def _tokenizers(rows: Rows, key: str) -> dict[str, Mapping[str, Any]]:
    """Names of the models that cut text alike -> the first of them."""
    alike: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        counts = tuple(group.get("tokens") for group in (row.get(key) or {}).values())
        alike.setdefault((row.get("vocabulary_size"), counts), []).append(row)
    return {", ".join(str(row["name"]) for row in same): same[0] for same in alike.values()}


def _samples(rows: Rows, metrics: Metrics) -> Iterator[Block]:
    """What the models wrote, under each prompt."""
    prompts = metrics.get("prompts") or [metrics.get("prompt") or ""]
    for position, prompt in enumerate(prompts):
        texts = []
        for row in rows:
            samples = row.get("samples") or ([{"text": row["sample"]}] if row.get("sample") else [])
            if position < len(samples) and isinstance(samples[position].get("text"), str):
                texts.append((str(row["name"]), samples[position]["text"]))
        if texts:
            yield Samples(str(prompt), texts)
