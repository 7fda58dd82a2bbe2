"""How a draft is put to work: command lines of the servers that people use."""

from __future__ import annotations

import json
import shlex
from pathlib import Path


def serving_commands(teacher: Path, draft: Path, draft_tokens: int) -> dict[str, str]:
    """Server -> command lines that serve the teacher with this draft.

    Args:
        teacher: model folder.
        draft: model folder with the same vocabulary.
        draft_tokens: tokens of a draft.
    """
    return {name: make(teacher, draft, draft_tokens) for name, make in SERVERS.items()}


def _vllm(teacher: Path, draft: Path, draft_tokens: int) -> str:
    settings = json.dumps({"model": str(draft), "num_speculative_tokens": draft_tokens, "method": "draft_model"})
    return f"vllm serve {_quoted(teacher)} \\\n  --speculative-config {shlex.quote(settings)}"


def _llama_cpp(teacher: Path, draft: Path, draft_tokens: int) -> str:
    return (
        f"python convert_hf_to_gguf.py {_quoted(teacher)} --outfile teacher.gguf\n"
        f"python convert_hf_to_gguf.py {_quoted(draft)} --outfile draft.gguf\n"
        f"llama-server --model teacher.gguf \\\n  --model-draft draft.gguf --draft-max {draft_tokens}"
    )


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


SERVERS = {"vLLM": _vllm, "llama.cpp": _llama_cpp}
