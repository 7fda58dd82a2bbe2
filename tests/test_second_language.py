"""The script and the pipeline for a second language, on toy text and with the least budget; what its artefacts hold."""

import importlib.util
import json
from pathlib import Path

import pytest
import yaml

from vocabalign.cli import run

ROOT = Path(__file__).parents[1]
ENGLISH = ["Once upon a time a little girl had a red ball. ", "The dog ran to the park and the girl was happy. "]
RUSSIAN = ["Жила-была девочка, и был у неё красный мяч. ", "Собака побежала в парк, и девочка была рада. "]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("second_language", ROOT / "scripts" / "second_language.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@pytest.fixture
def work(tmp_path, script, monkeypatch) -> Path:
    files = {"english": write(tmp_path / "en.jsonl", [text * 5 for text in ENGLISH] * 30)}
    files |= {"russian": write(tmp_path / "ru.jsonl", [text * 5 for text in RUSSIAN] * 30)}
    files |= {"english-heldout": write(tmp_path / "en-held.jsonl", ENGLISH)}
    files |= {"russian-heldout": write(tmp_path / "ru-held.jsonl", RUSSIAN)}
    flags = [part for name, file in files.items() for part in (f"--{name}", file)]
    sizes = ["--vocab-size", "340", "--hidden-size", "16", "--layers", "1", "--steps", "2"]
    monkeypatch.setattr("sys.argv", ["second_language.py", "--work", str(tmp_path / "work"), *sizes, *flags])
    script.main()
    return tmp_path / "work"


def test_the_script_and_the_pipeline(work, tmp_path, script):
    sizes = {name: script.num_bytes(script.read_texts([str(work / f"{name}.jsonl")])) for name in script.LANGUAGES}
    longest = max(len(text.encode()) * 5 for text in RUSSIAN + ENGLISH)
    assert abs(sizes["english"] - sizes["russian"]) <= longest  # as much text of each language
    texts = {name: [str(work / f"{name}.jsonl")] for name in script.LANGUAGES}
    both = str([*texts["english"], *texts["russian"]])
    heldout = str([str(work / f"heldout-{name}.jsonl") for name in script.LANGUAGES])
    overrides = {"tokenizer.corpus": both, "tokenizer.like": work / "model", "tokenizer.size": 400}
    overrides |= {"lexicon.source": work / "model", "lexicon.corpus": both, "lexicon.embeddings.dimensions": 8}
    overrides |= {"transplanted.source": work / "model", "transplanted.corpus": both}
    overrides |= {"finetuned.corpus": both, "source-continued.corpus": both}
    overrides |= {"source-continued.model": work / "model"}
    for stage in ("finetuned", "source-continued"):
        overrides |= {f"{stage}.training.steps": 2, f"{stage}.training.batch_size": 2, f"{stage}.training.context": 64}
    overrides |= {"metrics.corpus": heldout, "metrics.models.source": work / "model", "metrics.sample_tokens": 4}
    flags = [part for key, value in overrides.items() for part in ("-o", f"{key}={value}")]
    out = tmp_path / "run"
    assert run(["run", str(ROOT / "pipelines" / "second-language.yaml"), "--out", str(out), *flags]) == 0
    documented = (ROOT / "docs" / "artefacts.md").read_text(encoding="utf-8")
    names = {path.name for path in out.rglob("*") if path.is_file()} - {"model.safetensors"}
    assert {name for name in names if f"`{name}`" not in documented} == set()
    models = {model["name"]: model for model in yaml.safe_load((out / "metrics/metrics.json").read_text())["models"]}
    tokens = {
        name: {domain: part["tokens_per_kilobyte"] for domain, part in models[name]["domains"].items()}
        for name in ("source", "finetuned")
    }
    assert tokens["finetuned"]["heldout-russian"] < tokens["source"]["heldout-russian"]
