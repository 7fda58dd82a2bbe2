"""Where rows came from: classes as a figure, a table and by script; hubs; the least certain tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vocabalign.provenance import COUNTED_ON
from vocabalign.report import figures
from vocabalign.report.blocks import Block, Figure, Paragraph, Shares, Table, number
from vocabalign.report.collect import Run

KIND_NAMES = {
    "identical": "the same bytes",
    "role": "the same role",
    "relaxed": "same but for space or case",
    "cooccurrence": "counted in running text",
    "lexicon": "the lexicon",
    "segmentation": "the source's own cut",
    "distributional": "nearest embeddings",
    "fitted": "fitted to the source's hidden states",
    "mean": "nothing known: the mean row",
    "none": "no evidence",
    "padding": "padding",
    "similarity": "a mixture of similar tokens",
    "drawn": "drawn at random or zero",
}
# Steps of fitting, in their order.
FIT_STEPS = {
    "plain": "made from source rows and counts",
    "inputs": "and embedding rows fitted to hidden states",
    "expectation": "and tokens expected as often as used",
    "heads": "and head rows fitted to what the source expects",
}
PARTS = {"input": "embedding", "head": "head"}
MOVES = {
    "fitted": "fitted to what the source expects",
    "shifted": "shifted by how often the token is used",
    "mixed": "mixed from several rows",
}
LEAST_CERTAIN = 20
HUBS = 20
MAX_SCRIPTS = 30


def kind_name(kind: str) -> str:
    """A class in words."""
    return KIND_NAMES.get(kind, kind.replace("_", " "))


def row_blocks(run: Run) -> Iterator[Block]:
    """Counts of each lexicon and transplant, and of each table by script."""
    for position, (name, counts) in enumerate(run.evidence.items()):
        named = _named(counts)
        total = sum(named.values())
        if not total:
            continue
        if figures.can_draw():
            drawing = figures.draw_evidence(named, f"evidence-{position}")
            yield Figure(drawing, f"Tokens of {name} by what their rows rest on.")
        rows = [(kind, number(count), f"{count / total:.1%}") for kind, count in named.items()]
        caption = f"Evidence in {name}, {number(total)} tokens in all."
        title = "As numbers" if figures.can_draw() else ""
        yield Table(caption, ("Evidence", "Tokens", "Share"), rows, frozenset({1, 2}), frozenset({0}), title)
    for table in run.tables:
        by_script = table.classes_by_script()
        kinds = list(_ordered(table.class_counts()))
        shown = list(by_script.items())[:MAX_SCRIPTS]
        more = f" {MAX_SCRIPTS} of {len(by_script)} scripts." if len(by_script) > MAX_SCRIPTS else ""
        yield Shares(
            f"Tokens of {table.name} by the script of their letters and by evidence.{more}",
            "Script",
            [kind_name(kind) for kind in kinds],
            [(script, [counts[kind] for kind in kinds]) for script, counts in shown],
        )


def fit_blocks(run: Run) -> Iterator[Block]:
    """What fitting rows to the source model gave on documents that it did not see, and what tying cost."""
    for artefact in run.artefacts:
        fitted = (artefact.manifest.get("metrics") or {}).get("fitted")
        if not isinstance(fitted, dict):
            continue
        scores = fitted.get("held_out_bits_per_byte") or {}
        rows = [(name, number(scores[key], 4)) for key, name in FIT_STEPS.items() if key in scores]
        caption = (
            f"Bits per byte of {artefact.name} on documents of the corpus that its rows were not fitted on; a step "
            "that did not help was not kept."
        )
        yield Table(caption, ("Rows", "Bits per byte"), rows, frozenset({1}))
        cost = fitted.get("tying_cost_bits_per_byte")
        if cost is not None:
            yield Paragraph(
                f"{artefact.name} has one matrix for embedding and head. On these documents that costs {cost:+.4f} "
                "bits per byte against two matrices fitted in the same way (untie)."
            )


def moved_blocks(run: Run) -> Iterator[Block]:
    """Which rows of tokens that the source has are no copies, and what was counted on where the corpus is foreign."""
    for artefact in run.artefacts:
        metrics = artefact.manifest.get("metrics") or {}
        for part, counts in (metrics.get("moved_rows") or {}).items():
            if counts:
                moved = ", ".join(f"{number(count)} {MOVES.get(how, how)}" for how, count in counts.items())
                yield Paragraph(
                    f"Of {artefact.name}, {PARTS.get(part, part)} rows of tokens that the source has too and that are "
                    f"not its rows bit for bit: {moved}."
                )
        if metrics.get("corpus_of_another_domain"):
            nats, what = metrics.get("corpus_nats_per_token") or {}, str(metrics.get("counted_on"))
            yield Paragraph(
                f"The corpus of {artefact.name} is of another domain than the source model's: a token costs it "
                f"{number(nats.get('found'), 2)} nats where it expects {number(nats.get('expected'), 2)}. Counted on: "
                f"{COUNTED_ON.get(what, what)}."
            )


def doubt_blocks(run: Run) -> Iterator[Block]:
    """The tokens to look at first, of each transplant; of the lexicons where nothing was transplanted."""
    lists = run.least_certain or {table.name: table.least_certain(LEAST_CERTAIN) for table in run.tables}
    for name, tokens in lists.items():
        columns = (
            ("Id", lambda row: str(row.get("id", ""))),
            ("Token", lambda row: str(row.get("token", ""))),
            ("Evidence", lambda row: kind_name(str(row.get("class", "")))),
            ("Confidence", lambda row: number(row.get("confidence"), 4)),
            ("Uses", lambda row: number(row.get("uses"))),
        )
        kept = [column for column in columns if any(column[1](row) for row in tokens)]
        cells = [tuple(form(row) for _, form in kept) for row in tokens[:LEAST_CERTAIN]]
        if cells:
            header = tuple(title for title, _ in kept)
            numeric = frozenset(i for i, title in enumerate(header) if title in ("Id", "Confidence", "Uses"))
            used = " that text uses, as the tokenizer writes them" if run.least_certain else ""
            caption = f"The least certain tokens of {name}{used}."
            yield Table(caption, header, cells, numeric, frozenset({1}))


def hub_blocks(run: Run) -> Iterator[Block]:
    """Source tokens that very many target tokens lean on."""
    for table in run.tables:
        hubs = table.hubs(HUBS)
        if not hubs:
            continue
        rows = [(source, number(count), " \N{MIDDLE DOT} ".join(examples)) for source, count, examples in hubs]
        caption = f"Source tokens that stand first for the most tokens of {table.name}; twins do not count."
        yield Table(caption, ("Source token", "Tokens", "Some of them"), rows, frozenset({1}), frozenset({0, 2}))
        scores = next((a.manifest.get("metrics") or {} for a in run.artefacts if a.name == table.name), {})
        share, targets = scores.get("hub_share_top3"), scores.get("hub_targets")
        if share is not None and targets:
            yield Paragraph(f"The three largest hubs lead {share:.1%} of the {number(targets)} tokens without a twin.")


def _ordered(counts: Mapping[str, int]) -> list[str]:
    """Kinds that have tokens, strongest first."""
    order = {kind: position for position, kind in enumerate(KIND_NAMES)}
    return [kind for kind in sorted(counts, key=lambda kind: order.get(kind, len(order))) if counts[kind]]


def _named(counts: Mapping[str, int]) -> dict[str, int]:
    return {kind_name(kind): counts[kind] for kind in _ordered(counts)}
