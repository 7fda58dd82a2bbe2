"""The ``tokenizer-train`` stage: a new tokenizer from text."""

from __future__ import annotations

from pathlib import Path

from vocabalign.artifacts import stage_artifact
from vocabalign.errors import ConfigError
from vocabalign.progress import logger
from vocabalign.stages import TokenizerTrainConfig
from vocabalign.text.corpus import corpus_files
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.tokenizer_tools.components import components_like, make_components
from vocabalign.tokenizer_tools.state import read_state
from vocabalign.tokenizer_tools.train import train
from vocabalign.tokenizer_tools.writing import compression, texts_with_progress, write_tokenizer


def run(config: TokenizerTrainConfig) -> Path:
    """Write a tokenizer folder; with ``like`` the report compares with that tokenizer.

    The same text and settings give the same tokenizer.

    Raises:
        ConfigError: settings contradict each other, or the size is too small.
        CorpusError: the corpus cannot be read or is empty.
        TokenizerError: ``like`` is no tokenizer, or the result does not load as it should.
        ArtifactError: ``out`` exists.
    """
    if config.like and (config.normalizer != "none" or config.begin_with_bos):
        setting = "begin_with_bos" if config.begin_with_bos else "normalizer"
        raise ConfigError(f"'{setting}' is taken from the tokenizer given as 'like': leave one of the two out.")
    for text in (config.corpus, config.heldout):
        if text or text is config.corpus:
            corpus_files(text)  # told before anything is written
    roles, extra = {str(role): token for role, token in config.special_tokens.items()}, config.extra_special_tokens
    tokenizer = None
    if config.like:
        tokenizer, like = read_state(config.like)
        components = components_like(config.kind, tokenizer, like, roles, tuple(extra))
    else:
        components = make_components(config.kind, roles, tuple(extra), config.normalizer, config.begin_with_bos)
    with stage_artifact("tokenizer-train", config) as writer:
        state = train(
            config.kind,
            texts_with_progress(config.corpus, config.max_bytes, "reading text"),
            config.size,
            components=components,
            min_count=config.min_count,
            max_token_length=config.max_token_length,
            character_coverage=config.character_coverage,
        )
        vocabulary = write_tokenizer(writer, state, tokenizer, components.roles)
        if len(vocabulary) < config.size:
            logger.warning("the text gives only %d of the %d tokens asked for", len(vocabulary), config.size)
        compared = {"before": load_vocabulary(tokenizer)} if tokenizer is not None else {}
        writer.metrics |= {
            "kind": config.kind,
            "size_asked": config.size,
            "size_before": len(compared["before"]) if compared else None,
            "size": len(vocabulary),
            "special_tokens": [token.content for token in components.special],
            "roles": dict(components.roles),
            "compression": compression(
                {**compared, "after": vocabulary}, config.corpus, config.heldout, config.max_bytes
            ),
        }
    return Path(config.out)
