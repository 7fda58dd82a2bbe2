"""What a terminal shows of metrics.json."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vocabalign.evaluation.measuring import measure
from vocabalign.evaluation.table import MEASURES, format_score, format_table, shorten


@pytest.fixture(scope="module")
def metrics(tiny_llama, texts):
    models = {"source": str(tiny_llama), "again": str(tiny_llama)}
    labels = {"domain": ["prose", "code"] * 4, "language": [None] * 8}
    return measure(models, texts, labels=labels, sample_tokens=4, num_prompts=2, draft_for=str(tiny_llama)).metrics


def shown(metrics) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(format_table(metrics))
    return console.file.getvalue()


def test_every_part_has_its_table(metrics):
    text = shown(metrics)
    for row in metrics["models"]:
        assert format_score(row) in text
        assert format_score(row["domains"]["code"]) in text
        assert f"{row['draft_acceptance_rate']:.1%}" in text
        for command in row["draft_commands"].values():
            assert all(line in text for line in command.split("\n"))
    assert all(title in text for title in ("cost", "as a draft", "bits per byte by domain", "median"))
    assert "beside the teacher" not in text
    for prompt in metrics["prompts"]:
        assert shorten(prompt, 30)[:20] in text


def test_one_model_on_one_text_is_one_table(metrics):
    row = {key: value for key, value in metrics["models"][0].items() if not key.startswith(("draft", "domain"))}
    text = shown({**metrics, "models": [{**row, "samples": row["samples"][:1]}]})
    assert text.count("┏") == 1


def test_keys_of_the_columns_are_those_of_metrics(metrics):
    keys = {key for title in ("cost", "as a draft") for key, _, _ in MEASURES[title]}
    assert keys - {"cost_per_megabyte"} <= set(metrics["models"][0])


def test_markup_and_control_characters_are_text(metrics):
    row = {**metrics["models"][0], "sample": "[bold]x[/bold]\n\x1b[31m\u202e"}
    assert "[bold]x[/bold]\\n\\x1b[31m\\u202e" in shown({**metrics, "models": [row]})


def test_shorten():
    assert shorten("abcdef", 4) == "abc\N{HORIZONTAL ELLIPSIS}"
    assert shorten("a\tb", 10) == "a\\tb"
    assert format_score({"bits_per_byte": 1.0}) == "1.0000"
