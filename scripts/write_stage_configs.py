"""Write configs/<stage>.yaml: every key of every stage with its explanation and default.

    python scripts/write_stage_configs.py

The text comes from the documentation of the fields in vocabalign/stages/; a test checks that the
files are up to date.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import PydanticUndefined

from vocabalign.config import Config
from vocabalign.stages import STAGES

ROOT = Path(__file__).resolve().parents[1]

# Values that make each file a complete example; everything else keeps its default.
EXAMPLES: dict[str, dict[str, Any]] = {
    "corpus": {"corpus": ["data/*.jsonl"], "out": "run/text"},
    "tokenizer-train": {"corpus": ["run/text/train.jsonl"], "size": 32000, "out": "run/tokenizer"},
    "tokenizer-extend": {
        "tokenizer": "models/pythia-1b",
        "corpus": ["run/text/train.jsonl"],
        "num_tokens": 4000,
        "out": "run/tokenizer",
    },
    "tokenizer-prune": {
        "tokenizer": "models/qwen2",
        "corpus": ["run/text/train.jsonl"],
        "scripts": ["Latin"],
        "out": "run/tokenizer",
    },
    "count": {
        "source": "models/pythia-1b",
        "target": "models/qwen2",
        "corpus": ["run/text/train.jsonl"],
        "out": "run/counts",
    },
    "embed": {"tokenizer": "models/qwen2", "corpus": ["run/text/train.jsonl"], "out": "run/embeddings"},
    "align": {
        "source": "models/pythia-1b",
        "target": "models/qwen2",
        "corpus": ["run/text/train.jsonl"],
        "out": "run/lexicon",
    },
    "transplant": {
        "source": "models/pythia-1b",
        "target": "models/qwen2",
        "lexicon": "run/lexicon",
        "corpus": ["run/text/train.jsonl"],
        "out": "run/transplanted",
    },
    "finetune": {
        "model": "run/transplanted",
        "corpus": ["run/text/train.jsonl"],
        "heldout": ["run/text/heldout.jsonl"],
        "source": "models/pythia-1b",
        "out": "run/finetuned",
    },
    "distill": {
        "student": "run/finetuned",
        "teacher": "models/qwen2",
        "corpus": ["run/text/train.jsonl"],
        "heldout": ["run/text/heldout.jsonl"],
        "out": "run/distilled",
    },
    "distill-cache": {"teacher": "models/qwen2", "corpus": ["run/text/train.jsonl"], "out": "run/cache"},
    "evaluate": {
        "models": {"source": "models/pythia-1b", "finetuned": "run/finetuned"},
        "corpus": ["run/text/heldout.jsonl"],
        "out": "run/metrics",
    },
    "report": {"run": "run", "out": "run/report"},
}


def commented(config_class: type[Config], values: dict[str, Any], indent: str = "") -> list[str]:
    """Lines of YAML: for each field its documentation as a comment, then ``key: value``."""
    lines = []
    for name, field in config_class.model_fields.items():
        text = " ".join((field.description or "").split())
        lines += [f"{indent}# {line}" for line in textwrap.wrap(text, 108 - len(indent))]
        default = field.get_default(call_default_factory=True)
        value = values.get(name, None if default is PydanticUndefined else default)
        if isinstance(value, Config):
            lines.append(f"{indent}{name}:")
            lines += commented(type(value), value.model_dump(mode="json"), indent + "  ")
            continue
        plain = list(value) if isinstance(value, tuple) else value
        rendered = yaml.safe_dump(plain, default_flow_style=True, width=10**6, allow_unicode=True)
        lines.append(f"{indent}{name}: {rendered.removesuffix(chr(10)).removesuffix('...').rstrip()}")
    return lines


def stage_file(stage: str) -> str:
    """The whole text of configs/<stage>.yaml."""
    config_class = STAGES[stage].config_class
    argument = " run" if stage == "report" else ""
    command = stage.replace("tokenizer-", "tokenizer ")
    usage = f"vocabalign {command}{argument} --config configs/{stage}.yaml [-o key=value ...]"
    head = [
        f"# {config_class.__doc__}",
        "#",
        f"#   {usage}",
        "#",
        "# All keys with their defaults; only those without one must be given.",
        "",
    ]
    return "\n".join(head + commented(config_class, EXAMPLES[stage])) + "\n"


if __name__ == "__main__":
    for stage_name in STAGES:
        (ROOT / "configs" / f"{stage_name}.yaml").write_text(stage_file(stage_name), encoding="utf-8")
