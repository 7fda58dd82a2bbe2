r"""Token text made safe to show: control characters become visible, markup becomes text."""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata

_BOX = "\N{OPEN BOX}"


def slug(text: str) -> str:
    """``text`` as an id of the page: ordinary text as it is, anything else made harmless and still its own."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text)
    return text if plain == text else f"{plain}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"


def visible(text: str) -> str:
    r"""``text`` on one line, with what cannot be seen as escapes (``\n``, ``\x1b``, ``\u202e``).

    Characters that turn the direction of a line around are shown, not obeyed. A combining mark at
    the start gets a dotted circle to stand on.

    Args:
        text: anything, lone surrogates too.
    """
    if text.isprintable() and not (text and unicodedata.category(text[0]).startswith("M")):
        return text
    shown = []
    for i, character in enumerate(text):
        category = unicodedata.category(character)
        if category in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            shown.append(character.encode("unicode_escape").decode())
        elif i == 0 and category.startswith("M"):
            shown.append("\N{DOTTED CIRCLE}" + character)
        else:
            shown.append(character)
    return "".join(shown)


def visible_lines(text: str) -> str:
    """Line ends stay line ends; everything else that cannot be seen is made visible."""
    return "\n".join(visible(line) for line in text.split("\n"))


def visible_edges(text: str) -> str:
    """Spaces at both ends of a token as open boxes; those inside are seen as they are."""
    inner = text.strip(" ")
    if not inner:
        return _BOX * len(text)
    start = len(text) - len(text.lstrip(" "))
    return _BOX * start + inner + _BOX * (len(text) - start - len(inner))


def shorten(text: str, length: int) -> str:
    """At most ``length`` characters, with an ellipsis where some are left out."""
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def escape_html(text: object) -> str:
    """Text for an HTML element or a quoted attribute."""
    return html.escape(str(text), quote=True)


def bidi_isolated(text: str) -> str:
    """Escaped text whose own direction cannot spill into its surroundings."""
    return f'<bdi dir="auto">{escape_html(visible(text))}</bdi>'


def escape_markdown(text: object) -> str:
    """Text for a Markdown table cell or paragraph: no markup, no HTML, no end of cell."""
    shown = visible(str(text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join("\\" + character if character in "\\|`*_[]#~$" else character for character in shown)


def json_for_script(text: str) -> str:
    """JSON text that cannot end the ``<script>`` element it stands in."""
    replacements = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    for character, escape in replacements.items():
        text = text.replace(character, escape)
    return text
