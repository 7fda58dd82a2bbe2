"""The ``tokenizer-prune`` stage: a tokenizer with fewer tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vocabalign.artifacts import stage_artifact
from vocabalign.errors import ConfigError
from vocabalign.progress import logger
from vocabalign.stages import TokenizerPruneConfig
from vocabalign.text.corpus import corpus_files
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.tokenizer_tools.compression_report import Compression, add_batch, encoded_batches, measure
from vocabalign.tokenizer_tools.keep import Kept, choose
from vocabalign.tokenizer_tools.prune import prune
from vocabalign.tokenizer_tools.script_filter import Scripts
from vocabalign.tokenizer_tools.state import read_state
from vocabalign.tokenizer_tools.writing import write_table, write_tokenizer


def run(config: TokenizerPruneConfig) -> Path:
    """Write the pruned tokenizer's folder, with ``removed.tsv``: old id, token and use of what was left out.

    A text all of whose tokens are kept is cut as before; other text is cut into smaller tokens and never lost, unless
    the tokenizer had no bytes to write it with and ``scripts`` leave its script out.

    Raises:
        ConfigError: nothing says what to keep, the settings contradict each other, or the size is too small.
        CorpusError: text cannot be read or is empty.
        TokenizerError: the tokenizer cannot be read, or the result does not load as it should.
        ArtifactError: ``out`` exists.
    """
    if not (config.corpus or config.scripts or config.size):
        raise ConfigError("Nothing says what to keep: give a corpus, scripts or a size.")
    if config.min_count > 1 and not config.corpus:
        raise ConfigError("'min_count' counts uses in a corpus, and none is given: give one, or leave it out.")
    for text in (config.corpus, config.heldout):
        if text:
            corpus_files(text)
    scripts = Scripts(config.scripts) if config.scripts else None
    tokenizer, state = read_state(config.tokenizer)
    before = load_vocabulary(tokenizer)
    if config.size and config.size >= len(before):
        raise ConfigError(
            f"A size of {config.size} leaves nothing out: the tokenizer has {len(before)} tokens; ask for fewer."
        )
    with stage_artifact("tokenizer-prune", config) as writer:
        counts = measure([before], config.corpus, config.max_bytes).counts[0] if config.corpus else None
        kept = choose(state, before, counts=counts, min_count=config.min_count, scripts=scripts, size=config.size)
        pruned = prune(state, kept.ids)
        after = write_tokenizer(writer, pruned, tokenizer)
        _write_removed(writer.folder, before, kept, counts)
        writer.metrics |= {
            "kind": state["model"]["type"],
            "size_before": len(before),
            "size": len(after),
            "removed": len(before) - len(after),
            "unreachable_removed": len(kept.unreachable),
            "characters_lost": kept.characters_lost,
            "merges_before": len(state["model"].get("merges", ())),
            "merges": len(pruned["model"].get("merges", ())),
            **_report(config, before, after, kept),
        }
        _warn(writer.metrics)
    return Path(config.out)


def _report(config: TokenizerPruneConfig, before: Vocabulary, after: Vocabulary, kept: Kept) -> Mapping[str, Any]:
    """Compression, and how much of the text is cut as before."""
    text, limit = (config.heldout, None) if config.heldout else (config.corpus, config.max_bytes)
    if not text:
        logger.info("no text is given, so compression is not measured")
        return {"compression": None}
    new_ids = np.full(len(before), -1, dtype=np.int64)
    new_ids[kept.ids] = np.arange(len(kept.ids))
    sides = [before, after]
    result = Compression([np.zeros(len(side), dtype=np.int64) for side in sides], {})
    tokens = kept_tokens = texts = whole = same = 0
    for batch in encoded_batches(sides, text, limit):
        add_batch(result, batch)
        for old, new in zip(*batch[2], strict=True):
            mapped = new_ids[old]
            tokens, kept_tokens, texts = tokens + len(old), kept_tokens + int((mapped >= 0).sum()), texts + 1
            if (mapped >= 0).all():
                whole += 1
                same += mapped.tolist() == new
    return {
        "kept_share_of_tokens": round(kept_tokens / max(tokens, 1), 6),
        "texts": texts,
        "texts_of_kept_tokens": whole,
        "texts_of_kept_tokens_cut_as_before": same,
        "compression": {
            "on": "heldout" if config.heldout else "corpus",
            **result.as_json(sides, ["before", "after"]),
        },
    }


def _write_removed(folder: Path, before: Vocabulary, kept: Kept, counts: np.ndarray | None) -> None:
    stays = set(kept.ids)
    rows = (
        (i, raw, (before.token_bytes[i] or b"").decode(errors="replace"), "" if counts is None else int(counts[i]))
        for i, raw in enumerate(before.raw_tokens)
        if i not in stays and raw
    )
    write_table(folder / "removed.tsv", ("old id", "token", "text", "times in the corpus"), rows)


def _warn(metrics: Mapping[str, Any]) -> None:
    lost = metrics["characters_lost"]
    if lost:
        logger.warning("%d characters of other scripts cannot be written any more: %s", len(lost), " ".join(lost[:20]))
    measured = metrics["compression"]
    if measured and measured["after"]["unknown_tokens"] > measured["before"]["unknown_tokens"]:
        logger.warning(
            "unknown tokens in the text rise from %d to %d",
            measured["before"]["unknown_tokens"],
            measured["after"]["unknown_tokens"],
        )
