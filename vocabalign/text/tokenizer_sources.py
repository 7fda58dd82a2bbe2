"""Where a tokenizer comes from: the folder or file that a reference names, and formats other than tokenizer.json.

SentencePiece models, tiktoken files and tokenizers written in Python are converted once, checked against the
original, and from then on are ordinary tokenizers that every stage reads and writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.errors import ModelError, TokenizerError
from vocabalign.models import resolve

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

# What transformers can build a tokenizer from without a tokenizer.json.
_OTHER_FILES = ("vocab.txt", "vocab.json")
_RAW_FILES = ("*.model", "*.tiktoken")
ROLES = ("bos", "eos", "unk", "pad", "mask")


def locate(reference: str | Path) -> tuple[Path, Path | None]:
    """The folder of a tokenizer, and the file in it that is meant where the reference names one.

    Raises:
        TokenizerError: there is none.
    """
    try:
        path = resolve(reference)
    except ModelError as error:
        raise TokenizerError(str(error)) from None
    if path.is_dir():
        return path, None
    if path.name == "tokenizer.json":
        return path.parent, None
    if path.is_file() and path.suffix in (".model", ".tiktoken"):
        return path.parent, path
    raise TokenizerError(
        f"{path} is not a folder: expected a tokenizer or model folder, a SentencePiece *.model or a *.tiktoken file."
    )


def raw_file(folder: Path) -> Path | None:
    """The SentencePiece or tiktoken file of a folder; None where there is none.

    Raises:
        TokenizerError: there are several.
    """
    found = sorted(path for pattern in _RAW_FILES for path in folder.glob(pattern))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise TokenizerError(f"{folder} holds several tokenizers ({names}): name the file that is meant.")
    return found[0] if found else None


def load_without_json(folder: Path, file: Path | None, config: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, or of one file in it, that has no tokenizer.json.

    Args:
        folder: where ``tokenizer_config.json`` lies.
        file: a SentencePiece or tiktoken file, if one was named.
        config: the content of ``tokenizer_config.json``.

    Raises:
        TokenizerError: nothing that could be loaded is there, or it cannot be converted.
    """
    file = file or raw_file(folder)
    if file is not None:
        return _from_file(file, config)
    known_class = "tokenizer_class" in config
    if not known_class and not any((folder / name).is_file() for name in _OTHER_FILES):
        raise TokenizerError(
            f"{folder} holds no tokenizer: expected a tokenizer.json, a SentencePiece *.model or a *.tiktoken file."
        )
    tokenizer = load_auto(folder)
    if isinstance(tokenizer, Exception):
        raise TokenizerError(f"The tokenizer in {folder} cannot be loaded: {one_line(tokenizer)}")
    return with_backend(tokenizer)


def _from_file(file: Path, config: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    from vocabalign.text.sentencepiece_models import convert_sentencepiece
    from vocabalign.text.tiktoken_files import convert_tiktoken, is_tiktoken

    if is_tiktoken(file):
        # The file names no BOS, and these tokenizers put none before a text unless told to.
        return _wrap(*convert_tiktoken(file, config), {"add_bos_token": False, **config})
    return _wrap(*convert_sentencepiece(file), config)


def with_backend(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer itself, or where it is written in Python the same as one of the tokenizers library.

    Raises:
        TokenizerError: it cannot be converted.
    """
    if getattr(tokenizer, "backend_tokenizer", None) is not None:
        return tokenizer
    from vocabalign.text.python_tokenizers import convert_python_tokenizer

    named = {role: getattr(tokenizer, f"{role}_token", None) for role in ROLES}
    roles = {role: str(token) for role, token in named.items() if token is not None}
    backend = convert_python_tokenizer(tokenizer)
    added = [i for i in tokenizer("", add_special_tokens=True).input_ids if i in set(tokenizer.all_special_ids)]
    ends = {"add_bos_token": tokenizer.bos_token_id in added, "add_eos_token": tokenizer.eos_token_id in added}
    return _wrap(backend, roles, ends)


def _wrap(backend: Tokenizer, roles: Mapping[str, str], config: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """A converted tokenizer with the roles that the folder's configuration, or else the model itself, names."""
    from transformers import PreTrainedTokenizerFast

    from vocabalign.text.sentencepiece_models import add_template

    chosen = {}
    for role in ROLES:
        value = config.get(f"{role}_token", roles.get(role))
        value = value.get("content") if isinstance(value, Mapping) else value
        if value is not None and backend.token_to_id(value) is not None:
            chosen[f"{role}_token"] = value
    add_template(backend, chosen.get("bos_token"), chosen.get("eos_token"), config)
    return PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **chosen)


def load_auto(folder: Path) -> PreTrainedTokenizerBase | Exception:
    """What ``AutoTokenizer`` makes of a folder, as users will call it; its error where it fails."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # it fails in many ways, with many types
        return error


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """``tokenizer_config.json`` of a folder; empty where there is none.

    Raises:
        TokenizerError: the file is not JSON.
    """
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TokenizerError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(config, dict):
        raise TokenizerError(f"{path} holds a {type(config).__name__}; expected a JSON object.")
    return config


def needs_remote_code(config: Mapping[str, Any]) -> bool:
    """Whether a tokenizer_config.json names a class that is not one of transformers."""
    classes = (config.get("auto_map") or {}).get("AutoTokenizer") or []
    classes = [classes] if isinstance(classes, str) else classes
    return any(name and not name.startswith("transformers--") for name in classes)


def one_line(error: Exception) -> str:
    """An error of another library in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
