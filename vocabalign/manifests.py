"""``manifest.json``: what an artefact is, what it was made from, and whether it would be made the same again."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.errors import ArtifactError
from vocabalign.fingerprints import MANIFEST, digest_of, fingerprint_file, fingerprint_paths, fingerprint_run
from vocabalign.models import resolve

if TYPE_CHECKING:
    from vocabalign.config import StageConfig

_LIBRARIES = tuple("vocabalign torch transformers tokenizers sentencepiece gensim numpy faiss-cpu faiss-gpu".split())


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """The manifest of an artefact.

    Raises:
        ArtifactError: the folder is missing, has no manifest, or the manifest is not JSON.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise ArtifactError(f"{path} holds no JSON object: the artefact is broken, make it again.")
        return manifest
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"{folder} is not a vocabalign artefact: it has no {MANIFEST}.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}.") from error


def write_json(path: Path, value: object) -> None:
    """Write JSON for people: indented, UTF-8, newline at the end."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def run_identity(stage: str, config: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides a stage's result; two runs with equal identities give the same artefact."""
    # Where things are does not matter, what they are does; of named inputs the names do.
    named = [name for name, value in inputs.items() if value and isinstance(config.get(name), dict)]
    ignored = ("out", "overwrite", *(name for name, value in inputs.items() if value and name not in named))
    settings = {key: list(value) if key in named else value for key, value in config.items() if key not in ignored}
    fingerprint = fingerprint_run_of if stage == "report" else fingerprint_paths
    return {
        "stage": stage,
        "settings": settings,
        "input_fingerprints": {name: fingerprint(value) for name, value in inputs.items() if value},
        "code_version": code_version(stage),
    }


def stage_inputs(stage: str, config: StageConfig) -> dict[str, list[str]]:
    """What a configured stage reads: field -> paths."""
    from vocabalign.stages import STAGES

    inputs = {}
    for name in STAGES[stage].inputs:
        value = getattr(config, name)
        values = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else [value]
        found = [item for item in values if item and not _is_no_path(name, item)]
        inputs[name] = [str(resolve(item)) if _is_reference(item) else str(item) for item in found]
    return inputs


def _is_no_path(name: str, item: object) -> bool:
    """A teacher that is the student itself, or behind a URL: what it is, the settings say."""
    return name == "teacher" and (item == "self" or str(item).startswith(("http://", "https://")))


def _is_reference(item: object) -> bool:
    return str(item).startswith("demo:")


def fingerprint_run_of(paths: list[str]) -> str:
    """Fingerprint of the one run that a report is about."""
    return fingerprint_run(Path(paths[0]))


def code_version(stage: str) -> str:
    """Fingerprint of the code that decides a stage's result; "" for artefacts that no stage makes."""
    from vocabalign.stages import STAGES

    if stage not in STAGES:
        return ""
    root = Path(__file__).parent
    folders = [root / package for package in STAGES[stage].packages]
    files = sorted(path for folder in folders for path in folder.rglob("*.py"))
    names = ("lexicon.py", "lexicon_files.py", "lexicon_table.py", "models.py", "token_embeddings.py")
    files += [root / name for name in (*names, "measures.py", "model_card.py")]
    digests = [f"{path.relative_to(root).as_posix()}\0{fingerprint_file(path)}" for path in files]
    python = "{}.{}".format(*sys.version_info)  # the standard library is also text to learn from
    return digest_of([python, *digests])[:16]


def is_up_to_date(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Whether ``folder`` is a whole artefact that a run with this identity would only make again."""
    try:
        manifest = read_manifest(folder)
    except ArtifactError:
        return False
    same = all(manifest.get(key) == json.loads(json.dumps(value, default=str)) for key, value in identity.items())
    return same and all((folder / name).is_file() for name in manifest.get("files", {}))


def library_versions() -> dict[str, str]:
    """Versions of the libraries that a result depends on."""
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
