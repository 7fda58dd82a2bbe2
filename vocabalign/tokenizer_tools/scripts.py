"""Which Unicode scripts a text is written in, by the property names that Unicode gives them (Latin, Cyrillic, Han)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from vocabalign.errors import ConfigError

# Signs, digits, spaces and combining marks belong to no script of their own.
SHARED = ("Common", "Inherited")
_CONTINUATION = range(0x80, 0xC0)


class Scripts:
    """A set of scripts.

    Raises:
        ConfigError: a name is no Unicode script.
    """

    def __init__(self, names: Sequence[str]) -> None:
        from tokenizers import Regex, normalizers

        self.names = tuple(names)
        for name in names:
            try:
                normalizers.Replace(Regex(f"\\p{{{name}}}"), "")
            except Exception as error:  # the library raises bare Exception
                raise ConfigError(
                    f"'{name}' is no Unicode script: use names such as Latin, Cyrillic, Greek, Arabic, Devanagari, Han."
                ) from error
        inside = "".join(f"\\p{{{name}}}" for name in (*names, *SHARED))
        self._remove = normalizers.Replace(Regex(f"[{inside}]"), "")

    def contain(self, text: str) -> bool:
        """Whether every character is of these scripts, or of none."""
        return not self._remove.normalize_str(text)

    def may_contain(self, token: bytes) -> bool:
        """The same for bytes, of which the first and last may be parts of characters."""
        start = 0
        while start < min(3, len(token)) and token[start] in _CONTINUATION:
            start += 1
        rest = token[start:]
        try:
            return self.contain(rest.decode())
        except UnicodeDecodeError as error:
            if error.end != len(rest) or not self.contain(rest[: error.start].decode(errors="ignore")):
                return False
            return rest[error.start :] in self._beginnings

    @cached_property
    def _beginnings(self) -> frozenset[bytes]:
        """The first bytes, one to three, of all characters of the named scripts."""
        found: set[bytes] = set()
        characters = "".join(chr(code) for code in range(0x80, 0x110000) if not 0xD800 <= code < 0xE000)
        from tokenizers import Regex, normalizers

        outside = "".join(f"\\p{{{name}}}" for name in (*self.names, "Common"))
        inside = normalizers.Replace(Regex(f"[^{outside}]"), "").normalize_str(characters)
        for character in inside:
            encoded = character.encode()
            found.update(encoded[:length] for length in range(1, len(encoded)))
        return frozenset(found)
