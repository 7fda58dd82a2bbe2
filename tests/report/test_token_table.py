"""The table of tokens: what was written is what is read, counted and shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.lexicon import Evidence, Lexicon
from vocabalign.lexicon_table import write_table
from vocabalign.report.collect import collect_run
from vocabalign.report.token_table import provenance_table, read_lexicon_table
from vocabalign.text.scripts import token_script
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.transplantation.transplant_stage import transplant_model

from ..conftest import make_byte_level_tokenizer, make_llama, make_metaspace_tokenizer

HEADER = "target_id\ttarget_token\tevidence\tconfidence\tsource_tokens\n"


@pytest.fixture(scope="module")
def lexicon_file(tmp_path_factory):
    """A random lexicon between two real vocabularies, written as it always is."""
    folder = tmp_path_factory.mktemp("table")
    source = load_vocabulary(make_byte_level_tokenizer(folder / "a"))
    target = load_vocabulary(make_metaspace_tokenizer(folder / "b"))
    rng = np.random.default_rng(0)
    size = len(target)
    ids = rng.integers(0, len(source), (size, 3)).astype(np.int32)
    weights = np.sort(rng.dirichlet(np.ones(3), size).astype(np.float32), axis=1)[:, ::-1].copy()
    ids[::7], weights[::7] = -1, 0
    kinds = rng.integers(1, len(Evidence), size).astype(np.uint8)
    kinds[::7] = Evidence.NONE
    lexicon = Lexicon(ids, weights, kinds, rng.random(size).astype(np.float32), source.fingerprint, target.fingerprint)
    write_table(folder / "lexicon.tsv", lexicon, source, target)
    return folder / "lexicon.tsv", lexicon, source, target


def test_it_holds_the_lexicon(lexicon_file):
    path, lexicon, _, target = lexicon_file
    table = read_lexicon_table(path, "x")
    assert list(table.ids) == list(range(len(target)))
    assert table.class_counts() == {kind: count for kind, count in lexicon.evidence_counts().items() if count}
    np.testing.assert_allclose(table.confidence, lexicon.confidence, rtol=1e-6)
    for row in range(len(target)):
        sources = [table.source_ids[entry] for entry in table.entries[table.starts[row] : table.starts[row + 1]]]
        assert sources == [i for i in lexicon.source_ids[row].tolist() if i >= 0]
        assert [weight for _, weight in table.sources(row)] == pytest.approx(lexicon.weights[row][: len(sources)])


def test_scripts_are_those_of_the_bytes(lexicon_file):
    path, _, _, target = lexicon_file
    table = read_lexicon_table(path, "x")
    for row, token in enumerate(target.token_bytes):
        if token is not None and table.kinds[row] != "role":
            assert table.scripts[row] == token_script(token), (row, token)
    by_script = table.classes_by_script()
    assert sum(counts.total() for counts in by_script.values()) == len(target)
    totals = [counts.total() for counts in by_script.values()]
    assert totals == sorted(totals, reverse=True)


def test_hubs_are_counted_like_this(lexicon_file):
    path, lexicon, _, _ = lexicon_file
    table = read_lexicon_table(path, "x")
    counts: dict[str, int] = {}
    for row, kind in enumerate(lexicon.evidence.tolist()):
        if lexicon.source_ids[row, 0] >= 0 and kind not in (Evidence.IDENTICAL, Evidence.ROLE):
            name = table.sources(row)[0][0]
            counts[name] = counts.get(name, 0) + 1
    hubs = table.hubs(5)
    assert [count for _, count, _ in hubs] == sorted(counts.values(), reverse=True)[:5]
    assert all(counts[name] == count and 0 < len(examples) <= 6 for name, count, examples in hubs)


def test_the_least_certain_first(lexicon_file):
    table = read_lexicon_table(lexicon_file[0], "x")
    least = table.least_certain(10)
    assert [row["confidence"] for row in least] == sorted(table.confidence)[:10]


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(blacklist_characters="\n"), max_size=80))
def test_no_line_is_too_strange_to_pass(tmp_path_factory, line):
    path = tmp_path_factory.mktemp("lines") / "lexicon.tsv"
    text = f"{HEADER}3\ta\tidentical\t1.0\t5:b=1.0\n{line}\n7\t=\tmean\tx\t12 9: 4:==0.5\n"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    table = read_lexicon_table(path, "x")
    assert table.ids[0] == 3 and table.ids[-1] == 7
    # Sources without a weight, without a token, and with the sign of a weight in the token.
    assert table.sources(len(table.ids) - 1) == [("12", 1.0), ("9", 1.0), ("=", 0.5)]


def test_a_header_alone_is_no_table(tmp_path):
    (tmp_path / "lexicon.tsv").write_text(HEADER)
    assert read_lexicon_table(tmp_path / "lexicon.tsv", "x") is None


def test_a_transplant_without_a_lexicon_has_a_table_too(tmp_path):
    from vocabalign.artifacts import write_artifact
    from vocabalign.text.tokenizers import save_tokenizer
    from vocabalign.transplantation.transplant_stage import Options

    source = make_llama(make_byte_level_tokenizer(tmp_path / "source"), 400)
    target = make_metaspace_tokenizer(tmp_path / "target")
    vocabulary = load_vocabulary(target)
    with write_artifact(tmp_path / "run" / "transplanted", "transplant", {"source": str(source)}, {}) as writer:
        metrics = transplant_model(source, vocabulary, writer.folder, options=Options(origin=str(source)))
        save_tokenizer(target, writer.folder)
    (table,) = collect_run(tmp_path / "run").tables
    assert table.class_counts() == {kind: count for kind, count in metrics["classes"].items() if count}
    assert len(table.ids) == len(vocabulary) and table.name == "transplanted"
    copied = [row for row, kind in enumerate(table.kinds) if kind == "identical"]
    assert copied and all(table.sources(row) == [(table.tokens[row], 1.0)] for row in copied)


def test_provenance_of_another_form_is_refused():
    with pytest.raises((KeyError, IndexError, TypeError)):
        provenance_table("x", {"class_names": [], "classes": [0]}, ["a"], [])
