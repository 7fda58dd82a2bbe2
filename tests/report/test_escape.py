"""Text from outside, made safe to show."""

from __future__ import annotations

import json

import pytest

from vocabalign.report.escape import (
    bidi_isolated,
    escape_markdown,
    json_for_script,
    visible,
    visible_edges,
    visible_lines,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("\x00\x7f", "\\x00\\x7f"),
        ("\u202e", "\\u202e"),
        ("\ud800", "\\ud800"),
        ("\u0301e\u0301", "\N{DOTTED CIRCLE}\u0301e\u0301"),
        (" the", " the"),
    ],
)
def test_visible(text, shown):
    assert visible(text) == shown
    assert visible(visible(text)) == visible(text)


def test_visible_spaces_and_lines():
    shown = [visible_edges(text) for text in (" the", "a b ", "  ", "")]
    assert shown == ["\u2423the", "a b\u2423", "\u2423\u2423", ""]
    assert visible_lines("a\n\tb\n") == "a\n\\tb\n"


def test_markup_is_text():
    assert bidi_isolated("<b>&") == '<bdi dir="auto">&lt;b&gt;&amp;</bdi>'
    assert escape_markdown("a|b<c>\n`") == "a\\|b&lt;c&gt;\\\\n\\`"


def test_json_cannot_end_the_script():
    text = json.dumps(["</script>", "<!--", "\u2028", "&"], ensure_ascii=False)
    safe = json_for_script(text)
    assert "<" not in safe
    assert json.loads(safe) == json.loads(text)
