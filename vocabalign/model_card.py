"""The model card (README.md) of every model folder: what it was made from, what was done, what was measured.

Metadata are those that the Hub reads (huggingface.co/docs/hub/model-cards). Licence, languages and base model are the
source's: they are read from its own card and handed on from stage to stage.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from vocabalign.errors import VocabAlignError
from vocabalign.models import resolve

CARD = "README.md"
TAG = "vocabalign"
DONE = "What was done"
LOADING_HEADING = "## How to load it"
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*\n?(.*)\Z", re.DOTALL)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "USE_POLICY.md")
LOOKED_AT_DOCUMENTS = 1000
Cells = Sequence[Sequence[object]]


def write_card(
    folder: Path,
    source: str | Path,
    *,
    title: str,
    done: Sequence[str],
    measures: Cells = (),
    notes: Sequence[str] = (),
    languages: Iterable[str] = (),
) -> None:
    """Write ``README.md`` into a model folder.

    Args:
        folder: the model folder.
        source: the model that it was made from, as the user named it; its card is read.
        title: the heading.
        done: one line for each thing that was done to the source; those of its own card come before them.
        measures: rows of a table, name and value.
        notes: lines to know before using it.
        languages: codes (ISO 639) of the text that it was made with; the source's are kept.
    """
    metadata, text = read_card(resolve(source))
    head = yaml.safe_dump(inherited_metadata(source, metadata, languages), sort_keys=False, allow_unicode=True)
    steps = [*_lines_under(text, DONE), *done] if TAG in _listed(metadata.get("tags")) else list(done)
    parts = [f"---\n{head}---", f"# {title}", f"## {DONE}", "\n".join(f"* {step}" for step in steps)]
    if measures:
        rows = "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in measures)
        parts += ["## Measured", f"| measure | value |\n|---|---:|\n{rows}"]
    parts += [LOADING_HEADING, _LOADING.format(name="PATH")]
    if notes:
        parts += ["## To know", "\n".join(f"* {note}" for note in notes)]
    (folder / CARD).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


_LOADING = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```"""


def loading_from(text: str, name: str) -> str:
    """A card that loads the model by ``name`` instead of from a folder."""
    return text.replace(_LOADING.format(name="PATH"), _LOADING.format(name=name))


def write_scores(text: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A card with the scores of its model and of those beside it, as in metrics.json; as it is without any."""
    before, heading, after = text.partition(LOADING_HEADING)
    if not rows or not heading:
        return text
    lines = [
        f"| {_cell(row.get('name', ''))} | {_digits(row.get('bits_per_byte'), 4)} | {_interval(row)} "
        f"| {_digits(row.get('tokens_per_kilobyte'), 1)} |"
        for row in rows
    ]
    table = "| model | bits per byte | 95 % interval | tokens per kB |\n|---|---:|---:|---:|\n" + "\n".join(lines)
    about = "All on the same held-out text; bits per byte compare across tokenizers, and less is better."
    return f"{before}## Scores\n\n{table}\n\n{about}\n\n{heading}{after}"


def _interval(row: Mapping[str, Any]) -> str:
    low, high = row.get("bits_per_byte_low"), row.get("bits_per_byte_high")
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _digits(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def read_card(folder: Path) -> tuple[dict[str, Any], str]:
    """Metadata and text of a folder's card; both empty where it has none or none that can be read."""
    try:
        text = (folder / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}, ""
    match = _FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    try:
        metadata = yaml.safe_load(match[1])
    except yaml.YAMLError:
        return {}, match[2]
    return metadata if isinstance(metadata, dict) else {}, match[2]


def inherited_metadata(
    source: str | Path, metadata: Mapping[str, Any], languages: Iterable[str] = ()
) -> dict[str, Any]:
    """What the Hub reads, for a model made from ``source``.

    Args:
        source: as the user named it.
        metadata: of its card.
        languages: codes to add to its own; what is no code is passed over.
    """
    ours = TAG in _listed(metadata.get("tags"))
    base = _listed(metadata.get("base_model")) if ours else [hub_name(source)]
    licence = {key: metadata[key] for key in ("license", "license_name", "license_link") if metadata.get(key)}
    if "license" not in licence:
        file = next((name for name in _LICENCE_FILES if (resolve(source) / name).is_file()), None)
        licence = {"license": "other", "license_name": "of-the-source", "license_link": file} if file else {}
    spoken = [*_listed(metadata.get("language")), *(code for code in languages if _LANGUAGE.fullmatch(code))]
    result: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    result |= licence
    if spoken:
        result["language"] = list(dict.fromkeys(spoken))
    result |= {"base_model": base, "base_model_relation": "finetune", "tags": [TAG, "vocabulary-adaptation"]}
    return result


def hub_name(source: str | Path) -> str:
    """What a model is called on the Hub: as its configuration or its place in the Hub's cache says, else its folder."""
    folder = resolve(source)
    cached = _HUB_CACHE.search(str(folder))
    if cached is not None:
        return f"{cached[1]}/{cached[2]}"
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_name_or_path", "")
    except (OSError, ValueError, AttributeError):
        named = ""
    if isinstance(named, str) and _HUB_ID.fullmatch(named):
        return named
    shipped = folder.parent == Path(__file__).parent / "demo"
    return f"vocabalign-demo-{folder.name}" if shipped else folder.absolute().name


def corpus_languages(corpus: Sequence[str | Path]) -> list[str]:
    """Languages that the first documents of each entry of a corpus name (the field ``language`` of JSON lines).

    What cannot be read any more names none: a model that is made is not lost for its card.
    """
    from vocabalign.text.corpus import read_documents

    found = set()
    for entry in corpus:
        with contextlib.suppress(VocabAlignError):
            documents = islice(read_documents([entry], weighted=True), LOOKED_AT_DOCUMENTS)
            found |= {document.language for document in documents if document.language}
    return sorted(found)


def measured_rows(metrics: Mapping[str, Any], left_out: Iterable[str] = ()) -> list[tuple[str, object]]:
    """Single numbers of a stage's metrics as rows of a table; words may be paths, which are nobody's business."""
    hidden = set(left_out)
    return [
        (name.replace("_", " "), value)
        for name, value in metrics.items()
        if name not in hidden and isinstance(value, (int, float)) and not isinstance(value, bool)
    ]


def _lines_under(text: str, heading: str) -> list[str]:
    """The list under a heading of a card."""
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line.removeprefix("* ") for line in section.splitlines() if line.startswith("* ")]


def _listed(value: Any) -> list[str]:
    """One word or several, as YAML may have them."""
    if isinstance(value, str):
        return [value]
    # A bare ``no`` is Norwegian here, and False to YAML 1.1.
    return ["no" if item is False else str(item) for item in value] if isinstance(value, list) else []


def _cell(value: object) -> str:
    shown = f"{value:,}" if isinstance(value, int) else f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(shown.split()).replace("|", "\\|")
