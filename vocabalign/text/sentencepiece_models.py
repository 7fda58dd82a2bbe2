"""A SentencePiece model as a tokenizer of the tokenizers library, checked against SentencePiece itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.errors import TokenizerError
from vocabalign.text.probes import probe_texts

if TYPE_CHECKING:
    from tokenizers import Tokenizer, models

logger = logging.getLogger("vocabalign")

_UNIGRAM, _BPE, _CHARACTER = 1, 2, 4
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_ADDED = {"add_bos_token": True, "add_eos_token": False}
_MARK = "\u2581"
_MOST_DIFFERENCES = 2


def convert_sentencepiece(path: Path) -> tuple[Tokenizer, dict[str, str]]:
    """Convert a model of BPE, unigram or characters, and compare it with SentencePiece on the probe texts.

    The tokenizers library applies a normalizer's table to whole graphemes, SentencePiece to characters: rare
    combining sequences may be cut differently, and a dummy prefix is put behind every user-defined symbol too. Both
    are logged where they show.

    Returns:
        The tokenizer, and role ("bos", "eos", "unk", "pad") -> its raw token.

    Raises:
        TokenizerError: the file is not such a model, or ordinary text is cut differently.
    """
    import sentencepiece

    model = _protocol().ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except Exception as error:  # protobuf's and SentencePiece's own errors
        raise TokenizerError(
            f"{path} cannot be read as a SentencePiece model: {' '.join(str(error).split())}"
        ) from error
    if model.trainer_spec.model_type not in _MODELS:
        raise TokenizerError(f"{path} is a SentencePiece model of words; expected BPE, unigram or characters.")
    tokenizer = _build(model, processor)

    def same(text: str) -> bool:
        return tokenizer.encode(text, add_special_tokens=False).ids == processor.encode(text)

    different = [text for text in probe_texts() if not same(text)]
    serious = [text for text in different if text.isascii() or not model.normalizer_spec.precompiled_charsmap]
    if [text for text in serious if "<0x" not in text] or len(different) > _MOST_DIFFERENCES:
        raise TokenizerError(f"{path} cannot be converted: text such as {different[0]!r} would get other tokens.")
    symbols = [piece.piece for piece in model.pieces if piece.type == _USER_DEFINED]
    different += [text for text in [f"x{symbol}y" for symbol in symbols[:3]] if not same(text)]
    for text in different:
        logger.info("%s: converted, %r is cut differently from SentencePiece", path, text)
    return tokenizer, _roles(model)


def _protocol() -> Any:
    """The protobuf module of SentencePiece models: the one that transformers imports too.

    protobuf refuses a second module with the same messages in one process.
    """
    try:
        from sentencepiece import sentencepiece_model_pb2
    except ImportError:  # older releases of SentencePiece have none
        from transformers.utils import sentencepiece_model_pb2_new as sentencepiece_model_pb2  # type: ignore[no-redef]
    return sentencepiece_model_pb2


def add_template(tokenizer: Tokenizer, bos: str | None, eos: str | None, config: Mapping[str, Any]) -> None:
    """Let a converted tokenizer put BOS before a text and EOS behind it.

    Args:
        tokenizer: changed in place.
        bos: the token, if there is one.
        eos: the token, if there is one.
        config: ``tokenizer_config.json``; without ``add_bos_token`` and ``add_eos_token`` in it, as Llama: BOS alone.
    """
    from tokenizers import processors

    wanted = {key: default if config.get(key) is None else config[key] for key, default in _ADDED.items()}
    begin = [bos] if bos is not None and wanted["add_bos_token"] else []
    end = [eos] if eos is not None and wanted["add_eos_token"] else []
    if not begin + end:
        return
    first, second = ([f"{part}:{i}" for part in (*begin, text, *end)] for i, text in enumerate(("$A", "$B")))
    special = [(token, tokenizer.token_to_id(token)) for token in dict.fromkeys(begin + end)]
    tokenizer.post_processor = processors.TemplateProcessing(single=first, pair=first + second, special_tokens=special)


def _roles(model: Any) -> dict[str, str]:
    ids = {role: getattr(model.trainer_spec, f"{role}_id") for role in ("bos", "eos", "unk", "pad")}
    return {role: model.pieces[i].piece for role, i in ids.items() if 0 <= i < len(model.pieces)}


def _build(model: Any, processor: Any) -> Tokenizer:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers

    tokenizer = Tokenizer(_MODELS[model.trainer_spec.model_type](model))
    special = [
        AddedToken(piece.piece, normalized=False, special=piece.type != _USER_DEFINED)
        for piece in model.pieces
        if piece.type in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    ]
    tokenizer.add_tokens(special)
    specification = model.normalizer_spec
    steps: list[normalizers.Normalizer] = []
    if specification.precompiled_charsmap:
        # As one grapheme a Windows line end would lose its half.
        steps.append(normalizers.Replace("\r\n", "".join(_normalized(processor, part) for part in "\r\n")))
        steps.append(normalizers.Precompiled(specification.precompiled_charsmap))
    if specification.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if specification.add_dummy_prefix:
        steps.append(normalizers.Prepend(_MARK))
    steps.append(normalizers.Replace(" ", _MARK))
    tokenizer.normalizer = normalizers.Sequence(steps)  # type: ignore[arg-type]
    parts: list[decoders.Decoder] = [decoders.Replace(_MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if specification.add_dummy_prefix:
        parts.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(parts)  # type: ignore[arg-type]
    return tokenizer


def _normalized(processor: Any, character: str) -> str:
    """What SentencePiece makes of a character between letters."""
    text = processor.normalize(f"a{character}b")
    return text[text.index("a") + 1 : text.rindex("b")].replace(_MARK, " ")


def _unknown_piece(model: Any) -> int:
    return next(i for i, piece in enumerate(model.pieces) if piece.type == _UNKNOWN)


def _pair_model(model: Any) -> models.Model:
    from transformers.convert_slow_tokenizer import generate_merges

    scores = {piece.piece: piece.score for piece in model.pieces}
    skipped = [piece.piece for piece in model.pieces if piece.type not in (_NORMAL, _USER_DEFINED)]
    return _merging(model, generate_merges({piece: i for i, piece in enumerate(scores)}, scores, skipped))


def _character_model(model: Any) -> models.Model:
    return _merging(model, [])


def _merging(model: Any, merges: list[tuple[str, str]]) -> models.Model:
    from tokenizers import models

    ids = {piece.piece: i for i, piece in enumerate(model.pieces)}
    unknown = model.pieces[_unknown_piece(model)].piece
    fallback = model.trainer_spec.byte_fallback
    return models.BPE(vocab=ids, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=fallback)


def _unigram_model(model: Any) -> models.Model:
    from tokenizers import models

    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    return models.Unigram(pieces, unk_id=_unknown_piece(model), byte_fallback=model.trainer_spec.byte_fallback)


_MODELS = {_UNIGRAM: _unigram_model, _BPE: _pair_model, _CHARACTER: _character_model}
