"""Tokens as text: whether they are any, and written so that people can read them and every two look different."""

from __future__ import annotations

from vocabalign.text.vocabulary import Vocabulary

_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"}


def token_text(vocabulary: Vocabulary, token_id: int) -> str:
    r"""The token on one line; different bytes give different text.

    Tab, line feed, carriage return and backslash are ``\t``, ``\n``, ``\r`` and ``\\``, other characters that cannot
    be printed ``\uNNNN`` or ``\UNNNNNNNN``, bytes that are no text ``\xNN``. A special token is as its tokenizer
    writes it.
    """
    token = vocabulary.token_bytes[token_id]
    text = vocabulary.raw_tokens[token_id] if token is None else token.decode("utf-8", "surrogateescape")
    return "".join(c if c.isprintable() and c != "\\" else _escaped(c) for c in text)


def is_text(token: bytes | None) -> bool:
    """Whether bytes are whole characters."""
    if token is None:
        return False
    try:
        token.decode()
    except UnicodeDecodeError:
        return False
    return True


def _escaped(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no text, as surrogateescape keeps it
        return f"\\x{number - 0xDC00:02x}"
    return _SHORT.get(character) or (f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}")
