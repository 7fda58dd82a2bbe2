"""The table that people edit: what was written is read, what was edited is checked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.alignment.toy import make_vocabulary
from vocabalign.errors import ArtifactError
from vocabalign.lexicon import Evidence, Lexicon
from vocabalign.lexicon_table import read_table, write_table

AWKWARD = [b"\t", b"\n", b"\r\n", b" ", b" =1", b"=0.5", b"1:a=2", b":", b"\\", b"\\t", b"\xff", b"\x00", b"\x1f"]
AWKWARD += [text.encode() for text in ("\u2423", "\u2028", "\u0085", "\u00a0", "\U000e0020", "\\u2423", "\ufeff")]
TOKENS = st.lists(
    st.sampled_from(AWKWARD) | st.binary(min_size=1, max_size=4) | st.text(min_size=1, max_size=3).map(str.encode),
    min_size=1,
    max_size=12,
    unique=True,
)
SOURCE, TARGET = make_vocabulary([b" a", b"b", None]), make_vocabulary([b" ab", b"\n", b"b"])
LEXICON = Lexicon(
    np.array([[0, 1], [-1, -1], [1, -1]], dtype=np.int32),
    np.array([[0.75, 0.25], [0, 0], [1, 0]], dtype=np.float32),
    np.array([Evidence.SEGMENTATION, Evidence.NONE, Evidence.IDENTICAL], dtype=np.uint8),
    np.array([1 / 3, 0, 1], dtype=np.float32),
    SOURCE.fingerprint,
    TARGET.fingerprint,
)


def random_lexicon(source, target, rng, width=5):
    size = len(target)
    used = rng.integers(0, min(width, len(source)) + 1, size)
    used[0] = min(width, len(source))
    ids, weights = np.full((size, used.max()), -1, np.int32), np.zeros((size, used.max()))
    for row, number in enumerate(used):
        ids[row, :number] = rng.permutation(len(source))[:number]
        weights[row, :number] = np.sort(rng.gamma(0.3, 1, number) + 1e-7)[::-1]
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-30)
    evidence = np.where(used > 0, rng.integers(1, 7, size), 0).astype(np.uint8)
    confidence = np.where(used > 0, rng.random(size), 0).astype(np.float32)
    prints = (source.fingerprint, target.fingerprint)
    return Lexicon(ids, weights.astype(np.float32), evidence, confidence, *prints)


@settings(max_examples=60, deadline=None)
@given(TOKENS, TOKENS, st.integers(0, 1000))
def test_what_is_written_is_read_exactly_whatever_the_tokens(tmp_path_factory, source_tokens, target_tokens, seed):
    source, target = make_vocabulary([*source_tokens, None]), make_vocabulary([None, *target_tokens])
    lexicon = random_lexicon(source, target, np.random.default_rng(seed))
    path = tmp_path_factory.mktemp("table") / "lexicon.tsv"
    write_table(path, lexicon, source, target)
    text = path.read_bytes().decode()
    assert len(text.split("\n")) == len(target) + 2 and all(c.isprintable() or c in "\t\n" for c in text)
    again = read_table(path, source, target)
    for name in ("source_ids", "weights", "evidence", "confidence"):
        assert np.array_equal(getattr(again, name), getattr(lexicon, name)), name
    assert (again.source_fingerprint, again.target_fingerprint) == (source.fingerprint, target.fingerprint)


def test_every_target_token_has_a_line(tmp_path):
    write_table(tmp_path / "lexicon.tsv", LEXICON, SOURCE, TARGET)
    assert (tmp_path / "lexicon.tsv").read_text(encoding="utf-8").splitlines() == [
        "target_id\ttarget_token\tevidence\tconfidence\tsource_tokens",
        "0\t ab\tsegmentation\t0.33333334\t0:\u2423a=0.75 1:b=0.25",
        "1\t\\n\tnone\t0.0\t",
        "2\tb\tidentical\t1.0\t1:b=1.0",
    ]


def edited(tmp_path, *lines):
    path = tmp_path / "edited.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_table(path, SOURCE, TARGET)


def test_people_may_leave_things_out(tmp_path):
    lexicon = edited(tmp_path, "2\tb\tgiven\t0.5\t0=3 1:b=1", "0\t ab\tgiven\t7\t1 0:\u2423a", "")
    assert lexicon.source_ids.tolist() == [[1, 0], [-1, -1], [0, 1]]
    assert lexicon.weights.tolist() == [[0.5, 0.5], [0, 0], [0.75, 0.25]]
    assert lexicon.evidence.tolist() == [Evidence.DISTRIBUTIONAL, Evidence.NONE, Evidence.DISTRIBUTIONAL]
    assert lexicon.confidence.tolist() == [1, 0, 0.5]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2\tc\tgiven\t1\t0=1", "line 1: the target token 2 of 'toy' is 'b', not 'c'"),
        ("9\tb\tgiven\t1\t0=1", "'9' is no target token; 'toy' has the numbers 0 to 2"),
        ("2\tb\tgiven\t1\t0:a=1", "the source token 0 of 'toy' is '\u2423a', not 'a'"),
        ("2\tb\tgiven\t1\t7=1", "'7' is no source token"),
        ("2\tb\tgiven\t1\t0=-1", "'-1' is no weight"),
        ("2\tb\tgiven\t1\tb", "'b' is not of the form"),
        ("2\tb\tgiven\t1\t0=1 1", "some of its source tokens"),
        ("2\tb\tgiven\t1\t0=1 0=1", "names a source token twice"),
        ("2\tb\tguess\t1\t0=1", "'guess' is no kind of evidence"),
        ("2\tb\tgiven\tnan\t0=1", "'nan' is no weight or confidence"),
        ("2\tb\tgiven\t1", "has 4 columns instead of 5"),
        ("2\tb\tgiven\t1\t0=1\n2\tb\tgiven\t1\t0=1", "line 2 tells target token 2 a second time"),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_line(tmp_path, line, reason):
    with pytest.raises(ArtifactError, match="line") as error:
        edited(tmp_path, line)
    assert reason in str(error.value)


def test_a_table_of_other_tokenizers_is_refused(tmp_path):
    write_table(tmp_path / "lexicon.tsv", LEXICON, SOURCE, TARGET)
    with pytest.raises(ArtifactError, match="made for other tokenizers"):
        read_table(tmp_path / "lexicon.tsv", TARGET, SOURCE)
    (tmp_path / "lexicon.tsv").write_bytes(b"\xff")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_table(tmp_path / "lexicon.tsv", SOURCE, TARGET)
