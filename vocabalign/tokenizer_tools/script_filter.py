"""Which Unicode scripts a text is written in, by the property names that Unicode gives them (Latin, Cyrillic, Han)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

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
        self._beginnings: dict[bytes, bool] = {}

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
            return self._can_begin(rest[error.start :])

    def _can_begin(self, prefix: bytes) -> bool:
        """Whether a character of the scripts, or of none, begins with these bytes, one to three."""
        if prefix not in self._beginnings:
            size = 2 if prefix[0] < 0xE0 else 3 if prefix[0] < 0xF0 else 4
            completions = itertools.product(range(0x80, 0xC0), repeat=size - len(prefix))
            text = b"".join(prefix + bytes(rest) for rest in completions).decode(errors="ignore")
            self._beginnings[prefix] = self._remove.normalize_str(text) != text
        return self._beginnings[prefix]
