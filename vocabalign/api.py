"""The stages as typed functions. Each takes a configuration object, or its fields by name."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from vocabalign.config import StageConfig, make_config
from vocabalign.errors import ConfigError
from vocabalign.lexicon import Lexicon
from vocabalign.stages import (
    STAGES,
    AlignConfig,
    DistillConfig,
    EvaluateConfig,
    FinetuneConfig,
    TrainingOptions,
    TransplantConfig,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vocabalign.text.vocabulary import Vocabulary

    # A tokenizer folder, a tokenizer, or (bytes of every id, text -> ids) for a vocabulary of one's own.
    VocabularyLike = str | Path | PreTrainedTokenizerBase | Vocabulary | tuple[list[bytes], Callable[[str], list[int]]]

Corpus = str | Path | Sequence[str | Path]
AnyStageConfig = TypeVar("AnyStageConfig", bound=StageConfig)


@overload
def align(config: AlignConfig, /) -> Lexicon: ...
@overload
def align(
    *,
    source: VocabularyLike,
    target: VocabularyLike,
    corpus: Corpus | None = None,
    texts: Iterable[str] | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> Lexicon: ...
def align(
    config: AlignConfig | None = None,
    /,
    *,
    source: Any = None,
    target: Any = None,
    corpus: Corpus | None = None,
    texts: Iterable[str] | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> Lexicon:
    """Align two vocabularies: for each target token its source tokens, weights and evidence.

    Args:
        config: everything in one object; or the arguments below.
        source: the vocabulary that the model has (S tokens).
        target: the vocabulary that it shall get (T tokens).
        corpus: files, folders or globs of text.
        texts: the text itself, instead of ``corpus``.
        out: also write the lexicon as an artefact (for tokenizer folders).
        options: further fields of ``AlignConfig``.

    Returns:
        Lexicon with (T, K) source ids and weights.

    Raises:
        VocabAlignError: bad input, told in one sentence.

    Example:
        >>> lexicon = align(source="demo:source", target="demo:teacher", texts=["def f(x): return x"])
    """
    on_disk = isinstance(source, (str, Path)) and isinstance(target, (str, Path)) and texts is None
    if config is None and out is not None and on_disk:
        values = {"source": str(source), "target": str(target), "corpus": as_list(corpus), "out": out, **options}
        config = make_config(AlignConfig, values, "align(...)")
    if config is not None:
        return Lexicon.load(STAGES["align"].run(config))
    if out is not None:
        raise ConfigError(
            "align(out=…) writes an artefact from tokenizer folders and corpus files; leave out= away here."
        )
    from vocabalign.alignment.align_stage import align_vocabularies
    from vocabalign.text.corpus import read_texts
    from vocabalign.text.tokenizers import load_vocabulary

    if (corpus is None) == (texts is None):
        raise ConfigError("align(...) needs either corpus= (files) or texts= (strings).")
    documents = list(texts) if texts is not None else list(read_texts(as_list(corpus)))
    values = {"source": "-", "target": "-", "corpus": [], "out": "-", **options}
    settings = make_config(AlignConfig, values, "align(...)")
    return align_vocabularies(load_vocabulary(source), load_vocabulary(target), documents, settings).lexicon


@overload
def transplant(config: TransplantConfig, /) -> Path: ...
@overload
def transplant(
    *,
    source: str | Path,
    target: VocabularyLike,
    out: str | Path,
    lexicon: Lexicon | str | Path | None = None,
    corpus: Corpus | None = None,
    texts: Iterable[str] | None = None,
    **options: Any,
) -> Path: ...
def transplant(
    config: TransplantConfig | None = None,
    /,
    *,
    source: Any = None,
    target: Any = None,
    out: str | Path | None = None,
    lexicon: Lexicon | str | Path | None = None,
    corpus: Corpus | None = None,
    texts: Iterable[str] | None = None,
    **options: Any,
) -> Path:
    """Give a model the target vocabulary; written to ``out``, read back and checked.

    Args:
        config: everything in one object; or the arguments below.
        source: model folder.
        target: tokenizer folder, tokenizer, or a vocabulary of one's own (then no tokenizer is written).
        out: folder of the new model.
        lexicon: from ``align``, in memory or as a folder.
        corpus: files, folders or globs of text to count on.
        texts: the text itself, instead of ``corpus``.
        options: further fields of ``TransplantConfig``.

    Returns:
        The folder of the new model.

    Raises:
        VocabAlignError: bad input, or a model that does not read back as meant.
    """
    if config is None:
        on_disk = isinstance(target, (str, Path)) and not isinstance(lexicon, Lexicon) and texts is None
        values = {"source": str(source), "target": str(target) if on_disk else "-", "out": out, **options}
        values |= {"corpus": as_list(corpus), "lexicon": lexicon if on_disk else None}
        config = make_config(TransplantConfig, values, "transplant(...)")
        if not on_disk:
            return _transplant_in_memory(config, target, lexicon, texts)
    return STAGES["transplant"].run(config)


def _transplant_in_memory(
    config: TransplantConfig, target: Any, lexicon: Lexicon | str | Path | None, texts: Iterable[str] | None
) -> Path:
    from vocabalign.lexicon_files import load_lexicon
    from vocabalign.text.corpus import read_texts
    from vocabalign.text.tokenizers import load_vocabulary
    from vocabalign.transplantation.transplant_stage import transplant_to

    documents = list(texts) if texts is not None else list(read_texts(config.corpus)) if config.corpus else []
    vocabulary = load_vocabulary(target)
    known: Any = lexicon
    if isinstance(lexicon, (str, Path)):
        known = load_lexicon(lexicon, lambda: load_vocabulary(config.source), vocabulary)
    return transplant_to(config, vocabulary, known, documents)


@overload
def finetune(config: FinetuneConfig, /) -> Path: ...
@overload
def finetune(
    *,
    model: str | Path,
    corpus: Corpus,
    out: str | Path,
    heldout: Corpus | None = None,
    source: str | Path | None = None,
    training: TrainingOptions | Mapping[str, Any] | None = None,
    **options: Any,
) -> Path: ...
def finetune(config: FinetuneConfig | None = None, /, **fields: Any) -> Path:
    """Progressive fine-tuning: embedding and head rows first, then everything.

    Args:
        config: everything in one object; or the fields of ``FinetuneConfig`` by name:
        fields: ``model`` (folder to train), ``corpus``, ``out``, ``heldout`` (text for scores), ``source`` (the
            model before its transplant, to learn from), ``training`` (steps, batch …) and the other options.

    Returns:
        The folder of the trained model.

    Raises:
        VocabAlignError: bad input, told in one sentence.
    """
    return STAGES["finetune"].run(config or _from_fields(FinetuneConfig, fields, "finetune(...)"))


@overload
def distill(config: DistillConfig, /) -> Path: ...
@overload
def distill(
    *,
    student: str | Path,
    teacher: str | Path,
    corpus: Corpus,
    out: str | Path,
    heldout: Corpus | None = None,
    training: TrainingOptions | Mapping[str, Any] | None = None,
    **options: Any,
) -> Path: ...
def distill(config: DistillConfig | None = None, /, **fields: Any) -> Path:
    """Token-level distillation from a teacher.

    Args:
        config: everything in one object; or the fields of ``DistillConfig`` by name:
        fields: ``student`` (folder to train), ``teacher``, ``corpus``, ``out``, ``heldout`` (text for scores),
            ``training`` (steps, batch …) and the other options.

    Returns:
        The folder of the trained model.

    Raises:
        VocabAlignError: bad input, told in one sentence.
    """
    return STAGES["distill"].run(config or _from_fields(DistillConfig, fields, "distill(...)"))


@overload
def evaluate(config: EvaluateConfig, /) -> list[dict[str, Any]]: ...
@overload
def evaluate(
    *,
    models: str | Path | Sequence[str | Path] | Mapping[str, str | Path],
    corpus: Corpus,
    out: str | Path | None = None,
    **options: Any,
) -> list[dict[str, Any]]: ...
def evaluate(config: EvaluateConfig | None = None, /, **fields: Any) -> list[dict[str, Any]]:
    """Score models on held-out text.

    Args:
        config: everything in one object; or the fields of ``EvaluateConfig`` by name:
        fields: ``models`` (one folder, several, or names with folders), ``corpus``, ``out`` (also leave the metrics
            there as an artefact) and the other options.

    Returns:
        One dictionary a model: name, path, bits_per_byte, tokens_per_kilobyte, sample …

    Raises:
        VocabAlignError: bad input, told in one sentence.
    """
    if config is not None:
        return _read_models(STAGES["evaluate"].run(config))
    from vocabalign.commands import name_models

    models = fields.pop("models", {})
    if not isinstance(models, Mapping):
        models = name_models(tuple(as_list(models)))
    fields["models"] = {name: str(path) for name, path in models.items()}
    if fields.get("out") is not None:
        return _read_models(STAGES["evaluate"].run(_from_fields(EvaluateConfig, fields, "evaluate(...)")))
    with tempfile.TemporaryDirectory() as folder:
        fields["out"] = f"{folder}/metrics"
        return _read_models(STAGES["evaluate"].run(_from_fields(EvaluateConfig, fields, "evaluate(...)")))


def _read_models(metrics: Path) -> list[dict[str, Any]]:
    return json.loads((metrics / "metrics.json").read_text(encoding="utf-8"))["models"]


def _from_fields(config_class: type[AnyStageConfig], fields: dict[str, Any], where: str) -> AnyStageConfig:
    given = {name: value for name, value in fields.items() if value is not None}
    texts = [name for name in ("corpus", "heldout") if name in given and not isinstance(given[name], Mapping)]
    listed: dict[str, Any] = {name: as_list(given[name]) for name in texts}
    return make_config(config_class, {**given, **listed}, where)


def as_list(paths: Corpus | None) -> list[str]:
    """One path or several, as a list of texts."""
    if paths is None:
        return []
    return [str(paths)] if isinstance(paths, (str, Path)) else [str(path) for path in paths]
