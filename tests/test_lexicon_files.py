"""Lexicons from other programs' files, and from whatever file is given."""

import json

import numpy as np
import pytest

from tests.test_lexicon_table import LEXICON, SOURCE, TARGET
from vocabalign.api import transplant
from vocabalign.errors import ArtifactError
from vocabalign.lexicon import Evidence
from vocabalign.lexicon_files import load_lexicon, read_align_matrix, write_align_matrix
from vocabalign.lexicon_table import write_table


def test_tokaligns_file_is_as_its_program_reads_it(tmp_path):
    path = tmp_path / "align_matrix.json"
    with pytest.raises(ArtifactError, match="1 target tokens have no source token .the first is 1"):
        write_align_matrix(path, LEXICON)
    write_align_matrix(path, LEXICON, fallback=2)
    table = json.loads(path.read_text())
    # `for i in range(len(table)): row = source_rows[table[f"{i}"]]`
    assert [table[f"{i}"] for i in range(len(table))] == [0, 2, 1]
    again = read_align_matrix(path, SOURCE, TARGET)
    assert again.source_ids.tolist() == [[0], [2], [1]] and (again.weights == 1).all()
    assert again.evidence.tolist() == [Evidence.DISTRIBUTIONAL, Evidence.DISTRIBUTIONAL, Evidence.IDENTICAL]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[1, 2]", "is not TokAlign's"),
        ('{"0": 0}', "lacks 2 of the 3"),
        ('{"0": 0, "1": 1, "2": 9}', "token 9"),
        ("", "not"),
    ],
)
def test_files_of_other_tokenizers_are_refused(tmp_path, content, reason):
    path = tmp_path / "align_matrix.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=reason):
        read_align_matrix(path, SOURCE, TARGET)


def test_the_ending_tells_the_kind(tmp_path):
    write_table(tmp_path / "a.tsv", LEXICON, SOURCE, TARGET)
    write_align_matrix(tmp_path / "a.json", LEXICON, fallback=0)
    for name in ("a.tsv", "a.json"):
        assert load_lexicon(tmp_path / name, lambda: SOURCE, TARGET).source_ids[0, 0] == 0
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(ArtifactError, match="ends in none of .tsv, .json"):
        load_lexicon(tmp_path / "a.csv", lambda: SOURCE, TARGET)
    with pytest.raises(ArtifactError, match="vocabalign align"):
        load_lexicon(tmp_path / "missing", lambda: SOURCE, TARGET)


def test_a_model_is_made_from_a_table_as_from_the_artefact(tmp_path, corpus_file):
    from vocabalign.api import align

    lexicon = align(
        source="demo:source",
        target="demo:teacher",
        corpus=corpus_file,
        out=tmp_path / "lexicon",
        embeddings={"dimensions": 8, "epochs": 1},
        device="cpu",
    )
    assert lexicon.num_targets
    options = {
        "source": "demo:source",
        "target": "demo:teacher",
        "device": "cpu",
        "input_rows": "lexicon",
        "head_rows": "lexicon",
    }
    made = [
        transplant(**options, lexicon=tmp_path / path, out=tmp_path / name)
        for path, name in (("lexicon", "a"), ("lexicon/lexicon.tsv", "b"))
    ]
    from safetensors.numpy import load_file

    first, second = (load_file(folder / "model.safetensors") for folder in made)
    assert all(np.array_equal(first[name], second[name]) for name in first)
