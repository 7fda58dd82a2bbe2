"""What distillation between two tokenizers would look like, from the tokenizers and a text alone."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from vocabalign.text.corpus import read_texts
from vocabalign.text.standard_library import passages
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train.coverage import SAMPLE_BYTES, measure_coverage
from vocabalign.train.loss_choice import LOSSES_OF_KIND, choose_loss

if TYPE_CHECKING:
    from rich.table import Table

PASSAGES = 400
MEANINGS = {
    "online": "the teacher at hand, or its hidden states",
    "top-k": "a cache of its likeliest tokens",
    "sampled": "a cache of tokens drawn from it",
    "log-probs": "a cache of log-probabilities, or a server",
}


def inspect_pair(student: str, teacher: str, corpus: list[str], max_bytes: int = SAMPLE_BYTES) -> dict[str, Any]:
    """Coverage of two tokenizers and what ``auto`` would take, as ``--json`` prints it.

    Args:
        student: tokenizer or model folder.
        teacher: the same.
        corpus: text; the documentation and sources of Python's standard library where none is given.
        max_bytes: how much of it is read.

    Raises:
        TokenizerError: a tokenizer cannot be loaded.
        CorpusError: the text cannot be read.
    """
    texts: Iterable[str] = (
        read_texts(corpus, max_bytes) if corpus else (passage.text for passage in islice(passages(), PASSAGES))
    )
    mine, theirs = load_vocabulary(student), load_vocabulary(teacher)
    coverage = measure_coverage(mine, theirs, texts, max_bytes=max_bytes)
    choices = {kind: choose_loss(coverage, kind) for kind in LOSSES_OF_KIND if kind != "hidden"}
    return {
        "text": corpus or "the standard library of Python",
        **coverage.as_json(),
        "auto": {kind: {"loss": str(choice), "reason": choice.reason} for kind, choice in choices.items()},
    }


def format_inspection(result: dict[str, Any]) -> list[Table]:
    """The same as tables for a terminal."""
    from rich.table import Table

    table = Table(title=f"student {result['student']}, teacher {result['teacher']}", title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in _rows(result):
        table.add_row(name, value)
    chunks = Table(title="chunks: runs of tokens that are the same bytes on both sides", title_justify="left")
    for name in ("tokens in a chunk", "1", "2", "3", "4 or more"):
        chunks.add_column(name, justify="left" if name[0] == "t" else "right")
    for name, shares in zip(("student", "teacher"), result["chunk_tokens"]):
        chunks.add_row(name, *(f"{share:.1%}" for share in shares))
    losses = Table(title="what --loss auto takes", title_justify="left")
    for name in ("what is known of the teacher", "loss", "because"):
        losses.add_column(name)
    for kind, choice in result["auto"].items():
        losses.add_row(MEANINGS[kind], choice["loss"], choice["reason"])
    return [table, chunks, losses]


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    sizes = " / ".join(f"{size:,}" for size in result["sizes"])
    same = "yes" if result["one_vocabulary"] else "no"
    if result["equal_sizes_only"]:
        same = f"no, though of one size: {result['ids_differ']:,} ids stand for other tokens"
    return [
        ("tokens in the vocabularies", sizes),
        ("every id means the same", same),
        ("text", f"{result['num_bytes']:,} bytes, {result['texts']:,} texts"),
        ("texts that are not the same bytes on both sides", f"{result['texts_refused']:,}"),
        ("bytes in a token of the student", f"{result['bytes_per_student_token']:.2f}"),
        ("bytes in a token of the teacher", f"{result['bytes_per_teacher_token']:.2f}"),
        ("aligned starts for each token of the student", f"{result['alignment_rate']:.3f}"),
        ("next tokens agree: the same bytes", f"{result['exact_agreement']:.1%}"),
        ("next tokens agree: the student's cut of the teacher's", f"{result['prefix_agreement']:.1%}"),
        ("next tokens agree: common classes", f"{result['event_agreement']:.1%}"),
        ("common classes", f"{result['classes']:,}"),
        ("starts that such cuts tell, for each token of the student", f"{result['prefix_rate']:.3f}"),
        ("chunks of one token on both sides", f"{result['one_to_one']:.1%}"),
        ("bytes in a chunk", f"{result['bytes_per_chunk']:.2f}"),
    ]
