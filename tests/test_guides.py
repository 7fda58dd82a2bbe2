"""The guides in docs/: every command and every snippet is run, in order, on tiny models and with tiny budgets."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from vocabalign.alignment.mapping import DICTIONARIES
from vocabalign.cli import run
from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.transplantation.rows import SEGMENTATION_METHODS

from .conftest import TEXT, make_byte_level_tokenizer, make_llama, make_metaspace_tokenizer

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = sorted(path.stem for path in DOCS.glob("guide-*.md"))
TRAINING = ["training.steps=2", "training.batch_size=2", "training.context=32"]
EMBEDDINGS = ["embeddings.dimensions=8", "embeddings.epochs=1"]
BUDGETS = {
    "align": EMBEDDINGS,
    "finetune": TRAINING,
    "distill": TRAINING,
    "evaluate": ["max_bytes=600", "sample_tokens=8"],
    "adapt": ["metrics.max_bytes=600", *(f"lexicon.{o}" for o in EMBEDDINGS), *(f"finetuned.{o}" for o in TRAINING)],
}
SIZES = {"--size": "400", "--num-tokens": "5", "--steps": "2"}
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}{% endfor %}"


def commands(name: str) -> list[str]:
    """The command lines of a guide, in order; what would be sent away is left out."""
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)).replace("\\\n", "").splitlines()
    assert all(line.startswith("vocabalign ") for line in lines if line.strip())
    return [line for line in lines if line.strip() and "--push-to-hub" not in line]


def budgeted(command: str) -> list[str]:
    """The command with sizes and settings that take seconds."""
    _, verb, *words = shlex.split(command)
    words = [SIZES.get(before, word) for before, word in zip(["", *words], words)]
    settings = list(BUDGETS.get(verb, [])) if words[:1] not in (["cache"], ["inspect"]) else []
    if verb == "adapt" and "--teacher" in words:
        settings += [f"distilled.{option}" for option in TRAINING]
    return [verb, *words, *(part for setting in settings for part in ("-o", setting))]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with what the guides name, tiny."""
    base, large = (tmp_path / "models" / name for name in ("base", "large"))
    make_llama(make_byte_level_tokenizer(base), 400)
    make_llama(make_byte_level_tokenizer(tmp_path / "models" / "small"), 400)
    make_llama(make_metaspace_tokenizer(large), 480, seed=1)
    for folder in (tmp_path / "models" / "small", large):
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": TEMPLATE}))
    data = tmp_path / "data"
    data.mkdir()
    for name in ("mine", "mine-heldout", "english-heldout"):
        lines = [json.dumps({"text": f"{text} {name} {i}"}) for i in range(20) for text in TEXT]
        (data / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    turns = [[{"role": "user", "content": "Say it."}, {"role": "assistant", "content": text}] for text in TEXT * 20]
    (data / "chat.jsonl").write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [name for name in GUIDES if commands(name)])
def test_the_commands_of_the_guide_run_in_order(name, workplace, capsys):
    for command in commands(name):
        assert run(budgeted(command)) == 0, f"{command}\n{capsys.readouterr().err}"


@pytest.fixture
def tables():
    """The dicts that pages add to; what they added goes again."""
    kept = [(known, dict(known)) for known in (DICTIONARIES, DIVERGENCES, SEGMENTATION_METHODS)]
    yield
    for known, before in kept:
        known.clear()
        known.update(before)


@pytest.mark.parametrize("page", [path.stem for path in sorted(DOCS.glob("*.md")) if "```python" in path.read_text()])
def test_the_snippets_of_the_page_run_in_order(page, tmp_path, monkeypatch, tables):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    exec("\n".join(snippets), {"__name__": page})


def test_there_is_a_guide_for_each_use_and_readme_names_it():
    assert GUIDES == ["guide-draft", "guide-language", "guide-library", "guide-unify-distill"]
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    for page in (*GUIDES, "how-it-works", "scale", "artefacts", "extending"):
        assert f"docs/{page}.md" in readme, page
