"""Token embeddings: one vector for each id of one tokenizer, learned from text that it cut."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vocabalign.alignment.cooccurrence import Cooccurrence, count_cooccurrence
from vocabalign.alignment.gensim_vectors import learn_gensim_vectors
from vocabalign.alignment.glove import GloveOptions, train_glove
from vocabalign.alignment.ppmi import PpmiOptions, ppmi_vectors
from vocabalign.errors import ConfigError, CorpusError, TrainingError
from vocabalign.stages import EmbeddingOptions
from vocabalign.text.token_text import token_text
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.token_embeddings import TokenEmbeddings

# So many uncovered tokens are named in a message.
NAMED_TOKENS = 5


def learn_token_embeddings(
    vocabulary: Vocabulary,
    texts: Iterable[str],
    options: EmbeddingOptions,
    seed: int,
    folder: Path | None = None,
    cooccurrence: Cooccurrence | None = None,
) -> TokenEmbeddings:
    """Cut the texts with the tokenizer and learn a vector for every id that occurs.

    Unseen tokens keep a zero row and count as uncovered: a vector made of the start value alone would
    be noise that looks like evidence. With one worker the same call gives the same bits again.

    Args:
        vocabulary: V tokens.
        texts: documents; gone through once, or not at all where counts are given to a method that needs no more.
        options: method, D, window, epochs and the like.
        seed: everything random follows from it.
        folder: where the cut text is written while it is needed, about as large as the text; None for the
            system's temporary folder.
        cooccurrence: counts of this vocabulary that were made before, for ``glove`` and ``ppmi``.

    Raises:
        CorpusError: no text, or no token that is seen often enough.
        ConfigError: the counts were made with another window than is asked for.
        TrainingError: the vectors are not finite.

    Reference:
        Mikolov et al. (2013) for skip-gram and CBOW, Bojanowski et al. (2017) for fastText, Pennington et al. (2014)
        for GloVe, Levy et al. (2015) for PPMI; TokAlign++ (2605.13429) section 4.1 for vectors of token ids.
    """
    if options.method in FROM_COUNTS:
        counted = _counts(vocabulary, texts, options, cooccurrence)
        counts, vectors = counted.token_counts, FROM_COUNTS[options.method](counted, options, seed)
    else:
        counts, vectors = learn_gensim_vectors(vocabulary, texts, options, seed, folder)
    if not np.isfinite(vectors).all():
        raise TrainingError(
            f"The token embeddings of '{vocabulary.name}' diverged: use fewer dimensions or a lower learning rate."
        )
    return TokenEmbeddings(vectors, counts, vocabulary.fingerprint, options.method)


def _counts(
    vocabulary: Vocabulary, texts: Iterable[str], options: EmbeddingOptions, given: Cooccurrence | None
) -> Cooccurrence:
    if given is None:
        given = count_cooccurrence(vocabulary, texts, options.context_window, options.max_tokens)
    elif options.window not in (None, given.window):
        raise ConfigError(
            f"The counts were made with a window of {given.window} tokens and {options.window} are asked for: leave "
            "'window' out, or count again."
        )
    if not (given.token_counts >= options.min_count).any():
        raise CorpusError(
            f"The text holds {given.token_counts.sum():,} tokens of '{vocabulary.name}' and none is seen "
            f"{options.min_count} times: give more text, or lower min_count."
        )
    return given


def uncovered_tokens(vocabulary: Vocabulary, counts: np.ndarray) -> str:
    """Which tokens a text does not hold, in one sentence, for people; "" where it holds all that stand for text.

    Args:
        vocabulary: V tokens.
        counts: (V,) how often each stands in the text.
    """
    written = np.array([bool(token) for token in vocabulary.token_bytes], dtype=bool)
    missing = np.flatnonzero(written & (counts == 0))
    if not len(missing):
        return ""
    named = ", ".join(f"{token_id} '{token_text(vocabulary, token_id)}'" for token_id in missing[:NAMED_TOKENS])
    more = ", ..." if len(missing) > NAMED_TOKENS else ""
    return (
        f"The text does not hold {len(missing):,} of the {written.sum():,} tokens of '{vocabulary.name}' "
        f"({named}{more}): they have no vector."
    )


def _glove(counts: Cooccurrence, options: EmbeddingOptions, seed: int) -> np.ndarray:
    settings = GloveOptions(
        dimensions=options.dimensions, epochs=options.passes, x_max=options.x_max, learning_rate=options.learning_rate
    )
    return train_glove(counts.symmetric(options.min_count), settings, seed, options.workers).vectors


def _ppmi(counts: Cooccurrence, options: EmbeddingOptions, seed: int) -> np.ndarray:
    settings = PpmiOptions(
        dimensions=options.dimensions,
        smoothing=options.context_smoothing,
        shift=options.shift,
        power=options.eigenvalue_power,
    )
    return ppmi_vectors(counts.symmetric(options.min_count), settings)


FROM_COUNTS = {"glove": _glove, "ppmi": _ppmi}
