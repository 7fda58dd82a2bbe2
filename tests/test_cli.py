"""The command line: exit codes, sentences, standard output, and what is left on the disk."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vocabalign.cli import cli, run

COMMANDS = sorted(cli.commands)


def failing(arguments: list[str], capsys) -> tuple[int, str]:
    """Exit code and the one sentence that a failing command says."""
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err and captured.out == ""
    return code, captured.err


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_of_every_command_tells_its_options(command, capsys):
    assert run([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage: vocabalign" in text and len(text.splitlines()) > 5


def test_help_is_quick():
    """Under 0.4 s; the best of five, since other programs may be using the processor."""
    command = [sys.executable, "-c", "from vocabalign.cli import main; main(['--help'])"]
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.4, seconds


def test_the_contract_of_flags_is_kept():
    """Flags that other programs rely on."""
    contract = {
        "adapt": "--source --target --corpus --out --teacher",
        "embed": "--tokenizer --corpus --out",
        "align": "--source --target --corpus --out",
        "transplant": "--source --target --lexicon --corpus --out",
        "finetune": "--model --corpus --source --steps --out",
        "distill": "--student --teacher --corpus --steps --out",
        "evaluate": "--corpus --json",
        "run": "--from --to --force",
        "inspect": "--corpus --html --json",
    }
    for command, flags in contract.items():
        known = {option for parameter in cli.commands[command].params for option in parameter.opts}
        assert set(flags.split()) <= known, command
    everywhere = {"--seed", "--device", "--dtype", "--overwrite", "--json", "--debug"}
    stages = ("adapt", "embed", "align", "transplant", "finetune", "distill", "evaluate", "report", "run", "corpus")
    commands = {**cli.commands, **cli.commands["tokenizer"].commands}
    stages += tuple(cli.commands["tokenizer"].commands)
    for command in commands.keys() - {"tokenizer"}:
        known = {option for parameter in commands[command].params for option in parameter.opts}
        assert everywhere <= known, command
        assert command not in stages or {"--dry-run", "-o"} <= known, command
        assert command not in stages or command == "run" or "--config" in known, command


def test_wrong_usage_exits_with_2(capsys):
    assert run(["align", "--nonsense"]) == 2
    assert run(["nonsense"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_missing_flag_is_named(capsys, tmp_path):
    code, said = failing(["align", "--source", "a", "--out", tmp_path / "o"], capsys)
    assert code == 2 and "'target' is missing: give it" in said


def test_an_unknown_config_key_is_named(capsys, tmp_path):
    (tmp_path / "c.yaml").write_text("tokenizer: a\nnonsense: 3\n")
    code, said = failing(["embed", "--config", tmp_path / "c.yaml", "--corpus", "x", "--out", tmp_path / "o"], capsys)
    assert code == 2 and "unknown key 'nonsense'" in said and "c.yaml" in said


def test_a_missing_corpus_file_is_named(capsys, tmp_path, byte_level_folder):
    out = tmp_path / "o"
    code, said = failing(
        ["embed", "--tokenizer", byte_level_folder, "--corpus", tmp_path / "no.txt", "--out", out], capsys
    )
    assert code == 1 and "no.txt" in said and "does not exist" in said and not files_below(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "no text|empty|blank"), (b" \n\n", "no text|empty|blank"), (b"caf\xe9 au lait", "UTF-8|utf-8")],
)
def test_an_empty_or_wrongly_encoded_corpus_is_told(capsys, tmp_path, byte_level_folder, content, words):
    (tmp_path / "t.txt").write_bytes(content)
    out = tmp_path / "o"
    code, said = failing(
        ["embed", "--tokenizer", byte_level_folder, "--corpus", tmp_path / "t.txt", "--out", out], capsys
    )
    assert code == 1 and re.search(words, said) and "t.txt" in said
    assert files_below(tmp_path) == {"t.txt"}


def test_a_folder_that_is_not_a_model_is_told(capsys, tmp_path, byte_level_folder, corpus_file):
    arguments = ["finetune", "--model", byte_level_folder, "--corpus", corpus_file, "--out", tmp_path / "o"]
    code, said = failing(arguments, capsys)
    assert code == 1 and "is not a model" in said and not files_below(tmp_path)


def test_a_tokenizer_that_cannot_be_loaded_is_told(capsys, tmp_path, corpus_file):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "tokenizer.json").write_text("{}")
    arguments = ["embed", "--tokenizer", tmp_path / "t", "--corpus", corpus_file, "--out", tmp_path / "o"]
    code, said = failing(arguments, capsys)
    assert code == 1 and "tokenizer" in said and not (tmp_path / "o").exists()


def test_an_output_folder_that_exists_is_refused_and_kept(capsys, tmp_path, byte_level_folder, corpus_file):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "mine").write_text("x")
    arguments = ["embed", "--tokenizer", byte_level_folder, "--corpus", corpus_file, "--out", tmp_path / "o"]
    code, said = failing(arguments, capsys)
    assert code == 1 and "exists already" in said and files_below(tmp_path) == {"o", "o/mine"}


def test_a_model_that_needs_code_of_its_own_is_refused(capsys, tmp_path, byte_level_folder, corpus_file):
    (tmp_path / "m").mkdir()
    config = {"model_type": "strange", "auto_map": {"AutoModelForCausalLM": "modeling.Strange"}}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    (tmp_path / "m" / "modeling.py").write_text("raise SystemExit('executed')")
    arguments = ["transplant", "--source", tmp_path / "m", "--target", byte_level_folder, "--out", tmp_path / "o"]
    code, said = failing(arguments, capsys)
    assert code == 1 and "needs code of its own" in said and not (tmp_path / "o").exists()


def test_no_space_on_the_disk_is_told_and_leaves_nothing(capsys, tmp_path, byte_level_folder, corpus_file):
    """On a real small disk, where one may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        arguments = ["embed", "--tokenizer", byte_level_folder, "--corpus", corpus_file, "--out", disk / "o"]
        code, said = failing(arguments, capsys)
        assert code == 1 and "No space left" in said and not files_below(disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_interrupted_by_the_keyboard_exits_with_130(tmp_path, byte_level_folder, corpus_file):
    arguments = ["embed", "--tokenizer", byte_level_folder, "--corpus", corpus_file, "--out", tmp_path / "o"]
    arguments += ["-o", "embeddings.method=skip-gram", "-o", "embeddings.epochs=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vocabalign", *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A shell starts its background jobs deaf to Ctrl-C, and so would be what the tests start in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.time() + 60
    while not list(tmp_path.glob(".o.partial*")) and time.time() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said and "Interrupted" in said and out == ""
    assert not files_below(tmp_path)


def test_debug_shows_the_traceback(capsys, tmp_path):
    assert run(["embed", "--tokenizer", "x", "--corpus", "y", "--out", str(tmp_path / "o"), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_json_is_all_that_standard_output_carries(tmp_path, byte_level_folder, corpus_file):
    arguments = ["embed", "--tokenizer", byte_level_folder, "--corpus", corpus_file, "--out", tmp_path / "o", "--json"]
    arguments += ["-o", "embeddings.dimensions=8", "-o", "embeddings.epochs=1"]
    done = subprocess.run([sys.executable, "-m", "vocabalign", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["stage"] == "embed" and Path(value["out"]) == tmp_path / "o" and value["seconds"] > 0


@pytest.mark.parametrize("stage", ["align", "transplant", "finetune", "distill"])
def test_a_dry_run_tells_and_writes_nothing(capsys, tmp_path, tiny_llama, metaspace_folder, corpus_file, stage):
    flags = {
        "align": ["--source", tiny_llama, "--target", metaspace_folder],
        "transplant": ["--source", tiny_llama, "--target", metaspace_folder],
        "finetune": ["--model", tiny_llama, "--steps", "7"],
        "distill": ["--student", tiny_llama, "--teacher", tiny_llama],
    }[stage]
    arguments = [stage, *flags, "--corpus", corpus_file, "--out", tmp_path / "o", "--dry-run", "--json"]
    assert run([str(argument) for argument in arguments]) == 0
    plan = json.loads(capsys.readouterr().out)["stages"][0]
    assert str(corpus_file) in plan["reads"] and plan["writes"] == str(tmp_path / "o")
    assert plan["memory_bytes"] > 0 and plan["seconds_here"] > 0
    if stage in ("finetune", "distill"):
        assert plan["gpu_hours_8b"] == pytest.approx(8 * plan["gpu_hours_1b"], rel=0.5, abs=0.02)
    assert not files_below(tmp_path)


def test_a_dry_run_of_a_pipeline_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from vocabalign.cli import run; "
        f"assert run(['run', 'pipelines/quickstart.yaml', '--dry-run', '--out', {str(tmp_path / 'r')!r}]) == 0; "
        "assert not {'torch', 'transformers', 'gensim'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert "finetuned" in done.stdout and not (tmp_path / "r").exists()


def test_init_lists_and_copies_what_ships(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["init"]) == 0
    assert "quickstart" in capsys.readouterr().out.split()
    assert run(["init", "quickstart"]) == 0
    assert (tmp_path / "quickstart.yaml").read_text().startswith("# The quickstart")
    capsys.readouterr()
    code, said = failing(["init", "quickstart"], capsys)
    assert code == 1 and "exists already" in said
    code, said = failing(["init", "nonsense"], capsys)
    assert code == 2 and "no shipped file" in said


def test_settings_come_from_the_environment_too(tmp_path):
    environment = {**os.environ, "VOCABALIGN_ALIGN_SOURCE": "from-the-environment"}
    command = [
        sys.executable,
        "-m",
        "vocabalign",
        "align",
        "--target",
        "x",
        "--corpus",
        "y",
        "--out",
        str(tmp_path / "o"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "from-the-environment" in done.stderr
