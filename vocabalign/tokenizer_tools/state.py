"""The content of a ``tokenizer.json`` as data: its ids, and a loaded tokenizer made from a changed one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.errors import TokenizerError
from vocabalign.text.tokenizers import load_tokenizer, tokenizer_state

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

State = dict[str, Any]

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_KEPT = ("model_max_length", "padding_side", "truncation_side", "model_input_names")


def read_state(reference: str | Path) -> tuple[PreTrainedTokenizerBase, State]:
    """A tokenizer, verified, and the content of its ``tokenizer.json``, without truncation and padding.

    Raises:
        TokenizerError: it cannot be loaded.
    """
    tokenizer = load_tokenizer(reference)
    state = tokenizer_state(tokenizer)
    state["truncation"] = state["padding"] = None
    return tokenizer, state


def model_ids(state: Mapping[str, Any]) -> dict[str, int]:
    """Raw token -> id, of the tokens of the model alone."""
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, Mapping):
        return dict(vocabulary)
    ids: dict[str, int] = {}
    for token_id, (raw, _) in enumerate(vocabulary):
        ids.setdefault(raw, token_id)
    return ids


def added_ids(state: Mapping[str, Any]) -> dict[str, int]:
    """Raw token -> id, of the tokens that are cut out of text before the model sees it."""
    return {token["content"]: token["id"] for token in state["added_tokens"]}


def all_ids(state: Mapping[str, Any]) -> dict[str, int]:
    """Raw token -> id, of all tokens."""
    return model_ids(state) | added_ids(state)


def num_rows(state: Mapping[str, Any]) -> int:
    """Highest id + 1."""
    return 1 + max(all_ids(state).values(), default=-1)


def seat_added_tokens(state: State) -> None:
    """Put added tokens into the model's own vocabulary, with the ids that they have.

    The tokenizers library numbers those that the model lacks after the model's tokens, whatever the file says; so new
    tokens behind them would push them away.

    Raises:
        TokenizerError: ids are missing in between, which a list of pieces cannot have.
    """
    vocabulary = state["model"]["vocab"]
    known = model_ids(state)
    for raw, token_id in sorted(added_ids(state).items(), key=lambda item: item[1]):
        if raw in known:
            continue
        if isinstance(vocabulary, dict):
            vocabulary[raw] = token_id
        elif token_id == len(vocabulary):
            vocabulary.append([raw, 0.0])
        else:
            raise TokenizerError(
                f"The tokenizer has no token with id {len(vocabulary)} but a special token '{raw}' with id {token_id}: "
                "a vocabulary with gaps cannot be extended."
            )


def remap_post_processor(state: State, ids: Mapping[str, int]) -> None:
    """Give the special tokens that are put around a text the ids of ``ids``."""

    def walk(part: Any) -> None:
        if part is None:
            return
        for inner in part.get("processors", ()):
            walk(inner)
        for name, special in (part.get("special_tokens") or {}).items():
            special["ids"] = [ids[token] for token in special.get("tokens") or [name]]
        for key in ("sep", "cls"):  # Roberta and Bert: [token, id]
            if key in part:
                part[key] = [part[key][0], ids[part[key][0]]]

    walk(state["post_processor"])


def rebuild(
    state: Mapping[str, Any], like: PreTrainedTokenizerBase | None, roles: Mapping[str, str] | None = None
) -> PreTrainedTokenizerFast:
    """A loaded tokenizer with this content, and roles, chat template and lengths of another one.

    Args:
        state: content of a ``tokenizer.json``.
        like: where roles, chat template and the like come from.
        roles: role ("bos") -> raw token; overrides those of ``like``.

    Raises:
        TokenizerError: the library does not give the tokens the ids that they have in ``state``.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    try:
        backend = Tokenizer.from_str(json.dumps(state, ensure_ascii=False))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"The changed tokenizer cannot be built: {' '.join(str(error).split())[:300]}") from error
    arguments = _arguments(like) if like is not None else {}
    if roles is not None:
        arguments = {key: value for key, value in arguments.items() if not key.endswith("_token")}
        arguments |= {f"{role}_token": token for role, token in roles.items()}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **arguments)
    expected, found = all_ids(state), tokenizer.backend_tokenizer.get_vocab(with_added_tokens=True)
    if expected != found:
        raw = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))[0]
        raise TokenizerError(
            f"The token '{raw}' would get the id {found.get(raw)} instead of {expected.get(raw)}: the tokenizers "
            "library does not keep the ids of this vocabulary."
        )
    return tokenizer


def _arguments(like: PreTrainedTokenizerBase) -> dict[str, Any]:
    arguments: dict[str, Any] = {key: getattr(like, key) for key in _KEPT if getattr(like, key, None) is not None}
    for role in ROLES:
        token = getattr(like, f"{role}_token", None)
        if token is not None:
            arguments[f"{role}_token"] = str(token)
    if getattr(like, "chat_template", None):
        arguments["chat_template"] = like.chat_template
    arguments["clean_up_tokenization_spaces"] = bool(getattr(like, "clean_up_tokenization_spaces", False))
    extra = like.init_kwargs.get("extra_special_tokens")
    if isinstance(extra, Mapping) and extra:
        arguments["extra_special_tokens"] = {name: str(token) for name, token in extra.items()}
    return arguments
