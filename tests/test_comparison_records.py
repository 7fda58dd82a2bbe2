"""What a comparison says, from scores alone."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.comparison_records import comparison_table, summarise, sure_differences
from vocabalign.evaluation.bits_per_byte import DocumentScores
from vocabalign.evaluation.statistics import paired_difference


def scores(seed: int, documents: int = 12, factor: float = 1.0) -> DocumentScores:
    generator = np.random.default_rng(seed)
    num_bytes = np.random.default_rng(0).integers(50, 500, documents)
    nats = factor * num_bytes * generator.uniform(0.9, 1.1, documents)
    return DocumentScores(nats, num_bytes, np.maximum(1, num_bytes // 4))


def made(finetuned: bool, documents: int = 12, seed: int = 0):
    at_once = {"source": scores(1 + seed, documents), "a": scores(2 + seed, documents, 1.5)}
    at_once |= {"b": scores(3 + seed, documents, 1.2), "c": scores(4 + seed, documents, 1.2)}
    later = {name: scores(9 + seed, documents, 0.8) for name in at_once} if finetuned else {}
    facts = {name: {"seconds": 1.0} for name in at_once}
    result = {**summarise(at_once, later, facts, seed=5), "finetune_steps": 7 if finetuned else 0}
    return at_once, result


@given(st.integers(0, 200))
@settings(max_examples=10, deadline=None)
def test_records_are_the_paired_differences_of_two_models_alone(seed):
    at_once, result = made(False, seed=seed)
    best = result["methods"][0]["method"]
    for row in result["methods"]:
        for name, against in (("gap", "source"), ("behind", best)):
            alone = paired_difference(at_once[against], at_once[row["method"]], seed=5).difference
            assert np.allclose(
                [row[name], row[f"{name}_low"], row[f"{name}_high"]], [alone.value, alone.low, alone.high], atol=1e-9
            )
    assert result["methods"][0]["behind"] == 0
    assert set(sure_differences(result, finetuned=False)) == {
        row["method"] for row in result["methods"] if row["behind_low"] > 0
    }


def test_the_table_has_a_column_for_training_only_where_there_was_some():
    for finetuned in (False, True):
        header, rows = comparison_table(made(finetuned)[1])
        assert [len(row) for row in rows] == [len(header)] * 4 and (header[-3:-2] == ["after 7 steps"]) == finetuned
        assert rows[0][0] == "source" and rows[0][3:5] == ["", ""] and rows[1][4] == "best"


def test_one_document_gives_scores_without_intervals():
    header, rows = comparison_table(made(False, documents=1)[1])
    assert all(row[2] == "" and "(" not in row[4] for row in rows)
    assert not sure_differences(made(False, documents=1)[1], finetuned=False)
