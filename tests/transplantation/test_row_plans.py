"""Every way of making rows, through one interface, against slow references."""

import numpy as np
import pytest
import torch

from tests.conftest import make_byte_level_tokenizer, make_metaspace_tokenizer
from vocabalign.errors import ConfigError
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.transplantation.dense_rows import landmark_rows
from vocabalign.transplantation.row_plans import COMPOSED, NEEDS, ROW_METHODS, Spaces, plan_rows
from vocabalign.transplantation.rows import make_rows
from vocabalign.transplantation.similarity_rows import map_by_shared
from vocabalign.transplantation.sources import Sources, TokenClass, find_sources

SIZE = 16


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Sources:
    folder = tmp_path_factory.mktemp("tokenizers")
    source = load_vocabulary(make_byte_level_tokenizer(folder / "source"))
    target = load_vocabulary(make_metaspace_tokenizer(folder / "target"))
    return find_sources(source, target, len(source), None, {})


def matrix(rows: int, size: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def source(sources) -> torch.Tensor:
    return matrix(sources.num_sources, SIZE, 0)


@pytest.fixture(scope="module")
def spaces(sources) -> Spaces:
    owner = {"input": matrix(len(sources.classes), 12, 1), "head": matrix(len(sources.classes), 12, 2)}
    vectors = matrix(len(sources.classes), 10, 3).numpy()
    vectors[np.flatnonzero(sources.classes == TokenClass.SEGMENTATION)[:2]] = 0
    return Spaces(vectors, matrix(sources.num_sources, 10, 4).numpy(), owner.__getitem__, seed=5)


def rows(plan, source: torch.Tensor) -> torch.Tensor:
    made = make_rows(plan.weights, source)
    made[torch.from_numpy(plan.dense[0])] = plan.dense[1] if len(plan.dense[0]) else made[:0]
    return made


def wanted(sources: Sources) -> np.ndarray:
    return np.flatnonzero(sources.classes == TokenClass.SEGMENTATION)


def shared(sources: Sources) -> tuple[np.ndarray, np.ndarray]:
    ids = np.flatnonzero(sources.classes == TokenClass.IDENTICAL)
    return ids, np.array([sources.pieces.of(i)[0] for i in ids])


@pytest.mark.parametrize("side", ["input", "head"])
@pytest.mark.parametrize("method", [*ROW_METHODS, "auto", "fvt", "last", "first", "decay", "steep"])
def test_twins_are_copied_and_every_row_is_finite(method, side, sources, spaces, source):
    plan = plan_rows(method, side, sources, spaces, source)
    made = rows(plan, source)
    ids, columns = shared(sources)
    assert made.isfinite().all() and made.shape == (len(sources.classes), SIZE)
    if method != "wechsel":
        assert torch.equal(made[torch.from_numpy(ids)], source[torch.from_numpy(columns)])
    assert (plan.pieces is not None) == (method not in ROW_METHODS)


def test_focus_is_the_published_formula(sources, spaces, source):
    made = rows(plan_rows("focus", "input", sources, spaces, source), source)
    ids, columns = shared(sources)
    vectors = torch.from_numpy(spaces.target_vectors).double()
    unit = torch.nn.functional.normalize(vectors, dim=1)
    for token in wanted(sources)[2:12]:
        cosines = (unit[ids] @ unit[token]).numpy()
        low, high = cosines.min() - 1, cosines.max()
        for _ in range(100):  # sparsemax by bisection
            middle = (low + high) / 2
            low, high = (middle, high) if np.maximum(cosines - middle, 0).sum() > 1 else (low, middle)
        expected = np.maximum(cosines - high, 0) @ source[torch.from_numpy(columns)].double().numpy()
        assert np.allclose(made[token].numpy(), expected, atol=1e-4)


def test_wechsel_copies_nothing_and_is_a_softmax_of_ten(sources, spaces, source):
    plan = plan_rows("wechsel", "input", sources, spaces, source)
    ids, columns = shared(sources)
    mine, theirs = (torch.from_numpy(part) for part in (spaces.source_vectors, spaces.target_vectors))
    mapped = map_by_shared(theirs, theirs[ids], mine[torch.from_numpy(columns)])
    for token in [*ids[:4], *wanted(sources)[2:8]]:
        cosines = torch.nn.functional.normalize(mine, dim=1) @ mapped[token]
        values, places = cosines.topk(10)
        row = plan.weights[[int(token)]].toarray()[0]
        assert np.allclose(row[places.numpy()], (values / 0.1).softmax(0).numpy(), atol=1e-5)
        assert np.isclose(row.sum(), 1, atol=1e-5)


@pytest.mark.parametrize("method", ["omp", "nearest", "barycentric", "landmark"])
def test_an_owner_that_is_the_source_turned_gives_back_what_it_mixes(method, sources, source):
    """Where the owner's rows are the source's, turned, a token that is a known mixture becomes that mixture."""
    ids, columns = shared(sources)
    turn = torch.linalg.qr(matrix(SIZE, SIZE, 7))[0]
    owner = matrix(len(sources.classes), SIZE, 8)
    owner[torch.from_numpy(ids)] = source[torch.from_numpy(columns)] @ turn
    token = int(wanted(sources)[0])
    truth = 0.5 * source[columns[0]] + 0.5 * source[columns[1]]
    owner[token] = truth @ turn
    made = rows(plan_rows(method, "input", sources, Spaces(owner=lambda side: owner), source), source)
    if method == "nearest":  # an average of neighbours, nothing exact
        assert made[token].isfinite().all()
    else:
        assert torch.allclose(made[token], truth, atol=2e-2 if method == "barycentric" else 1e-3)
    if method == "landmark":
        others = wanted(sources)
        expected = landmark_rows(owner[others], owner[torch.from_numpy(ids)], source[torch.from_numpy(columns)])
        assert torch.equal(made[torch.from_numpy(others)], expected)


def test_mean_and_zero_are_what_they_say(sources, spaces, source):
    token = int(wanted(sources)[0])
    mean = rows(plan_rows("mean", "head", sources, spaces, source), source)
    assert torch.allclose(mean[token], source.mean(0), atol=1e-5)
    assert not rows(plan_rows("zero", "head", sources, spaces, source), source)[token].any()


@pytest.mark.parametrize("method", [name for name in NEEDS if name in ROW_METHODS])
def test_what_is_missing_is_named(method, sources, source):
    with pytest.raises(ConfigError, match="need --"):
        plan_rows(method, "input", sources, Spaces(), source)


def test_an_owner_with_too_few_rows_and_unknown_names_are_refused(sources, source):
    with pytest.raises(ConfigError, match="rows, and the target"):
        plan_rows("omp", "input", sources, Spaces(owner=lambda side: torch.zeros(3, 4)), source)
    with pytest.raises(ConfigError, match="there are auto"):
        plan_rows("magic", "input", sources, Spaces(), source)
    assert not set(COMPOSED) & set(ROW_METHODS)
