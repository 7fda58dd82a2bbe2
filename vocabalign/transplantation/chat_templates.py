"""Which chat template the new model speaks: the target tokenizer's, the source's, or one from a file.

A template writes markers such as ``<|im_start|>``. They do their work only where the tokenizer has each of them as one
token; otherwise the model would read them as plain text. So a template is rendered and its markers are looked up before
it is taken.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.errors import ArtifactError, ConfigError
from vocabalign.manifests import write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATE = "chat_template.jinja"
_PROBE = [{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "General remark"}]
# What templates of published models write around messages.
_MARKER = re.compile(r"<\|[^|<>\s]+\|>|<｜[^｜<>\s]+｜>|<(?:start|end)_of_[a-z_]+>|\[/?[A-Z_]{3,}\]|</?s>")


def apply_policy(policy: str, source: Path, out: Path) -> str:
    """Give the model in ``out``, which has its tokenizer already, the chat template that the policy says.

    Args:
        policy: "target" leaves what the target tokenizer brought; "keep" takes the source's; else a template file.
        source: folder of the source model.
        out: folder with the new tokenizer.

    Returns:
        What was done, in words.

    Raises:
        ConfigError: there is no such template.
        ArtifactError: the template cannot be rendered, or writes markers that the new tokenizer does not have.
    """
    if policy == "target":
        has_own = read_template(out) is not None
        lost = not has_own and read_template(source) is not None
        return "the target's" if has_own else "none (the source's was left behind)" if lost else "none"
    template = find_template(policy, source)
    check_template(template, out, "the source's chat template" if policy == "keep" else policy)
    _write(template, out)
    return "the source's" if policy == "keep" else f"from {policy}"


def find_template(policy: str, source: Path) -> str:
    """The template that "keep" or a file stands for.

    Raises:
        ConfigError: there is none.
    """
    template = read_template(source) if policy == "keep" else _read_file(Path(policy))
    if template is None:
        raise ConfigError(
            f"--chat-template keep: the source {source} has no chat template; say 'target' or give a file."
        )
    return template


def read_template(folder: Path) -> str | None:
    """The (default) chat template of a tokenizer folder, from its file or its configuration."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    template = config.get("chat_template") if isinstance(config, dict) else None
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def check_template(template: str, folder: Path, name: str) -> None:
    """Render a probe conversation and look up every marker in the tokenizer of ``folder``.

    Raises:
        ArtifactError: it cannot be rendered, leaves the messages out, or writes markers that are no single token.
    """
    from vocabalign.text.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(folder)
    try:
        text = _render(tokenizer, template)
    except Exception as error:  # templates are programs: anything may go wrong in them
        raise ArtifactError(f"{name} cannot be rendered ({' '.join(str(error).split())[:200]}).") from error
    if any(message["content"] not in text for message in _PROBE):
        raise ArtifactError(f"{name} leaves the messages out: it renders {text[:80]!r}.")
    vocabulary = tokenizer.get_vocab()
    missing = sorted({marker for marker in _MARKER.findall(text) if marker not in vocabulary})
    if missing:
        raise ArtifactError(
            f"{name} writes {', '.join(missing)}, which the new tokenizer has not as one token: say --chat-template "
            "target, or give a template that uses its own markers."
        )


def _render(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    return str(
        tokenizer.apply_chat_template(_PROBE, chat_template=template, tokenize=False, add_generation_prompt=True)
    )


def _read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"--chat-template {path}: expected 'keep', 'target' or a template file that exists."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The chat template {path} cannot be read as UTF-8 text: {error}.") from error


def _write(template: str, out: Path) -> None:
    """Into its own file, where transformers 4.43 and later look first, and out of the configuration."""
    (out / TEMPLATE).write_text(template, encoding="utf-8")
    path = out / "tokenizer_config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if config.pop("chat_template", None) is not None:
        write_json(path, config)
