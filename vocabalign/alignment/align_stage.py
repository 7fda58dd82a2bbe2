"""The ``align`` stage: from two tokenizers and text to the lexicon, on disk or in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from vocabalign.alignment.align_options import anchor_limit, choices, embedding_options, match_options, view
from vocabalign.alignment.anchors import anchor_pairs, identical_source
from vocabalign.alignment.assignment import VIEWS
from vocabalign.alignment.auto_lexicon import Material, build_auto_lexicon
from vocabalign.alignment.counts import load_counts
from vocabalign.alignment.embed_stage import folder_for_tokens, tell_uncovered
from vocabalign.alignment.embeddings import learn_token_embeddings
from vocabalign.alignment.exports import embedding_map
from vocabalign.alignment.held_out_covers import split_cover_counts
from vocabalign.alignment.lexicon_building import nearest_lexicon
from vocabalign.alignment.mapping import Mapping as SpaceMapping
from vocabalign.alignment.matching import (
    FEWEST_ANCHORS,
    find_hidden_pairs,
    find_neighbors,
    make_common_space,
    shared_vectors,
)
from vocabalign.alignment.scores import bleu1_both_ways, coverage, hub_statistics, take_text
from vocabalign.alignment.vector_files import given_embeddings, with_counts
from vocabalign.alignment.weighing_report import told
from vocabalign.artifacts import stage_artifact
from vocabalign.errors import ConfigError, CorpusError, TooFewAnchorsError
from vocabalign.lexicon import Lexicon
from vocabalign.lexicon_table import write_table
from vocabalign.manifests import write_json
from vocabalign.stages import AlignConfig, EmbeddingOptions
from vocabalign.text.corpus import read_texts
from vocabalign.text.segmentation import segment_many
from vocabalign.text.special_tokens import map_special_tokens
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.token_embeddings import TokenEmbeddings

logger = logging.getLogger("vocabalign")

Texts = Sequence[str] | Callable[[], Iterable[str]]
SCORED_BYTES = 200_000
# Where the counts are given, so much of the text is cut once more to learn how to weigh them.
WEIGHED_CHARACTERS = 20_000_000


@dataclass(frozen=True, eq=False)
class AlignmentResult:
    """All that an alignment found.

    Attributes:
        lexicon: target token -> source tokens with weights, evidence and confidence.
        mapping: between the embedding spaces; None where none was needed or possible.
        source_embeddings: (S, D) token embeddings.
        target_embeddings: (T, D) token embeddings.
        anchors: (A, 2) int64 shared tokens (source id, target id) that the mapping was learned from.
        scores: numbers for the manifest.
    """

    lexicon: Lexicon
    mapping: SpaceMapping | None
    source_embeddings: TokenEmbeddings
    target_embeddings: TokenEmbeddings
    anchors: np.ndarray
    scores: dict[str, Any]


def run(config: AlignConfig) -> Path:
    """Align two tokenizers and write the lexicon.

    Raises:
        TokenizerError, CorpusError: what was named cannot be read.
        ArtifactError: the folder exists, or given embeddings belong to another tokenizer.
        TooFewAnchorsError: a paper's method was asked for and the vocabularies share too little.
    """
    with stage_artifact("align", config) as writer:
        source, target = load_vocabulary(config.source), load_vocabulary(config.target)
        with folder_for_tokens(writer) as folder:
            result = align_vocabularies(source, target, lambda: read_texts(config.corpus), config, folder=folder)
        result.lexicon.save(writer.folder)
        write_table(writer.folder / "lexicon.tsv", result.lexicon, source, target)
        spaces = (result.source_embeddings, result.target_embeddings)
        write_json(writer.folder / "map.json", embedding_map(source, target, *spaces, result.anchors, result.mapping))
        writer.metrics.update(result.scores)
    return config.out


def align_vocabularies(
    source: Vocabulary,
    target: Vocabulary,
    texts: Texts,
    config: AlignConfig,
    *,
    special_tokens: Mapping[str, str] = MappingProxyType({}),
    folder: Path | None = None,
    given: tuple[TokenEmbeddings, TokenEmbeddings] | None = None,
) -> AlignmentResult:
    """Align two vocabularies on text that both cut; nothing that lasts is written.

    Args:
        source: S tokens; the vocabulary that the model has.
        target: T tokens; the vocabulary that it shall get.
        texts: documents that can be gone through several times: a sequence, or a function that begins anew.
        config: the options; what it says of tokenizers, text and output folder is not looked at.
        special_tokens: overrides for special tokens, target -> source.
        folder: for temporary files; None for the system's own.
        given: token embeddings of source and target, where they are at hand already; else read or learned.

    Raises:
        CorpusError: there is no text.
        ConfigError: the texts can be gone through only once, or given vectors differ in dimension.
        ArtifactError: given embeddings belong to another tokenizer.
        TooFewAnchorsError: ``tokalign`` or ``tokalign++`` without enough shared tokens.
    """
    method, seed, matching = config.method, config.seed, match_options(config)
    source_embeddings = given_embeddings(config.source_embeddings, source) if config.source_embeddings else None
    target_embeddings = given_embeddings(config.target_embeddings, target) if config.target_embeddings else None

    source_embeddings, target_embeddings = given or (source_embeddings, target_embeddings)
    # ---- What is known beforehand: identical tokens, roles, and the spans of one text cut both ways ----
    identical = identical_source(source, target, config.anchors)
    roles = map_special_tokens(source, target, special_tokens)
    counts = load_counts(config.counts, source, target) if config.counts else None
    logger.info("align: counting which source tokens cover which target tokens")
    split = split_cover_counts(source, target, _read(texts), WEIGHED_CHARACTERS if counts else None)
    cover = counts.covers if counts else split.total()
    if not cover.target_counts.any():
        raise CorpusError(
            f"The text holds nothing that both tokenizers give back ({cover.num_bytes_unaligned:,} bytes refused): "
            "give text in the languages that they are for."
        )

    # ---- Token embeddings ----
    num_shared = len(anchor_pairs(identical, cover.source_counts, cover.target_counts))
    needed = num_shared if matching.needs_anchors else None
    options = _fitting(embedding_options(config), needed, source_embeddings or target_embeddings)
    logger.info("align: learning token embeddings (%s, %d dimensions)", options.method, options.dimensions)
    known = (counts.source, counts.target) if counts else (None, None)
    learn = partial(learn_token_embeddings, options=options, seed=seed, folder=folder)
    source_embeddings = source_embeddings or learn(source, _read(texts), cooccurrence=known[0])
    target_embeddings = target_embeddings or learn(target, _read(texts), cooccurrence=known[1])
    source_embeddings = with_counts(source_embeddings, cover.source_counts)
    target_embeddings = with_counts(target_embeddings, cover.target_counts)
    _check_dimensions(source_embeddings, target_embeddings)
    tell_uncovered(source, source_embeddings)
    tell_uncovered(target, target_embeddings)

    # ---- The distributional layer, and how far to trust it ----
    limit = anchor_limit(config)
    shared = shared_vectors(identical, source_embeddings, target_embeddings)
    logger.info("align: making one space of both, with %d anchors", len(shared[:limit]))
    width = config.top_k if method == "auto" else 1
    spaces = (source_embeddings, target_embeddings)
    hidden = find_hidden_pairs(*spaces, shared, matching, seed, limit, width=width)
    # fastText knows hidden pairs by their characters, which they share: finding them says nothing of other tokens.
    sees_characters = "fasttext" in (source_embeddings.method, target_embeddings.method)
    mapping, neighbors = None, None
    try:
        space = make_common_space(source_embeddings, target_embeddings, shared[:limit], matching)
    except TooFewAnchorsError as error:
        if method != "auto":
            raise
        logger.warning("%s Going on with spans and segmentation alone.", error)
    else:
        mapping = space.mapping
        seen = (source_embeddings.counts, target_embeddings.counts)
        ordinary = ~np.isin(np.arange(len(source)), list(source.special_ids))
        neighbors = find_neighbors(space, *seen, np.flatnonzero(identical < 0), width, matching, ordinary)

    # ---- The lexicon ----
    weighing: dict[str, Any] = {}
    if method == "auto":
        material = Material(
            identical=identical,
            roles=roles,
            covers=cover,
            split=split,
            segment=lambda tokens: segment_many(source, tokens),
            neighbors=neighbors,
            hidden=None if sees_characters else hidden,
            other_vectors=target_embeddings.counts > cover.target_counts,
        )
        lexicon, weighing = build_auto_lexicon(source, target, material, config.top_k)
        for sentence in told(weighing["weighing"]):
            logger.info("align: %s", sentence)
    else:
        lexicon = nearest_lexicon(source, target, identical, roles, neighbors, config.top_k)
    lexicon = VIEWS[view(config)](replace(lexicon, target_counts=cover.target_counts), len(source))

    # ---- Scores ----
    scores: dict[str, Any] = {
        **coverage(lexicon, cover.target_counts),
        **hub_statistics(lexicon),
        **bleu1_both_ways(lexicon, source, target, take_text(_read(texts), SCORED_BYTES)),
        **(hidden.precision(target_embeddings.counts) if hidden else {}),
        **weighing,
        "known_pairs_share_characters": sees_characters,
        "anchors": len(shared[:limit]),
        "dimensions": int(source_embeddings.vectors.shape[1]),
        "unaligned_bytes": cover.num_bytes_unaligned,
        "uncovered_target_tokens": int((~target_embeddings.covered).sum()),
        "choices": choices(config, matching),
        "mapping_objectives": list(mapping.objectives) if mapping else [],
        "mapping_pairs": list(mapping.pairs) if mapping else [],
    }
    return AlignmentResult(lexicon, mapping, source_embeddings, target_embeddings, shared[:limit], scores)


def _read(texts: Texts) -> Iterable[str]:
    if callable(texts):
        return texts()
    if isinstance(texts, (str, Iterator)):
        raise ConfigError("The texts must be a sequence of documents or a function that returns them anew each time.")
    return texts


def _fitting(options: EmbeddingOptions, num_anchors: int | None, given: TokenEmbeddings | None) -> EmbeddingOptions:
    """As many dimensions as the shared tokens can determine, with half of them to spare; as given ones have."""
    if given is not None:
        return options.model_copy(update={"dimensions": given.vectors.shape[1]})
    if num_anchors is None or num_anchors < FEWEST_ANCHORS or options.dimensions <= num_anchors // 2:
        return options
    most = num_anchors // 2
    logger.warning(
        "%d shared tokens determine at most %d dimensions: embeddings have %d instead of %d.",
        num_anchors,
        num_anchors,
        most,
        options.dimensions,
    )
    return options.model_copy(update={"dimensions": most})


def _check_dimensions(source: TokenEmbeddings, target: TokenEmbeddings) -> None:
    found = (source.vectors.shape[1], target.vectors.shape[1])
    if found[0] != found[1]:
        raise ConfigError(
            f"The source's embeddings have {found[0]} dimensions and the target's {found[1]}: learn both with the same."
        )
