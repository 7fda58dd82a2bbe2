"""Texts on which two tokenizers that are not the same differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# Each line is here because some released tokenizer was once loaded wrongly and gave itself away on it.
_PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    " leading space",
    "  two leading spaces and a trailing one ",
    "trailing spaces   ",
    "tab\tseparated\t\tvalues",
    "1 12 123 1234 12345 1234567890 3.14159 1,000,000",
    "it's don't DON'T I'll we've they'RE l'\u00e9t\u00e9 y'all",
    "line\nline\n\nline\n\n\n\nline",
    "windows\r\nline\r\n\r\nends\r",
    "def f(x):\n    if x:\n        return {'a': [1, 2]}\n\n\n",
    "a  b   c    d     e                f",
    "\uff46\uff55\uff4c\uff4c\uff0d\uff57\uff49\uff44\uff54\uff48 \uff11\uff12\uff13 \u3000 ideographic space",
    "caf\u00e9 cafe\u0301 n\u0303 \u212b \u1e9b\u0323 \ufb01 \u00bd \u2460",
    "\u0301 lone combining \u200d marks \u0300\u0301\u0302",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd \u2764\ufe0f",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002 \u3053\u3093\u306b\u3061\u306f",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \uc548\ub155",
    "nbsp\u00a0thin\u2009zero\u200bwidth\ufeffbom",
    "CamelCaseWords snake_case_words kebab-case-words SHOUTING",
    "http://example.org/a?b=c&d=%20 user@example.org #tag ... --- *** !!! ?!",
    "control \x00 \x01 \x7f characters",
    "\u2581lower\u2581block \u0120 \u010a \u00c3\u00a9 <0x0A> ##ing </w>",
    "\U0001d504\U0001d505 \U00010348 \u1234 \uabcd rare characters \ufffd",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "",
)


def probe_texts(special_tokens: Sequence[str] = ()) -> list[str]:
    """The probe set; with special tokens also texts that contain them, alone and between words."""
    tokens = list(special_tokens)[:24]
    return [*_PROBES, *(f"before{token} after" for token in tokens), "".join(tokens)]


def first_difference(
    first: Callable[[str], list[int]], second: Callable[[str], list[int]], texts: Sequence[str]
) -> str | None:
    """The first text that two ways to encode do not give the same ids for; None where they agree."""
    return next((text for text in texts if first(text) != second(text)), None)
