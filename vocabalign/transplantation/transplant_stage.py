"""The transplant: new embedding and head rows for another vocabulary, everything else as it was."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vocabalign.artifacts import ArtifactWriter, stage_artifact, write_artifact
from vocabalign.errors import ArtifactError, CorpusError, TokenizerError
from vocabalign.lexicon import Lexicon
from vocabalign.lexicon_files import load_lexicon
from vocabalign.manifests import write_json
from vocabalign.models import pick_device, pick_dtype, resolve
from vocabalign.stages import TransplantConfig
from vocabalign.text.corpus import read_texts
from vocabalign.text.overrides import Overrides
from vocabalign.text.tokenizers import load_vocabulary, save_tokenizer
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.transplantation.calibration import count_corpus
from vocabalign.transplantation.card import write_transplant_card
from vocabalign.transplantation.chat_templates import apply_policy
from vocabalign.transplantation.checkpoint import open_checkpoint
from vocabalign.transplantation.foreign_text import CountedText, WriteOwnText, text_to_count_on
from vocabalign.transplantation.layers import cut_layers
from vocabalign.transplantation.matrices import Methods, make_new_rows
from vocabalign.transplantation.metrics import transplant_metrics
from vocabalign.transplantation.own_text import find_own_text
from vocabalign.transplantation.row_counts import count_rows, exact_rows
from vocabalign.transplantation.row_plans import Spaces
from vocabalign.transplantation.source_states import find_fitter, find_source_states
from vocabalign.transplantation.sources import counterparts, find_sources
from vocabalign.transplantation.spaces import open_spaces, refuse_missing
from vocabalign.transplantation.surgery import Ids, write_model_files
from vocabalign.transplantation.verify import verify_model

logger = logging.getLogger("vocabalign")


@dataclass(frozen=True)
class Options:
    """Choices of a transplant; see ``TransplantConfig`` for what they mean."""

    methods: Methods = field(default_factory=Methods)
    pad_to_multiple_of: int | None = None
    rows: int | None = None
    origin: str | None = None
    map_tokens: Overrides = field(default_factory=dict)
    device: str = "auto"
    dtype: str = "auto"
    spaces: Spaces = field(default_factory=Spaces)
    own_text: bool | None = None
    seed: int = 0


def run(config: TransplantConfig) -> Path:
    """The stage: read, make rows, write, verify; the folder appears only when all checks hold.

    Raises:
        VocabAlignError: of the kind that says what is wrong with the input, or ``VerificationError``.
    """
    refuse_missing(config)
    with stage_artifact("transplant", config) as writer:
        target = load_vocabulary(config.target)
        lexicon = _lexicon(config, target) if config.lexicon else None
        texts = read_texts(config.corpus) if config.corpus else find_own_text(config)
        _write(writer, config, target, lexicon, texts, tokenizer_folder=resolve(config.target))
    return Path(config.out)


def _lexicon(config: TransplantConfig, target: Vocabulary) -> Lexicon:
    return load_lexicon(str(config.lexicon), lambda: load_vocabulary(config.source), target)


def transplant_to(
    config: TransplantConfig, target: Vocabulary, lexicon: Lexicon | None, texts: Iterable[str] | None
) -> Path:
    """The stage for a vocabulary, a lexicon and text in memory; a custom vocabulary gets no tokenizer files.

    Raises:
        VocabAlignError: as ``run``.
    """
    refuse_missing(config, has_text=bool(texts))
    source = resolve(config.source)
    values = {**config.model_dump(mode="json"), "target": target.fingerprint}
    with write_artifact(
        config.out, "transplant", values, {"source": source}, seed=config.seed, overwrite=config.overwrite
    ) as writer:
        _write(writer, config, target, lexicon, texts or find_own_text(config), tokenizer_folder=None)
    return Path(config.out)


def _write(
    writer: ArtifactWriter,
    config: TransplantConfig,
    target: Vocabulary,
    lexicon: Lexicon | None,
    texts: Iterable[str] | None,
    tokenizer_folder: Path | None,
) -> None:
    """Rows, files, tokenizer, card; then everything is read back."""
    seconds: dict[str, float] = {}
    methods = Methods(config.input_rows, config.head_rows, config.calibrate_head, config.untie, config.fit_rows)
    spaces = open_spaces(config, target)
    options = Options(
        methods,
        config.pad_to_multiple_of,
        exact_rows(config.rows),
        str(resolve(config.source).absolute()),
        config.map_tokens,
        config.device,
        config.dtype,
        spaces,
        config.own_text,
        config.seed,
    )
    with _layered_source(config, writer.folder, seconds) as source:
        writer.metrics |= transplant_model(
            source, target, writer.folder, lexicon=lexicon, texts=texts, options=options, seconds=seconds
        )
    with _timed(seconds, "tokenizer"):
        tokenizer = tokenizer_folder or target.tokenizer
        if tokenizer is not None:
            save_tokenizer(tokenizer, writer.folder)
            writer.metrics["chat_template"] = apply_policy(config.chat_template, resolve(config.source), writer.folder)
        write_transplant_card(writer.folder, config, target.name, writer.metrics)
    with _timed(seconds, "verification"):
        report = verify_model(writer.folder, full=config.verify_full)
    write_json(writer.folder / "verification.json", {**report, "folder": "."})
    writer.metrics |= {"checks": len(report["checks"]), "verified_full": report["full"], "seconds_by_part": seconds}


@contextmanager
def _layered_source(config: TransplantConfig, folder: Path, seconds: dict[str, float]) -> Iterator[Path]:
    """The source model, or beside ``folder``, for as long as it is needed, what ``keep_layers`` leaves of it."""
    source = resolve(config.source)
    if config.keep_layers is None:
        yield source
        return
    cut = folder.with_name(f"{folder.name}-layers")
    try:
        with _timed(seconds, "layers"):
            layered = cut_layers(source, cut, config.keep_layers)
        yield layered
    finally:
        shutil.rmtree(cut, ignore_errors=True)


def transplant_model(
    source_folder: str | Path,
    target: Vocabulary,
    out_folder: str | Path,
    *,
    lexicon: Lexicon | None = None,
    texts: Iterable[str] | None = None,
    options: Options = Options(),
    seconds: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Write a model folder with new rows, patched ids and ``provenance.json``, but without a tokenizer.

    Args:
        source_folder: the model, with its tokenizer.
        target: the new vocabulary, which may be a custom one.
        out_folder: made where it is missing; must be empty.
        lexicon: entries for tokens without an identical twin.
        texts: documents to count on, read once; without them the head is not calibrated.
        options: how rows are made.
        seconds: filled with the time of each part.

    Returns:
        Metrics: rows, tokens, counts by class, whether the model is tied, the methods used.

    Raises:
        ModelError: the source cannot be transplanted.
        ArtifactError: the folder is not empty, or the lexicon belongs to other vocabularies.
        TokenizerError: the source folder has no tokenizer, or the target has no tokens.
        CorpusError: the corpus is empty.
    """
    seconds = {} if seconds is None else seconds
    out = Path(out_folder)
    if out.exists() and any(out.iterdir()):
        raise ArtifactError(f"{out} is not empty: choose another folder.")
    if not len(target):
        raise TokenizerError(f"The target vocabulary '{target.name}' has no tokens.")
    with _timed(seconds, "sources"):
        checkpoint = open_checkpoint(source_folder)
        source = load_vocabulary(source_folder)
        sources = find_sources(source, target, checkpoint.num_rows, lexicon, options.map_tokens)
    # The same vocabulary keeps the padded rows that the source has: nothing changes at all.
    kept_rows = checkpoint.num_rows if sources.same else None
    num_rows = count_rows(len(target), kept_rows, options.rows, options.pad_to_multiple_of)
    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device)
    counts, text = None, CountedText(None, None)
    if texts is not None:
        with _timed(seconds, "counting"):
            counts = count_corpus(source, target, texts)
            if counts.num_documents == 0:
                raise CorpusError("The corpus has no text: give a file that is not empty.")
    if not sources.same:
        with _timed(seconds, "hidden_states"):
            states = find_source_states(checkpoint, source, counts, device, dtype)
        text = CountedText(counts, states)
    if counts is not None and text.states is not None and (options.methods.calibrate_head or options.methods.fit):
        with _timed(seconds, "own_text"):
            write = WriteOwnText(options.own_text is not False, options.seed, device, dtype)
            text = text_to_count_on(checkpoint, source, target, counts, text.states, write)
    fitter = None
    if text.counts is not None and text.states is not None and options.methods.fit:
        with _timed(seconds, "fitting"):
            fitter = find_fitter(checkpoint, source, target, text.counts, device, dtype)
    with _timed(seconds, "rows"):
        rows = make_new_rows(
            checkpoint, sources, target, num_rows, options.methods, text.counts, text.states, options.spaces, fitter
        )
    with _timed(seconds, "writing"):
        out.mkdir(parents=True, exist_ok=True)
        untouched = sources.same and num_rows == checkpoint.num_rows
        ids = None if untouched else Ids(num_rows, target.roles, counterparts(sources))
        write_model_files(checkpoint, out, rows.embedding, rows.head, rows.bias, ids)
        provenance = replace(rows.provenance, counts=None if counts is None else counts.target)
        provenance = provenance if options.origin is None else replace(provenance, source=options.origin)
        moved = provenance.write(out, target)["moved"]
    metrics = {"moved_rows": moved} | transplant_metrics(
        checkpoint, target, replace(rows, provenance=provenance), counts, text
    )
    return (
        metrics if sources.special is None else metrics | {"special_tokens": sources.special.describe(source, target)}
    )


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[part] = round(time.monotonic() - started, 3)
