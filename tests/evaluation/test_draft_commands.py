"""Command lines are read the way a shell reads them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from vocabalign.evaluation.draft_commands import serving_commands


def test_commands_survive_the_shell():
    teacher, draft = Path("/models/my teacher"), Path("/models/it's a draft")
    commands = serving_commands(teacher, draft, 7)
    vllm = shlex.split(commands["vLLM"].replace("\\\n", " "))
    assert vllm[:3] == ["vllm", "serve", str(teacher)]
    settings = json.loads(vllm[vllm.index("--speculative-config") + 1])
    assert settings == {"model": str(draft), "num_speculative_tokens": 7, "method": "draft_model"}
    convert_teacher, convert_draft, serve = commands["llama.cpp"].replace("\\\n", " ").split("\n")
    assert shlex.split(convert_teacher)[2] == str(teacher)
    assert shlex.split(convert_draft)[2] == str(draft)
    assert shlex.split(serve)[-4:] == ["--model-draft", "draft.gguf", "--draft-max", "7"]
