"""Text that every machine has: Python's own standard library, as documents for the quickstart.

Three kinds of text are read: the sources of the pure-Python modules
(code with its comments and documentation strings), cut into passages before top-level statements;
the language reference that ships as ``pydoc_data/topics.py`` (English prose); and the documentation
strings of the modules that are compiled into the interpreter. No source file is executed.

Passages are split into training and held-out text by a hash of the *module's* name, so that no
passage of a held-out module is ever in the training text, in any Python version.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Generated tables, vendored or deprecated packages and tests: large, repetitive, not in every build.
EXCLUDED_PACKAGES = frozenset(
    "antigravity distutils encodings ensurepip idlelib lib2to3 pydoc_data test tests this tkinter "
    "turtle turtledemo _pydecimal _pyrepl __phello__".split()
)
HELDOUT_PERCENT = 6
PASSAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text and the module that it belongs to."""

    module: str
    text: str


def is_heldout(module: str) -> bool:
    """Whether all text of this module is kept for scores only, by a hash of its name."""
    digest = hashlib.sha256(b"vocabalign heldout " + module.encode()).digest()
    return digest[0] * 256 + digest[1] < 65536 * HELDOUT_PERCENT / 100


def passages() -> Iterator[Passage]:
    """All passages, ordered by module name; about 8 MB in CPython 3.11 to 3.13."""
    root = _root()
    for module, path in sorted(_source_files(root)):
        try:
            with tokenize.open(path) as file:
                text = file.read()
        except (SyntaxError, UnicodeDecodeError):
            continue  # not text in the encoding that it declares
        for passage in cut_into_passages(text):
            yield Passage(module, passage)
    yield from _reference_topics(root / "pydoc_data" / "topics.py")
    yield from _documentation_of_compiled_modules()


def documentation() -> Iterator[Passage]:
    """English prose alone: the language reference and the documentation strings; about 2 MB."""
    for module, path in sorted(_source_files(_root())):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text:
                    yield Passage(module, text)
    yield from _reference_topics(_root() / "pydoc_data" / "topics.py")


def cut_into_passages(text: str, max_bytes: int = PASSAGE_BYTES) -> Iterator[str]:
    """Cut source text before top-level blocks so that each passage has about ``max_bytes`` bytes."""
    lines: list[str] = []
    size = 0
    for line in text.splitlines(keepends=True):
        starts_block = line[:1].isalpha() or line[:1] in "@#"
        if size >= max_bytes and (starts_block or size >= 2 * max_bytes):
            yield "".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line.encode())
    if "".join(lines).strip():
        yield "".join(lines)


def _root() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _source_files(root: Path) -> Iterator[tuple[str, Path]]:
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] not in sys.stdlib_module_names or not EXCLUDED_PACKAGES.isdisjoint(parts):
            continue
        if parts[-1] == "__init__":
            parts = parts[:-1]
        yield ".".join(parts), path


def _reference_topics(path: Path) -> Iterator[Passage]:
    """The language reference: a dictionary literal of topic name to text."""
    if not path.is_file():
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if key is None:
                    continue  # a dictionary unpacked into this one: never so in this file
                name, text = ast.literal_eval(key), ast.literal_eval(value)
                for passage in cut_into_passages(text):
                    yield Passage(f"pydoc_data.topics.{name}", passage)
            return


def _documentation_of_compiled_modules() -> Iterator[Passage]:
    for name in sorted(sys.builtin_module_names):
        module = importlib.import_module(name)  # compiled into the interpreter: nothing is executed
        members = [getattr(module, member) for member in sorted(vars(module)) if not member.startswith("_")]
        texts = [inspect.getdoc(value) for value in members if inspect.isbuiltin(value) or inspect.isclass(value)]
        text = "\n\n".join(text for text in texts if text)
        for passage in cut_into_passages(text):
            yield Passage(name, passage)
