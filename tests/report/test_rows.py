"""Where rows came from: every class has words, and the blocks count each token once."""

from __future__ import annotations

import pytest

from vocabalign.lexicon import Evidence
from vocabalign.report.blocks import Paragraph, Shares, Table
from vocabalign.report.collect import collect_run
from vocabalign.report.rows import (
    KIND_NAMES,
    doubt_blocks,
    fit_blocks,
    hub_blocks,
    kind_name,
    moved_blocks,
    row_blocks,
)
from vocabalign.transplantation.sources import TokenClass


@pytest.fixture(scope="module")
def run(run_folder):
    return collect_run(run_folder)


def test_every_class_and_kind_of_evidence_has_words():
    known = {kind.name.lower() for kind in (*Evidence, *TokenClass)}
    assert known <= KIND_NAMES.keys()
    assert kind_name("new_kind") == "new kind"


def test_every_token_is_counted_once(run):
    blocks = list(row_blocks(run))
    (shares,) = [block for block in blocks if isinstance(block, Shares)]
    assert sum(sum(counts) for _, counts in shares.rows) == len(run.tables[0].ids)
    for table in (block for block in blocks if isinstance(block, Table)):
        total = sum(int(row[1].replace(",", "")) for row in table.rows)
        assert f"{total:,} tokens in all" in table.caption


def test_doubts_are_the_transplants_else_the_lexicons(run):
    (table,) = doubt_blocks(run)
    assert "transplanted" in table.caption and "Uses" in table.header
    run.least_certain = {}
    (table,) = doubt_blocks(run)
    assert "lexicon" in table.caption and "Uses" not in table.header and len(table.rows) == 20


def test_hubs_lead_several(run):
    table = next(hub_blocks(run))
    counts = [int(row[1]) for row in table.rows]
    assert counts == sorted(counts, reverse=True) and counts[-1] > 1


def test_what_fitting_gave_and_what_tying_cost(run):
    (transplant,) = [artefact for artefact in run.artefacts if artefact.stage == "transplant"]
    scores = {"plain": 2.5, "inputs": 2.25, "heads": 2.0}
    transplant.manifest["metrics"]["fitted"] = {"held_out_bits_per_byte": scores, "tying_cost_bits_per_byte": 0.125}
    table, told = fit_blocks(run)
    assert isinstance(table, Table) and [row[1] for row in table.rows] == ["2.5000", "2.2500", "2.0000"]
    assert isinstance(told, Paragraph) and "+0.1250" in told.text
    transplant.manifest["metrics"]["fitted"]["tying_cost_bits_per_byte"] = None
    assert [type(block) for block in fit_blocks(run)] == [Table]
    del transplant.manifest["metrics"]["fitted"]
    assert not list(fit_blocks(run))


def test_copies_that_were_moved_and_a_corpus_of_another_domain_are_told(run):
    (transplant,) = [artefact for artefact in run.artefacts if artefact.stage == "transplant"]
    metrics = transplant.manifest["metrics"]
    metrics["moved_rows"] = {"input": {}, "head": {"fitted": 1200, "shifted": 3}}
    metrics["corpus_of_another_domain"] = False
    (told,) = moved_blocks(run)
    assert "1,200 fitted" in told.text and "3 shifted" in told.text and "head rows" in told.text
    metrics |= {"corpus_of_another_domain": True, "counted_on": "corpus and own text"}
    metrics["corpus_nats_per_token"] = {"found": 5.25, "expected": 2.5}
    _, told = moved_blocks(run)
    assert "5.25 nats where it expects 2.50" in told.text and "wrote itself" in told.text
