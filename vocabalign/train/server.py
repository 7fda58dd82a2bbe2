"""A teacher behind an OpenAI- or vLLM-style interface: what it gives to a text, told token by token.

Two ways of asking are known. ``/completions`` with ``echo`` and ``logprobs`` repeats the prompt with the
log-probability of each of its tokens (OpenAI's interface, llama.cpp, vLLM); vLLM also takes ``prompt_logprobs``. Which
one a server understands is found out with a short text. Its tokenizer is not needed: the bytes of each token are.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vocabalign.errors import ServerError
from vocabalign.stages.distill_configs import ServerOptions

logger = logging.getLogger("vocabalign")
LONGEST_PAUSE = 60.0
_AGAIN = (408, 409, 425, 429)


@dataclass(frozen=True)
class Told:
    """What a server said of a text; L tokens.

    Attributes:
        ends: (L,) int64 byte at which each token ends, never decreasing; the last one is the end of the text.
        log_probs: (L,) float64; NaN for a first token that nothing stands before.
    """

    ends: np.ndarray
    log_probs: np.ndarray


class Server:
    """One server.

    Args:
        url: of the interface, ``http://host:8000/v1``.
        options: how it is asked.

    Raises:
        ServerError: it does not answer, or no known way of asking gives log-probabilities of a prompt.
    """

    def __init__(self, url: str, options: ServerOptions) -> None:
        self.url, self.options = url.rstrip("/"), options
        self.model = options.model or self._first_model()
        self.dialect = self._find_dialect()

    def _first_model(self) -> str:
        answer = self._send("/models", None)
        try:
            return str(answer["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise self._nonsense("/models", answer, "a list of models; name one with server.model") from None

    def _find_dialect(self) -> str:
        reasons = []
        for name in DIALECTS:
            try:
                self._ask(name, "Hello world")
                return name
            except _RefusedError as error:
                reasons.append(str(error))
        raise ServerError(
            f"The server at {self.url} gives no log-probabilities of a prompt, neither with 'echo' and 'logprobs' nor "
            f"with 'prompt_logprobs' ({'; '.join(reasons)}): start it so that it does, or use a model folder."
        )

    def tell(self, text: str) -> Told:
        """What the server gives to the tokens of a text.

        Raises:
            ServerError: no answer after all retries, or one that is not about this text.
        """
        return self._ask(self.dialect, text)

    def _ask(self, dialect: str, text: str) -> Told:
        make, read = DIALECTS[dialect]
        answer = self._send("/completions", {"model": self.model, "prompt": text, "temperature": 0, **make()})
        try:
            pieces, log_probs, offsets = read(answer["choices"][0], text)
            ends = _ends(pieces, offsets, text)
            values = np.array([np.nan if value is None else float(value) for value in log_probs], dtype=np.float64)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise self._nonsense(
                "/completions", answer, f"a log-probability for each token of the prompt ({error})"
            ) from error
        known = values[~np.isnan(values)]
        if len(values) != len(ends) or (known > 1e-3).any() or np.isnan(values[1:]).any() or not len(values):
            raise self._nonsense("/completions", answer, "log-probabilities that are at most 0, one for each token")
        return Told(ends, np.minimum(values, 0.0))

    def _nonsense(self, path: str, answer: Any, expected: str) -> ServerError:
        return ServerError(
            f"The server at {self.url}{path} answered {json.dumps(answer)[:200]}; expected {expected}. What was read "
            "so far is kept."
        )

    def _send(self, path: str, payload: dict[str, Any] | None) -> Any:
        """One request, sent again with growing pauses while the server is busy or away."""
        reason = ""
        for attempt in range(self.options.retries + 1):
            if attempt:
                pause = min(LONGEST_PAUSE, self.options.pause_seconds * 2 ** (attempt - 1))
                logger.info("The server at %s: %s; again in %.1f s.", self.url, reason, pause)
                time.sleep(pause)
            try:
                return self._once(path, payload)
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code} {error.read(300).decode(errors='replace').strip()}"
                if error.code < 500 and error.code not in _AGAIN:
                    raise _RefusedError(f"The server at {self.url}{path} refused the request: {reason}") from error
            except (OSError, http.client.HTTPException) as error:
                reason = f"no answer ({' '.join(str(error).split()) or type(error).__name__})"
            except ValueError as error:
                reason = f"an answer that is no JSON ({error})"
        raise ServerError(
            f"The server at {self.url}{path} gave {reason} {self.options.retries + 1} times: start it again and run "
            "the same command; what was read so far is kept."
        )

    def _once(self, path: str, payload: dict[str, Any] | None) -> Any:
        headers = {"Content-Type": "application/json"}
        key = os.environ.get(self.options.api_key_variable)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        data = None if payload is None else json.dumps(payload).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=self.options.timeout_seconds) as response:
            return json.loads(response.read())


class _RefusedError(ServerError):
    """The server understood and said no."""


Parsed = tuple[list[str], list[float | None], list[int] | None]


def _read_echo(choice: dict[str, Any], text: str) -> Parsed:
    found = choice["logprobs"]
    tokens, values = list(found["tokens"]), list(found["token_logprobs"])
    offsets = list(found["text_offset"]) if found.get("text_offset") else None
    # Servers that cannot write nothing write a token behind the prompt.
    while offsets and offsets[-1] >= len(text) and len(tokens) > 1:
        for told in (tokens, values, offsets):
            told.pop()
    return tokens, values, offsets


def _read_prompt_logprobs(choice: dict[str, Any], text: str) -> Parsed:
    tokens: list[str] = []
    values: list[float | None] = []
    for entry in choice["prompt_logprobs"]:
        if entry is None:
            tokens.append("")
            values.append(None)
            continue
        (told,) = entry.values()
        tokens.append(str(told["decoded_token"]))
        values.append(float(told["logprob"]))
    missing = text[: len(text) - len("".join(tokens))] if text.endswith("".join(tokens)) else ""
    tokens[0] = missing  # the first token is not told unless something stands before it
    return tokens, values, None


DIALECTS: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any], str], Parsed]]] = {
    "echo": (lambda: {"echo": True, "logprobs": 1, "max_tokens": 0}, _read_echo),
    "echo, one token more": (lambda: {"echo": True, "logprobs": 1, "max_tokens": 1}, _read_echo),
    "prompt_logprobs": (lambda: {"prompt_logprobs": 0, "max_tokens": 1}, _read_prompt_logprobs),
}


def _bytes_of(token: str) -> bytes:
    """A token as it is told: OpenAI writes parts of characters as ``bytes:\\xe2\\x80``."""
    if token.startswith("bytes:") and re.fullmatch(r"bytes:(\\x[0-9a-fA-F]{2})+", token):
        return bytes.fromhex(token.removeprefix("bytes:").replace("\\x", ""))
    return token.encode()


def _ends(tokens: list[str], offsets: list[int] | None, text: str) -> np.ndarray:
    """(L,) int64 byte ends; of tokens that are told as no characters only where the next whole one begins.

    Raises:
        ValueError: the tokens are not the text.
    """
    raw = text.encode()
    pieces = [_bytes_of(token) for token in tokens]
    for first in (0, 1):  # some servers tell a begin of the text that is not in it
        if b"".join(pieces[first:]) == raw:
            return np.cumsum([0] * first + [len(piece) for piece in pieces[first:]])
    if offsets is not None and offsets[0] == 0 and all(a <= b for a, b in zip(offsets, offsets[1:])):
        characters = np.cumsum([0, *(len(character.encode()) for character in text)])
        return characters[np.minimum([*offsets[1:], len(text)], len(text))]
    return _matched(tokens, text)


def _matched(tokens: list[str], text: str) -> np.ndarray:
    """Ends where some tokens are told with replacement characters: runs of them share one end."""
    ends, at, waiting = [], 0, 0
    for token in tokens:
        if "\ufffd" in token and "\ufffd" not in text:
            waiting += 1
            continue
        found = text.find(token, at) if waiting else (at if text.startswith(token, at) else -1)
        if found < 0:
            raise ValueError(f"the token {token!r} does not stand in the text")
        ends += [found] * waiting + [found + len(token)]
        at, waiting = found + len(token), 0
    ends += [len(text)] * waiting
    if not ends or ends[-1] != len(text):
        raise ValueError("the tokens end before the text does")
    sizes = np.cumsum([0, *(len(character.encode()) for character in text)])
    return sizes[ends]
