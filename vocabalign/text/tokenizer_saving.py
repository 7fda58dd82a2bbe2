"""Saving tokenizers so that they load right the way users load them, checked by loading them."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.errors import TokenizerError
from vocabalign.manifests import write_json
from vocabalign.text.probes import probe_texts
from vocabalign.text.tokenizer_loading import backend_of, describe_difference, load_tokenizer, read_raw_tokenizer
from vocabalign.text.tokenizer_sources import load_auto, locate, one_line, with_backend

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger("vocabalign")

TEMPLATE = "chat_template.jinja"
MORE_TEMPLATES = "additional_chat_templates"
# Files of another tokenizer that would be read instead of, or beside, tokenizer.json.
STALE_FILES = (
    "tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.json vocab.txt merges.txt "
    "tokenizer.model tokenizer.model.v3 spiece.model sentencepiece.bpe.model tekken.json chat_template.json "
    "qwen.tiktoken"
).split() + [TEMPLATE]
_TOKEN_KEYS = tuple(f"{role}_token" for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
_KEPT_KEYS = ("model_max_length", "padding_side", "truncation_side", "model_input_names")
# Undocumented, but found to work where the class registered for a model type wins over what is on disk
# (qwen2, qwen3_5 and others in transformers 5): the reference names a class inside transformers, so no code is run.
_REMEDIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "auto_map": {"auto_map": {"AutoTokenizer": [None, "transformers--PreTrainedTokenizerFast"]}},
}


def save_tokenizer(what: PreTrainedTokenizerBase | str | Path, out: str | Path) -> str:
    """Write a tokenizer into a folder that may hold a model, and load it again to compare.

    ``tokenizer.json`` is copied byte for byte where it says everything; files of another tokenizer that lie
    in the folder are removed.

    Args:
        what: a loaded tokenizer, or the folder of one.
        out: folder to write into; with a config.json in it, that decides how AutoTokenizer will load it.

    Returns:
        What made it load right: "plain", or "auto_map" (an entry in tokenizer_config.json).

    Raises:
        TokenizerError: AutoTokenizer would give other ids, whatever is written.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer, path = _load(what)
    content = _tokenizer_json(tokenizer, path)
    config = _make_config(tokenizer)
    templates = _templates(tokenizer)
    for name in STALE_FILES:
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / MORE_TEMPLATES, ignore_errors=True)
    (out / "tokenizer.json").write_bytes(content)
    _write_templates(out, templates)
    problems = []
    for remedy, extra in _REMEDIES.items():
        write_json(out / "tokenizer_config.json", {**config, **extra})
        problem = _check(out, tokenizer, config)
        if problem is None:
            if remedy != "plain":
                logger.info("%s: the model type overrides the tokenizer's class; written with %s", out, remedy)
            return remedy
        problems.append(problem)
    raise TokenizerError(f"The tokenizer written to {out} does not load as it is: {problems[0]}{_cause(out)}.")


def _load(what: PreTrainedTokenizerBase | str | Path) -> tuple[PreTrainedTokenizerBase, Path | None]:
    """The tokenizer, and the tokenizer.json that it came from, if it did."""
    if not isinstance(what, (str, Path)):
        return with_backend(what), None
    folder, file = locate(what)
    return load_tokenizer(what), None if file is not None else folder / "tokenizer.json"


def _tokenizer_json(tokenizer: PreTrainedTokenizerBase, path: Path | None) -> bytes:
    backend = backend_of(tokenizer)
    # Loading may have added special tokens that only tokenizer_config.json names, or a BOS before every text.
    if path is not None and path.is_file():
        raw = read_raw_tokenizer(path)
        if raw.get_vocab_size() == backend.get_vocab_size() and _with_special(raw) == _with_special(backend):
            return path.read_bytes()
    state = json.loads(backend.to_str())
    state["truncation"] = state["padding"] = None
    return (json.dumps(state, ensure_ascii=False, indent=2) + "\n").encode()


def _with_special(backend: Tokenizer) -> list[list[int]]:
    """Ids of a few probe texts and of a pair, with the special tokens that the tokenizer adds."""
    backend.no_truncation()
    backend.no_padding()
    texts = probe_texts()[:3]
    return [backend.encode(text).ids for text in texts] + [backend.encode(texts[0], texts[-1]).ids]


def _make_config(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """A tokenizer_config.json that both transformers 4 and 5 read the same way."""
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for key in _TOKEN_KEYS:
        token = getattr(tokenizer, key, None)
        if token is not None:
            config[key] = str(token)
    for key in _KEPT_KEYS:
        value = getattr(tokenizer, key, None)
        if value is not None:
            config[key] = value
    # As it is on disk: the clean-up of spaces would change text that is decoded.
    config["clean_up_tokenization_spaces"] = bool(getattr(tokenizer, "clean_up_tokenization_spaces", False))
    # A list of extra special tokens is not readable by transformers 4; tokenizer.json marks them as special anyway.
    extra = tokenizer.init_kwargs.get("extra_special_tokens")
    if isinstance(extra, Mapping) and extra:
        config["extra_special_tokens"] = {name: str(token) for name, token in extra.items()}
    return config


def _templates(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return {}
    return dict(template) if isinstance(template, Mapping) else {"default": template}


def _write_templates(out: Path, templates: Mapping[str, str]) -> None:
    for name, template in templates.items():
        path = out / TEMPLATE if name == "default" else out / MORE_TEMPLATES / f"{name}.jinja"
        path.parent.mkdir(exist_ok=True)
        path.write_text(template, encoding="utf-8", newline="")


def _check(out: Path, tokenizer: PreTrainedTokenizerBase, config: Mapping[str, Any]) -> str | None:
    """What is wrong with the folder as users will load it; None where nothing is."""
    reloaded = load_auto(out)
    if isinstance(reloaded, Exception):
        return f"AutoTokenizer fails ({one_line(reloaded)})"
    raw = read_raw_tokenizer(out / "tokenizer.json")
    texts = probe_texts([token.content for token in raw.get_added_tokens_decoder().values()])
    for loaded, name in ((tokenizer, "the file"), (reloaded, "AutoTokenizer")):
        difference = describe_difference(loaded, raw, texts)
        if difference is not None:
            return f"with {name} {difference}"
    if _with_special(backend_of(reloaded)) != _with_special(backend_of(tokenizer)):
        return "with AutoTokenizer other special tokens are added to a text"
    for key in _TOKEN_KEYS:
        found = getattr(reloaded, key, None)
        if (None if found is None else str(found)) != config.get(key):
            return f"its {key} becomes {found!r} instead of {config.get(key)!r}"
    if _templates(reloaded) != _templates(tokenizer):
        return "its chat template becomes another one"
    return None


def _cause(out: Path) -> str:
    path = out / "config.json"
    if not path.is_file():
        return ""
    model_type = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    return f"; transformers has a tokenizer of its own for the model type '{model_type}'"
