import numpy as np

from tests.transplantation.builders import stories, target_tokenizer
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.transplantation.fitting_text import _first, make_fitter
from vocabalign.transplantation.running import Document, cut_documents


def test_nothing_is_fitted_on_too_little_or_where_the_cuts_are_alike(body, model, tmp_path):
    source, target = load_vocabulary(model), load_vocabulary(target_tokenizer("metaspace", tmp_path / "t"))
    many = stories(60)
    assert make_fitter(body, cut_documents(source, source, many, 400), 400, 1.0) is None
    assert make_fitter(body, cut_documents(source, target, many[:2], 400), len(target), 1.0) is None
    made = make_fitter(body, cut_documents(source, target, many, 400), len(target), 1.0)
    assert made is not None and made.held_out and not {id(d) for d in made.held_out} & {id(d) for d in made.learned}


def test_the_first_documents_of_so_many_tokens():
    documents = [Document(np.arange(10), np.arange(length), np.zeros(0), np.zeros(0), 1) for length in (5, 30, 2)]
    assert [len(_first(documents, room)) for room in (0, 1, 10, 11, 40, 41, 1000)] == [0, 1, 1, 2, 2, 3, 3]
