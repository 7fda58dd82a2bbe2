"""The ``count`` stage: spans and neighbours of two vocabularies on a corpus or a part of it, and sums of parts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from vocabalign.alignment.count_sums import merge_counts
from vocabalign.alignment.counts import VocabularyCounts, count_vocabularies
from vocabalign.artifacts import write_artifact
from vocabalign.errors import ConfigError
from vocabalign.manifests import stage_inputs
from vocabalign.stages import CountConfig
from vocabalign.text.corpus import corpus_files, read_texts
from vocabalign.text.corpus_shards import Shard, corpus_digest, portions, read_shard
from vocabalign.text.tokenizers import load_vocabulary

logger = logging.getLogger("vocabalign")


def run(config: CountConfig) -> Path:
    """Count, or add counts, and write them.

    Raises:
        ConfigError: what is asked for does not go together.
        CorpusError: the corpus is missing or empty.
        ArtifactError: the folder exists, or parts do not belong together.
    """
    shard = _checked(config)
    inputs: dict[str, Any] = dict(stage_inputs("count", config))
    if shard.of > 1:  # fingerprinting what other shards read would cost as much as reading it
        inputs["corpus"] = [str(portion.path) for portion in portions(corpus_files(config.corpus), shard)]
    values = config.model_dump(mode="json")
    with write_artifact(config.out, "count", values, inputs, seed=config.seed, overwrite=config.overwrite) as writer:
        counts = _merged(config) if config.merge else _counted(config, shard)
        if counts.missing() and config.merge:
            logger.warning("These shards are missing from the sum: %s.", ", ".join(counts.missing()))
        counts = counts.without_rare(config.least)
        counts.save(writer.folder)
        writer.metrics.update(count_metrics(counts))
    return config.out


def _checked(config: CountConfig) -> Shard:
    if config.merge and (config.shard or config.source or config.target or config.corpus):
        raise ConfigError(
            "Adding counts (merge) takes nothing else to read: leave source, target, corpus and shard out."
        )
    missing = [name for name in ("source", "target", "corpus") if not getattr(config, name)]
    if not config.merge and missing:
        raise ConfigError(f"'count' needs --{missing[0]} to count, or --merge to add what was counted.")
    if config.shard and config.least:
        raise ConfigError("A shard keeps all its pairs, so that sums are exact: say 'least' when the shards are added.")
    return Shard.parse(config.shard) if config.shard else Shard()


def _merged(config: CountConfig) -> VocabularyCounts:
    return merge_counts([VocabularyCounts.load(folder) for folder in config.merge])


def _counted(config: CountConfig, shard: Shard) -> VocabularyCounts:
    source, target = load_vocabulary(str(config.source)), load_vocabulary(str(config.target))
    texts = read_shard(config.corpus, shard) if shard.of > 1 else read_texts(config.corpus)
    return count_vocabularies(source, target, texts, config.window, corpus_digest(config.corpus), shard)


def count_metrics(counts: VocabularyCounts) -> dict[str, Any]:
    """What was counted and how large the tables are."""
    sides = {"source": counts.source, "target": counts.target}
    return {
        "bytes": counts.covers.num_bytes,
        "unaligned_bytes": counts.covers.num_bytes_unaligned,
        "source_tokens": int(counts.covers.source_counts.sum()),
        "target_tokens": int(counts.covers.target_counts.sum()),
        "covering_pairs": int(counts.covers.overlap.nnz),
        **{f"{name}_neighbour_pairs": int(side.following.nnz) for name, side in sides.items() if side is not None},
        "missing_shards": counts.missing(),
    }
