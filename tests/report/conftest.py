"""A made-up run folder, with names and tokens that try to break the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vocabalign.artifacts import write_artifact
from vocabalign.lexicon import Evidence, Lexicon

EVIL = "<script>alert(1)</script>"
TOKENS = [
    EVIL, '"><img src=x onerror=alert(1)>', "\N{RIGHT-TO-LEFT OVERRIDE}abc",
    "\N{HEBREW LETTER ALEF}\N{HEBREW LETTER BET}",
    "\N{COMBINING ACUTE ACCENT}", "\x00", "`|*_", "--></script><!--", "$x^2$", "&lt;", " the", "\N{SNOWMAN}", "\u2028",
]  # fmt: skip
LANGUAGES = ["de", "en", "ur"]
PROMPTS = ["def add(first, second):\n", f"Once {EVIL}"]
MODELS = {"source": 1.5432, "transplanted": 2.1098, "finetuned": 1.5321, EVIL: 1.4567, "teacher": 1.4001}


def make_run(folder: Path, num_tokens: int = 300) -> Path:
    """Artefacts of every stage, as small as they can be."""
    with write_artifact(folder / "corpus", "corpus", {"standard_library": True}, {}) as writer:
        (writer.folder / "heldout.jsonl").write_text('{"text": "x"}\n')
    with write_artifact(folder / "lexicon", "align", {"source": "a/source", "target": "a/target"}, {}) as writer:
        _write_lexicon(writer.folder, num_tokens)
        (writer.folder / "map.json").write_text(json.dumps(_map()))
    config = {"source": "demo:source", "target": "demo:teacher"}
    with write_artifact(folder / "transplanted", "transplant", config, {}) as writer:
        counts = {"identical": 250, "lexicon": 49, "mean": 1, "padding": 0}
        least = [{"id": 7, "token": EVIL, "class": "mean", "confidence": 0.0, "uses": 3}]
        (writer.folder / "provenance.json").write_text(json.dumps({"counts": counts, "least_certain": least}))
    for name, stage in (("finetuned", "finetune"), ("distilled", "distill"), ("control", "distill")):
        config = {"model": "run/transplanted", "teacher": "demo:teacher", "training": {"steps": 300}}
        config |= {"out": f"run/{name}"}
        if stage == "distill":
            config |= {"distillation_weight": 0.5 * (name == "distilled"), "student": "run/finetuned"}
            del config["model"]
        with write_artifact(folder / name, stage, config, {}) as writer:
            _write_curve(writer.folder / "metrics.jsonl", len(name))
    with write_artifact(folder / "metrics", "evaluate", {"models": {EVIL: "x"}}, {}) as writer:
        (writer.folder / "metrics.json").write_text(json.dumps(_metrics()))
    names = ["corpus", "lexicon", "transplanted", "finetuned", "distilled", "control", "metrics"]
    stages = "".join(f"- name: {name}\n  stage: corpus\n" for name in names)
    (folder / "pipeline.yaml").write_text(f"description: A small run for a test.\nout: run\nstages:\n{stages}")
    return folder


def _write_lexicon(folder: Path, num_tokens: int) -> None:
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, len(Evidence), num_tokens).astype(np.uint8)
    Lexicon(
        source_ids=np.zeros((num_tokens, 2), dtype=np.int32),
        weights=np.full((num_tokens, 2), 0.5, dtype=np.float32),
        evidence=kinds,
        confidence=np.ones(num_tokens, dtype=np.float32),
        source_fingerprint="a",
        target_fingerprint="b",
    ).save(folder)
    lines = ["target_id\ttarget_token\tevidence\tconfidence\tsource_tokens"]
    for i in range(num_tokens):
        token = TOKENS[i % len(TOKENS)] if i < 4 * len(TOKENS) else f"token{i}"
        token = token.replace("\n", "\\n")
        best = "3:x" if i % 5 == 0 else f"{i}:{token[:6].replace(' ', '_')}"  # every fifth leans on one hub
        pieces = f"{best}=0.7500 4:y=0.2500"
        lines.append(f"{i}\t{token}\t{Evidence(kinds[i]).name.lower()}\t0.{i % 10}\t{pieces}")
    (folder / "lexicon.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _map() -> dict:
    rng = np.random.default_rng(0)
    target = rng.standard_normal((400, 2))
    source = target + 0.1 * rng.standard_normal((400, 2))
    turned = source @ np.array([[0.0, -1.0], [1.0, 0.0]])
    points = []
    for side, before, after in (("source", turned, source), ("target", target, target)):
        for i, (first, second) in enumerate(zip(before.tolist(), after.tolist())):
            pair = i if i < 60 else None
            points.append({"side": side, "id": i, "text": EVIL, "pair": pair, "before": first, "after": second})
    return {"points": points, "mapped": True}


def _write_curve(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [{"step": 0, "heldout_bits_per_byte": 3.0}]
    for step in range(1, 301):
        row = {"step": step, "loss": 3 + 2 / step**0.5 + 0.05 * rng.standard_normal(), "tokens": step * 4096}
        rows.append({**row, "learning_rate": 1e-4})
        if step % 50 == 0:
            rows.append({"step": step, "heldout_bits_per_byte": 1.4 + seed / 100 + 1 / step**0.5})
    path.write_text("\n".join(map(json.dumps, rows)) + '\n{"step": 301, "lo')


def _metrics() -> dict:
    """Everything that evaluate may have measured."""
    rows = []
    for i, (name, value) in enumerate(MODELS.items()):
        tokens = {language: (400 if i in (0, 1) else 250) + 10 * j for j, language in enumerate(LANGUAGES)}
        languages = {
            language: {
                "bits_per_byte": value + j, "bits_per_byte_low": value + j - 0.05,
                "bits_per_byte_high": value + j + 0.05,
                "tokens_per_kilobyte": float(count), "bytes_per_token": 1000 / count, "tokens": count, "bytes": 1000,
            }
            for j, (language, count) in enumerate(tokens.items())
        }  # fmt: skip
        text = f"    return {i}\n\n\ndef main() -> None:\n    {EVIL}\x1b[31m"
        rows.append({
            "name": name, "path": f"run/{name}", "bits_per_byte": value, "bits_per_byte_low": value - 0.03,
            "bits_per_byte_high": value + 0.03, "tokens_per_kilobyte": 280.5 + i, "bytes_per_token": 1000 / (280.5 + i),
            "byte_fallback_share": 0.0123, "unknown_share": 0.0, "parameters": 3_150_000 + i,
            "vocabulary_size": 4096 + i // 2, "languages": languages,
            "bits_per_byte_language_median": value + 1,
            "sample": text,
            "samples": [{"text": text}, {"text": " \N{HEBREW LETTER ALEF}\N{HEBREW LETTER BET} shalom"}],
            "tokens_relative": 1 - i / 10, "cost_relative": 1 - i / 10, "cost_per_megabyte": 0.25,
            "generation_bytes_per_second": 1234.0 + i, "generation_repetition_share": 0.1,
            "generation_invalid_bytes": 0,
            "teacher_top1_agreement": 0.61, "teacher_kl_nats_per_position": 0.45, "draft_acceptance_rate": 0.57,
            "draft_speed_up": 0.87, "draft_note": "No time is saved here.", "task_score_mean": 0.4321,
            "draft_commands": {"vLLM": "vllm serve teacher"}, "task_retention": 0.98,
            "tasks": {"facts": {"metric": "acc", "score": 0.4321, "floor": 0.25}},
        })  # fmt: skip
    comparisons = [
        {
            "name": name, "against": "source", "bits_per_byte_difference": value - 1.5432,
            "bits_per_byte_difference_low": value - 1.55, "bits_per_byte_difference_high": value - 1.53,
            "documents_better": 20, "documents_worse": 11,
            "languages": {language: {"bits_per_byte_difference": value - 1.5432} for language in LANGUAGES},
        }
        for name, value in list(MODELS.items())[1:]
    ]  # fmt: skip
    return {
        "models": rows, "comparisons": comparisons, "other_comparisons": comparisons[1:],
        "corpus": {"documents": 31, "bytes": 150_000}, "prompt": PROMPTS[0], "prompts": PROMPTS,
        "alignment": {"lexicon": "run/lexicon", "bleu1_target_to_source": 0.8123, "bleu1_source_to_target": 0.8001,
                      "languages": {"ur": {"bleu1_target_to_source": 0.4567}}},
    }  # fmt: skip


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run."""
    return make_run(tmp_path_factory.mktemp("runs") / "quick")
