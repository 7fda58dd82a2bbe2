import numpy as np
import pytest
import torch

from vocabalign.transplantation import rows as rows_module
from vocabalign.transplantation.rows import LEXICON_METHODS, SEGMENTATION_METHODS, Pieces, make_rows

LISTS = [[3], [1, 2, 3], [], [5, 5, 0, 1], [4, 2]]


def slow_row(pieces, name, side, source):
    """The obvious loop."""
    if not pieces:
        return source.float().mean(0)
    count = len(pieces)
    weights = {
        "fvt": [1] * count,
        "first": [1] + [0] * (count - 1),
        "last": [0] * (count - 1) + [1],
        "decay": [0.5 ** (count - 1 - i if side == "input" else i) for i in range(count)],
        "steep": [0.15 ** (count - 1 - i if side == "input" else i) for i in range(count)],
    }[name]
    return sum(w * source[p].float() for w, p in zip(weights, pieces, strict=True)) / sum(weights)


@pytest.mark.parametrize("side", ["input", "head"])
@pytest.mark.parametrize("name", sorted(SEGMENTATION_METHODS))
def test_methods_agree_with_a_slow_loop(name, side):
    source = torch.randn(7, 4)
    pieces = Pieces.from_lists(LISTS)
    rows = make_rows(pieces.matrix(SEGMENTATION_METHODS[name](pieces, side), 7), source)
    for row, tokens in zip(rows, LISTS, strict=True):
        torch.testing.assert_close(row, slow_row(tokens, name, side, source))
    assert pieces.ids.tolist() == [i for tokens in LISTS for i in tokens]  # nothing was sorted in place


def test_lexicon_methods_agree_with_a_slow_loop():
    source = torch.randn(7, 4)
    ids = np.array([[3, 1, -1], [2, -1, -1], [-1, -1, -1]])
    weights = np.array([[0.7, 0.3, 0], [1, 0, 0], [0, 0, 0]], np.float32)
    pieces = Pieces.from_table(ids, weights)
    mixed = make_rows(pieces.matrix(LEXICON_METHODS["lexicon"](pieces, "input"), 7), source)
    torch.testing.assert_close(mixed[0], 0.7 * source[3] + 0.3 * source[1])
    one = make_rows(pieces.matrix(LEXICON_METHODS["lexicon-one"](pieces, "input"), 7), source)
    assert torch.equal(one[:2], source[[3, 2]])
    torch.testing.assert_close(one[2], source.mean(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_copies_are_exact_in_every_dtype(dtype):
    source = torch.randn(9, 5).to(dtype)
    pieces = Pieces.from_lists([[8], [0], [4]])
    rows = make_rows(pieces.matrix(pieces.weights, 9), source)
    assert rows.dtype == dtype
    assert torch.equal(rows, source[[8, 0, 4]])


def test_a_shift_moves_the_logit_along_the_direction():
    source, direction = torch.randn(7, 4), torch.tensor([0.0, 2.0, 0.0, 0.0])
    pieces = Pieces.from_lists([[1], [2]])
    rows = make_rows(pieces.matrix(pieces.weights, 7), source, np.array([0, -3], np.float32), direction)
    assert torch.equal(rows[0], source[1])
    torch.testing.assert_close(rows[1], source[2] - 3 * direction)


def test_a_bias_is_a_matrix_of_one_column():
    bias = torch.randn(7)
    pieces = Pieces.from_lists([[1], [2, 3], []])
    rows = make_rows(pieces.matrix(np.ones(3), 7), bias, np.array([0, 1, 0], np.float32), torch.tensor(1.0))
    torch.testing.assert_close(rows, torch.stack([bias[1], (bias[2] + bias[3]) / 2 + 1, bias.mean()]))


@pytest.mark.parametrize("shape", [(7, 4), (7,)])
def test_a_block_of_tokens_of_which_nothing_is_known_is_the_mean(shape, monkeypatch):
    monkeypatch.setattr(rows_module, "_BLOCK_ROWS", 2)
    source = torch.randn(shape)
    pieces = Pieces.from_lists([[], [], [1], [], [], []])
    rows = make_rows(pieces.matrix(pieces.weights, 7), source)
    torch.testing.assert_close(rows, torch.stack([source[1] if i == 2 else source.mean(0) for i in range(6)]))


def test_merged_and_without():
    first, second = Pieces.from_lists([[1], [2, 3], [4]]), Pieces.from_lists([[9], [8], []])
    merged = first.merged(second, np.array([False, True, True]))
    assert [merged.of(i).tolist() for i in range(3)] == [[1], [8], []]
    kept = first.without(lambda ids: ids >= 3)
    assert [kept.of(i).tolist() for i in range(3)] == [[1], [2], []]
