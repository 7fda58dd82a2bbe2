from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import entropy

from tests.alignment.cases import CASES, Case
from tests.alignment.toy import cover_counts
from vocabalign.alignment.align_stage import AlignmentResult, align_vocabularies
from vocabalign.alignment.auto_lexicon import told_bits, without_crumbs
from vocabalign.alignment.scores import one_best_reverse
from vocabalign.lexicon import Evidence
from vocabalign.stages import AlignConfig, EmbeddingOptions


@cache
def solve(name: str) -> tuple[Case, AlignmentResult]:
    case = CASES[name]()
    config = AlignConfig(
        source="-", target="-", corpus=[], out="-", device="cpu",
        embeddings=EmbeddingOptions(method="ppmi", dimensions=16),
    )  # fmt: skip
    return case, align_vocabularies(case.source, case.target, case.texts, config, given=case.embeddings)


@pytest.mark.parametrize("name", CASES)
def test_each_case_is_won_by_another_kind_of_evidence(name):
    case, result = solve(name)
    found = result.scores["weighing"]["all"]
    alone = found["bits_alone"]
    assert min((kind for kind in alone), key=alone.get) == case.winner
    weights = {kind: weight for kind, weight in found["weights"].items() if kind != "background"}
    assert max(weights, key=weights.get) == case.winner
    # What the other kinds make of it alone is far behind; having them to choose from costs little.
    others = [bits for kind, bits in alone.items() if kind != case.winner]
    assert found["bits"] < 0.6 * min(others) and found["bits"] < alone[case.winner] + 0.1
    assert found["bits_without"][case.winner] > found["bits"] + 0.3


@pytest.mark.parametrize("name", ["compounds", "seams"])
def test_seen_tokens_rest_on_what_covers_them(name):
    case, result = solve(name)
    lexicon = result.lexicon
    seen = np.flatnonzero((lexicon.evidence > Evidence.ROLE) & (lexicon.target_counts > 0))
    assert len(seen) >= 10 and (lexicon.evidence[seen] == Evidence.COOCCURRENCE).all()
    for token in seen:
        pieces = [case.source.token_bytes[piece].strip() for piece in lexicon.source_ids[token, :1]]
        assert all(piece in case.target.token_bytes[token] for piece in pieces)


def test_a_stem_that_the_text_lacks_goes_to_the_words_it_is_used_like():
    case = CASES["stems of a new script"]()
    config = AlignConfig(source="-", target="-", corpus=[], out="-", device="cpu")
    texts = case.texts[:60]
    lexicon = align_vocabularies(case.source, case.target, texts, config, given=case.embeddings).lexicon
    unseen = [
        token
        for token, text in enumerate(case.target.token_bytes)
        if text and len(text) == 8 and lexicon.target_counts[token] == 0
    ]
    assert len(unseen) > 30
    assert (lexicon.evidence[unseen] == Evidence.DISTRIBUTIONAL).all()
    right = [case.target.token_bytes[t] in case.source.token_bytes[lexicon.source_ids[t, 0]] for t in unseen]
    assert np.mean(right) > 0.9


def test_the_way_back_is_counted():
    case, result = solve("seams")
    covers = cover_counts(case.source, case.target, case.texts)
    found = result.lexicon.reverse
    for source_id, target_id in enumerate(found):
        column = covers.overlap[:, source_id].toarray().ravel()
        assert column[target_id] == column.max() if column.any() else target_id == -1
    # The end of a word with the space behind it goes to the end of a word, which has no twin.
    joined = [i for i, token in enumerate(case.source.token_bytes) if token and len(token) > 1 and token.endswith(b" ")]
    assert all(found[i] >= 0 for i in joined if covers.source_counts[i])
    assert np.array_equal(one_best_reverse(result.lexicon, len(case.source))[joined], found[joined])


def test_a_rerun_gives_the_same_weights():
    case, result = solve("compounds")
    config = AlignConfig(
        source="-", target="-", corpus=[], out="-", device="cpu",
        embeddings=EmbeddingOptions(method="ppmi", dimensions=16),
    )  # fmt: skip
    again = align_vocabularies(case.source, case.target, case.texts, config)
    assert again.scores == result.scores and np.array_equal(again.lexicon.weights, result.lexicon.weights)


def test_crumbs_are_left_out():
    weights = sparse.csr_matrix(np.array([[0.9, 0.004, 0.096], [0, 0.3, 0.001], [0, 0, 0], [2e-4, 1e-4, 0]]))
    kept = without_crumbs(weights).toarray()
    assert (kept > 0).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0]]
    assert np.array_equal(kept[kept > 0], weights.toarray()[kept > 0])


@pytest.mark.parametrize("rest", [0.0, 0.3, 1.0])
def test_told_bits_are_the_divergence_from_the_background(rest):
    rng = np.random.default_rng(0)
    background = rng.dirichlet(np.ones(12))
    dense = rng.dirichlet(np.ones(12), size=5) * (np.arange(12) % 3 < rng.integers(1, 3, (5, 1)))
    dense *= (1 - rest) / np.maximum(dense.sum(axis=1, keepdims=True), 1e-9)
    found = told_bits(sparse.csr_matrix(dense), np.full(5, rest), background)
    wanted = [entropy(row + rest * background, background, base=2) for row in dense]
    assert found == pytest.approx(wanted, abs=1e-9) and (found >= 0).all()
