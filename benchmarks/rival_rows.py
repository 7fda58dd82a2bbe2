"""The rivals' programs as they are shipped, re-derived: which source tokens they take, wrong matches and all.

``vocabalign transplant`` offers their ways of making a row on tokens matched by bytes. The programs themselves match
by strings, and some stumble over what AutoTokenizer returns today. What they print in a table can be reproduced only
with these mistakes, so they are here, for comparison alone. Each function returns the two matrices of a new model:
(T, H) float32 embedding rows and head rows, the same tensor where the program keeps a tied model tied.

Reference:
    jukofyork/transplant-vocab; arcee-ai/mergekit, tokensurgeon; konstantinjdobler/focus; ZNLP/TokAlign.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import numpy as np
import torch
from rival_pair import Matrices, Pair, published, rows_of_plan
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaTokenizer, PreTrainedTokenizerBase

from vocabalign.alignment.embeddings import learn_token_embeddings
from vocabalign.alignment.relative import relative_representations
from vocabalign.stages import EmbeddingOptions
from vocabalign.text.corpus import read_texts
from vocabalign.token_embeddings import TokenEmbeddings
from vocabalign.transplantation.row_plans import Spaces, plan_rows
from vocabalign.transplantation.rows import Side
from vocabalign.transplantation.similarity_rows import mix_by_pursuit
from vocabalign.transplantation.sources import Sources, TokenClass

__all__ = ["SHIPPED", "Matrices", "Pair", "published"]

WORD_START = "▁"
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
# FOCUS takes a tokenizer for SentencePiece's where more tokens than this begin with the mark.
FEW_MARKED_TOKENS = 100
ROLES = ("bos_token_id", "eos_token_id", "pad_token_id")
# As the program calls Stanford's GloVe, but for the learning rate (0.05 there): ours adds up the gradients of a tile
# before it steps, and is nearest to it at 0.02. With Stanford's own vectors the result is the program's to four digits.
GLOVE = EmbeddingOptions(
    method="glove", dimensions=300, window=15, epochs=15, x_max=10, min_count=5, learning_rate=0.02
)


def transplant_vocab(pair: Pair) -> Matrices:
    """Text of each token, cut anew: the last piece for input, a decaying mean for the head, always untied.

    ``decode`` drops the space before a word and ``encode`` puts one before every text, so a piece from within a word
    takes the row of the piece that begins one. Tokens without text crash the program; here they get rows of zeros.
    """
    source, target = pair.source_tokenizer, pair.target_tokenizer
    pieces = [source.encode(target.decode([i]), add_special_tokens=False) for i in range(len(target))]
    for role in ROLES:
        here, there = getattr(target, role), getattr(source, role)
        if here is not None and there is not None:
            pieces[here] = [there]
    sources = pair.sources(pieces, ())
    results = []
    for method, side in (("last", "input"), ("decay", "head")):
        rows = rows_of_plan(plan_rows(method, side, sources, Spaces(), pair.matrix(side)), pair.matrix(side))
        rows[torch.tensor([not row for row in pieces])] = 0
        results.append(rows)
    return results[0], results[1]


def _normalized(tokenizer: PreTrainedTokenizerBase) -> dict[tuple[str, str], int]:
    """tokensurgeon's form of each token -> its id: special tokens by role, others by string without a word's mark.

    The mark is taken from the tokenizer's class; a class that it does not know is taken for GPT-2's.
    """
    mark = WORD_START if isinstance(tokenizer, LlamaTokenizer) else "Ġ"
    roles = {text: name for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)}
    forms: dict[tuple[str, str], int] = {}
    for token, token_id in tokenizer.get_vocab().items():
        if token.startswith(mark):
            forms[("word", token[len(mark) :])] = token_id
        elif token in roles:
            forms[("special", next(name for text, name in roles.items() if text == token))] = token_id
        else:
            forms[("", token)] = token_id
    return forms


def _surgeon_sources(pair: Pair) -> Sources:
    source, target = _normalized(pair.source_tokenizer), _normalized(pair.target_tokenizer)
    pieces: list[list[int]] = [[] for _ in range(len(pair.by_bytes.classes))]
    copied = []
    for (kind, text), token_id in target.items():
        twin = source.get((kind, text))
        if twin is not None:
            copied.append(token_id)
            pieces[token_id] = [twin]
        else:
            written = (" " if kind == "word" else "") + text
            pieces[token_id] = pair.source_tokenizer(written, add_special_tokens=False)["input_ids"]
    return pair.sources(pieces, copied)


def tokensurgeon_subword(pair: Pair) -> Matrices:
    """The mean of the pieces of a token's string, with byte-level characters and marks taken for text."""
    sources = _surgeon_sources(pair)

    def make(side: Side) -> Tensor:
        return rows_of_plan(plan_rows("fvt", side, sources, Spaces(), pair.matrix(side)), pair.matrix(side))

    return pair.both(make)


def tokensurgeon_omp(pair: Pair) -> Matrices:
    """Orthogonal matching pursuit in the owner's embedding, whose vectors are not brought to one length."""
    assert pair.owner is not None, "needs a model that owns the target vocabulary"
    sources = _surgeon_sources(pair)
    shared = np.flatnonzero(sources.classes == TokenClass.IDENTICAL)
    wanted = np.flatnonzero(sources.classes != TokenClass.IDENTICAL)
    columns = torch.from_numpy(sources.pieces.ids[sources.pieces.starts[shared]].astype(np.int64))
    owner = AutoModelForCausalLM.from_pretrained(pair.owner, dtype=torch.float32)

    def make(side: Side) -> Tensor:
        part = owner.get_input_embeddings() if side == "input" else owner.get_output_embeddings()
        matrix = part.weight.detach()
        mixture = mix_by_pursuit(matrix[wanted], matrix[shared], scaled=False)
        weights = torch.zeros(len(wanted), len(shared), dtype=torch.float64)
        weights.index_put_((mixture.owners, mixture.shared), mixture.weights.double(), accumulate=True)
        rows = torch.zeros(len(sources.classes), pair.matrix(side).shape[1])
        rows[shared] = pair.matrix(side)[columns]
        rows[wanted] = (weights @ pair.matrix(side)[columns].double()).float()
        return rows

    return pair.both(make)


def focus(pair: Pair) -> Matrices:
    """FOCUS with its defaults: fastText CBOW (D = 100, 3 epochs, 10 negatives), tokens seen 10 times at least.

    A tokenizer with at most 100 marked tokens is read as GPT-2's, whose words begin with another mark: then words do
    not match.
    """
    tokenizers = pair.source_tokenizer, pair.target_tokenizer
    source, target = (_canonical(tokenizer) for tokenizer in tokenizers)
    last = {form: token_id for token_id, form in sorted(source.items())}
    pieces = [[last.get(target.get(i, ""), 0)] for i in range(len(pair.by_bytes.classes))]
    shared = [token_id for token_id, form in target.items() if form in last]
    vectors = _fasttext_vectors(pair)
    sources = pair.sources(pieces, shared)
    spaces = Spaces(target_vectors=vectors, seed=42)

    def make(side: Side) -> Tensor:
        return rows_of_plan(plan_rows("focus", side, sources, spaces, pair.matrix(side)), pair.matrix(side))

    return pair.both(make)


def _canonical(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    vocabulary = tokenizer.get_vocab()
    marked = sum(token.startswith(WORD_START) for token in vocabulary) > FEW_MARKED_TOKENS
    mark = WORD_START if marked else "Ġ"
    forms = {}
    for token, token_id in vocabulary.items():
        begins = WORD_START if token.startswith(mark) else ""
        is_byte = marked and BYTE_TOKEN.fullmatch(token)
        forms[token_id] = token if is_byte else begins + tokenizer.decode([token_id]).lstrip()
    return forms


def _fasttext_vectors(pair: Pair) -> np.ndarray:
    """(T, 100) float32 by gensim's fastText on the target's tokens; zero where a token is too rare."""
    from gensim.models import FastText

    tokenizer = pair.target_tokenizer
    lines = [tokenizer.tokenize(text) for text in read_texts(list(pair.corpus))]
    model = FastText(
        lines, sg=0, vector_size=100, window=5, negative=10, min_count=10, epochs=3, alpha=0.05, sample=1e-4,
        min_n=3, max_n=6, bucket=2_000_000, workers=1, seed=pair.seed,
    )  # fmt: skip
    vectors = np.zeros((len(pair.by_bytes.classes), 100), np.float32)
    for token in model.wv.index_to_key:
        vectors[tokenizer.convert_tokens_to_ids(token)] = model.wv[token]
    return vectors


def tokalign(pair: Pair) -> Matrices:
    """TokAlign's public code: GloVe, 300 shared strings drawn as anchors, the nearest source token's rows.

    Shared strings are copied; a token without a vector gets a source token by lot. (The program takes untied heads
    only; here both matrices are rearranged alike.)
    """
    source, target = (_glove(vocabulary, pair) for vocabulary in pair.vocabularies)
    names = pair.source_tokenizer.get_vocab()
    gold = {i: names[token] for token, i in pair.target_tokenizer.get_vocab().items() if token in names}
    # The program's own generator and order of draws: which anchors and which rows by lot moves the result by 4 %.
    lot = random.Random(pair.seed)
    order = sorted(gold)
    lot.shuffle(order)
    anchors = [i for i in order if target.vectors[i].any() and source.vectors[gold[i]].any()][:300]
    there = relative_representations(target.vectors, target.vectors[anchors], scaled=False)
    here = relative_representations(source.vectors, source.vectors[[gold[i] for i in anchors]], scaled=False)
    known = np.flatnonzero(source.vectors.any(axis=1))
    nearest = known[(there @ here[known].T).argmax(axis=1)]
    for token_id, seen in enumerate(target.vectors.any(axis=1)):
        if token_id in gold:
            nearest[token_id] = gold[token_id]
        elif not seen:
            nearest[token_id] = lot.randint(0, len(source.vectors) - 1)
    rows = torch.from_numpy(nearest)
    return pair.both(lambda side: pair.matrix(side)[rows].clone())


def _glove(vocabulary: object, pair: Pair) -> TokenEmbeddings:
    return learn_token_embeddings(vocabulary, read_texts(list(pair.corpus)), GLOVE, pair.seed)  # type: ignore[arg-type]


SHIPPED: dict[str, Callable[[Pair], Matrices]] = {
    "transplant-vocab": transplant_vocab,
    "mergekit sub-word": tokensurgeon_subword,
    "mergekit OMP": tokensurgeon_omp,
    "FOCUS": focus,
    "TokAlign": tokalign,
}
