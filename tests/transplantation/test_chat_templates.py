"""Chat templates: kept, taken over or from a file, never with markers that the tokenizer cuts to pieces."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tests.conftest import make_byte_level_tokenizer
from tests.transplantation.builders import build, target_tokenizer
from vocabalign.config import make_config
from vocabalign.errors import ArtifactError, ConfigError
from vocabalign.manifests import read_manifest
from vocabalign.stages import TransplantConfig
from vocabalign.transplantation.chat_templates import apply_policy, check_template, read_template
from vocabalign.transplantation.transplant_stage import run

PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|endoftext|>{% endfor %}"
MARKED = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def tokenizer(folder: Path, template: str | list | None = None) -> Path:
    make_byte_level_tokenizer(folder)
    if template is not None:
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))
    return folder


@pytest.mark.parametrize(
    "template", [PLAIN, [{"name": "tool", "template": "x"}, {"name": "default", "template": PLAIN}]]
)
def test_a_template_is_read_from_either_place(tmp_path, template):
    folder = tokenizer(tmp_path / "a", template)
    assert read_template(folder) == PLAIN
    (folder / "chat_template.jinja").write_text(MARKED)
    assert read_template(folder) == MARKED
    assert read_template(tmp_path) is None


def test_the_targets_stays_unless_told_otherwise(tmp_path):
    source, out, bare = tokenizer(tmp_path / "s", MARKED), tokenizer(tmp_path / "o", PLAIN), tokenizer(tmp_path / "b")
    assert apply_policy("target", source, out) == "the target's" and read_template(out) == PLAIN
    assert "left behind" in apply_policy("target", source, bare)
    assert apply_policy("target", bare, bare) == "none"


def test_the_sources_is_kept_where_the_tokenizer_has_its_markers(tmp_path):
    source, out = tokenizer(tmp_path / "s", PLAIN), tokenizer(tmp_path / "o", "{{ messages[0].content }}")
    assert apply_policy("keep", source, out) == "the source's"
    loaded = AutoTokenizer.from_pretrained(out)
    messages = [{"role": "user", "content": "Hi"}]
    assert loaded.apply_chat_template(messages, tokenize=False) == "user: Hi<|endoftext|>"
    assert "chat_template" not in json.loads((out / "tokenizer_config.json").read_text())


@pytest.mark.parametrize(
    ("template", "said"),
    [(MARKED, "<|im_end|>, <|im_start|>"), ("{{ nothing.at.all }}", "rendered"), ("hello", "leaves the messages out")],
)
def test_a_template_that_cannot_work_is_refused_and_nothing_changes(tmp_path, template, said):
    out = tokenizer(tmp_path / "o", PLAIN)
    (tmp_path / "mine.jinja").write_text(template)
    with pytest.raises(ArtifactError) as told:
        apply_policy(str(tmp_path / "mine.jinja"), tmp_path, out)
    assert said in str(told.value) and read_template(out) == PLAIN


def test_what_is_not_there_is_told(tmp_path):
    out = tokenizer(tmp_path / "o")
    with pytest.raises(ConfigError, match="has no chat template"):
        apply_policy("keep", out, out)
    with pytest.raises(ConfigError, match="'keep', 'target' or a template file"):
        apply_policy(str(tmp_path / "nothing.jinja"), out, out)
    check_template(PLAIN, out, "it")


def test_the_stage_follows_the_policy(tmp_path):
    source = build("llama", tmp_path / "source")
    (source / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    target = target_tokenizer("metaspace", tmp_path / "target")
    for policy, expected in (("target", False), ("keep", True)):
        values = {"source": str(source), "target": str(target), "chat_template": policy}
        out = run(make_config(TransplantConfig, {**values, "out": tmp_path / f"out-{policy}"}))
        assert (out / "chat_template.jinja").exists() == expected
        assert read_manifest(out)["metrics"]["chat_template"].startswith("the source's" if expected else "none")


@pytest.mark.parametrize(("policy", "told"), [("keep", "has no chat template"), ("none.jinja", "that exists")])
def test_a_template_that_is_not_there_is_refused_before_any_work(tmp_path, policy, told):
    source, target = build("llama", tmp_path / "source"), target_tokenizer("metaspace", tmp_path / "target")
    values = {"source": str(source), "target": str(target), "chat_template": policy, "corpus": [str(tmp_path / "no")]}
    with pytest.raises(ConfigError, match=told):
        run(make_config(TransplantConfig, {**values, "out": tmp_path / "out"}))
