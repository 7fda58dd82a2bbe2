"""A SentencePiece model as a tokenizer of the tokenizers library, checked against SentencePiece itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.errors import TokenizerError
from vocabalign.text.probes import first_difference, probe_texts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

logger = logging.getLogger("vocabalign")

_UNIGRAM, _BPE = 1, 2
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_ADDED = {"add_bos_token": True, "add_eos_token": False}
_MARK = "\u2581"


def convert_sentencepiece(path: Path) -> tuple[Tokenizer, dict[str, str]]:
    """Convert a BPE or unigram model; where some probe text is cut differently, that is logged.

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
    if model.trainer_spec.model_type not in (_UNIGRAM, _BPE):
        raise TokenizerError(f"{path} is a SentencePiece model of words or characters; expected BPE or unigram.")
    tokenizer = _build(model)
    texts = probe_texts()
    different = [
        text for text in texts if tokenizer.encode(text, add_special_tokens=False).ids != processor.encode(text)
    ]
    if (
        first_difference(lambda text: tokenizer.encode(text, add_special_tokens=False).ids, processor.encode, texts[:1])
        or len(different) > len(texts) // 4
    ):
        raise TokenizerError(f"{path} cannot be converted: text such as {different[0]!r} would get other tokens.")
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
        from transformers.utils import sentencepiece_model_pb2_new as sentencepiece_model_pb2
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


def _build(model: Any) -> Tokenizer:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers.convert_slow_tokenizer import generate_merges

    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    fallback = model.trainer_spec.byte_fallback
    unknown = next(i for i, piece in enumerate(model.pieces) if piece.type == _UNKNOWN)
    if model.trainer_spec.model_type == _BPE:
        ids = {piece: i for i, (piece, _) in enumerate(pieces)}
        skipped = [piece.piece for piece in model.pieces if piece.type not in (_NORMAL, _USER_DEFINED)]
        merges = generate_merges(ids, dict(pieces), skipped)
        unknown_token = pieces[unknown][0]
        tokenizer = Tokenizer(
            models.BPE(ids, merges, unk_token=unknown_token, fuse_unk=True, byte_fallback=fallback, dropout=None)
        )
    else:
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unknown, byte_fallback=fallback))
    special = [
        AddedToken(piece.piece, normalized=False, special=piece.type != _USER_DEFINED)
        for piece in model.pieces
        if piece.type in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    ]
    tokenizer.add_tokens(special)
    specification = model.normalizer_spec
    steps = []
    if specification.precompiled_charsmap:
        steps.append(normalizers.Precompiled(specification.precompiled_charsmap))
    if specification.remove_extra_whitespaces:
        from tokenizers import Regex

        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if specification.add_dummy_prefix:
        steps.append(normalizers.Prepend(_MARK))
    steps.append(normalizers.Replace(" ", _MARK))
    tokenizer.normalizer = normalizers.Sequence(steps)
    parts = [decoders.Replace(_MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if specification.add_dummy_prefix:
        parts.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(parts)
    return tokenizer
