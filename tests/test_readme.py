"""README.md: every command and the example are run, with tiny models and budgets."""

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import make_byte_level_tokenizer, make_llama, make_metaspace_tokenizer
from vocabalign.cli import run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TINY_TRAINING = ["training.batch_size=2", "training.context=32", "training.steps=2"]
TINY_EMBEDDINGS = ["embeddings.dimensions=8", "embeddings.epochs=1"]


def commands() -> list[str]:
    """Every `vocabalign ...` in code blocks and tables."""
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", README, flags=re.S)).replace("\\\n", "")
    lines = [line.split(" #")[0].strip() for line in blocks.splitlines() if line.startswith("vocabalign ")]
    return lines + re.findall(r"^\| `(vocabalign [^`]+)`", README, flags=re.M)


@pytest.fixture(scope="module")
def places(tmp_path_factory, corpus_file) -> dict[str, Path]:
    """Tiny stand-ins for what README names."""
    folder = tmp_path_factory.mktemp("readme")
    source = make_llama(make_byte_level_tokenizer(folder / "source"), 400)
    target = make_llama(make_metaspace_tokenizer(folder / "target"), 480, seed=1)
    run_folder = folder / "run"
    arguments = ["adapt", "--source", source, "--target", target, "--corpus", corpus_file, "--out", run_folder]
    assert run([str(argument) for argument in arguments] + adapt_overrides()) == 0
    return {"source": source, "target": target, "corpus": corpus_file, "run": run_folder, "folder": folder}


def adapt_overrides(teacher: bool = False) -> list[str]:
    settings = [f"lexicon.{setting}" for setting in TINY_EMBEDDINGS]
    for stage in ["finetuned", "distilled"] if teacher else ["finetuned"]:
        settings += [f"{stage}.{setting}" for setting in TINY_TRAINING]
    return [part for setting in [*settings, "metrics.max_bytes=300"] for part in ("-o", setting)]


def runnable(command: str, places: dict[str, Path], out: Path) -> list[str]:
    """The command with README's placeholders replaced by tiny folders and budgets."""
    text = re.sub(r"\[(--[\w-]+ \w+)\]", r"\1", command).replace("DIR...", "DIR")
    _, verb, *arguments = shlex.split(text)
    models = {"models/pythia-1b": places["source"], "models/qwen2-7b": places["target"], "MODEL": places["source"]}
    by_flag = {
        "--out": out, "--corpus": places["corpus"], "--heldout": places["corpus"], "--target": places["target"],
        "--teacher": places["target"], "--lexicon": places["run"] / "lexicon", "--tokenizer": places["source"],
        "--model": places["source"], "--student": places["run"] / "transplanted", "--steps": "2",
        "--loss": "token", "--finetune-steps": "2",
    }  # fmt: skip
    if verb in ("align", "count", "transplant", "compare", "import"):
        by_flag["--source"] = places["source"]
    words = {"DIR": places["source"], "A": places["source"], "[B]": places["target"], "RUN": places["run"], **models}
    if verb == "export":
        words["DIR"], by_flag["--out"] = places["run"] / "lexicon", out.with_suffix(".tsv")
    words |= {
        "FILE.tsv": places["run"] / "lexicon" / "lexicon.tsv",
        "PIPELINE.yaml": "pipelines/quickstart.yaml",
        "NAME": "quickstart",
    }
    result, previous = [verb], ""
    for word in arguments:
        value = by_flag.get(previous, words.get(word, word)) if previous else words.get(word, word)
        if word == "run/transplanted":
            value = places["run"] / "transplanted"
        weight = "=" + word.rpartition("=")[2] if previous == "--corpus" and "=" in word else ""
        result.append(f"{value}{weight}")
        previous = word if word.startswith("--") and word not in ("--json", "--dry-run") else ""
    budgets = {
        "embed": TINY_EMBEDDINGS, "align": TINY_EMBEDDINGS, "distill": TINY_TRAINING, "evaluate": ["max_bytes=300"],
        # README's source is the model before its transplant; here the model itself, for one vocabulary.
        "finetune": TINY_TRAINING,
    }  # fmt: skip
    trains = not (verb == "distill" and arguments[0] in ("cache", "inspect"))
    result += [part for setting in (budgets.get(verb, []) if trains else []) for part in ("-o", setting)]
    if verb == "adapt":
        result += adapt_overrides("--teacher" in result)
    if verb == "inspect":
        result[result.index("--html") + 1] = str(out.with_suffix(".html"))
    if verb == "tokenizer":
        sizes = {"--size": "400", "--num-tokens": "5"}
        for flag in sizes.keys() & set(result):
            result[result.index(flag) + 1] = sizes[flag]
    if verb in ("run", "init") and "--dry-run" not in result:
        result += ["--dry-run"] if verb == "run" else ["--out", str(out.with_suffix(".yaml"))]
    if verb == "report":
        result += ["--out", str(out)]
    if verb == "compare":
        result += ["--methods", "auto,mean"]
    return result


@pytest.mark.parametrize("command", commands())
def test_the_command_runs(command, places, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert run(runnable(command, places, tmp_path / "out")) == 0, capsys.readouterr().err


def test_every_command_of_the_program_is_in_the_readme():
    from vocabalign.cli import cli

    assert {shlex.split(command)[1] for command in commands()} == set(cli.commands)


def test_the_example_of_the_library_runs(tmp_path, monkeypatch):
    if not (ROOT / "vocabalign" / "demo" / "source" / "config.json").is_file():
        pytest.fail("the demo models are missing: run scripts/train_demo_models.py")
    example = re.search(r"```python\n(.*?)```", README, flags=re.S).group(1)
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    monkeypatch.chdir(tmp_path)
    values: dict = {}
    exec(example, values)
    assert (values["model"] / "model.safetensors").is_file() and len(values["lexicon"].source_ids) == 259


def test_the_two_commands_are_in_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, flags=re.M):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_every_file_that_the_readme_names_is_there():
    for name in re.findall(r"`((?:pipelines|configs|scripts|docs)/[\w./-]+\.\w+)`|\]\(([\w/.-]+\.svg)\)", README):
        assert (ROOT / (name[0] or name[1])).is_file(), name
