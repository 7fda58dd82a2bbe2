"""Models as drafts, with transformers' assisted generation."""

from __future__ import annotations

import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import make_llama, make_metaspace_tokenizer
from vocabalign.evaluation.drafting import DraftTrial, _generate, _watch_passes
from vocabalign.evaluation.options import Place, Subject
from vocabalign.text.tokenizers import load_vocabulary

PLACE = Place(torch.device("cpu"), torch.float32)
PROMPTS = ["The cat sat on", "Once upon a time"]


def subject_of(folder) -> Subject:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return Subject(folder.name, folder, model, load_vocabulary(folder), [])


@pytest.fixture(scope="module")
def smaller(tmp_path_factory, tiny_llama):
    folder = tmp_path_factory.mktemp("smaller")
    make_llama(folder, 400, seed=3, hidden_size=16)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_llama / name, folder / name)
    return folder


def test_a_model_accepts_all_of_its_own_drafts(tiny_llama):
    record = DraftTrial(str(tiny_llama), PROMPTS, PLACE, 24, 4)(subject_of(tiny_llama))
    # All but what the end of a sample cuts off.
    assert record["draft_acceptance_rate"] > 0.9
    assert record["draft_tokens_per_teacher_pass"] > 4
    assert record["draft_same_text_share"] == 1
    assert record["draft_parameters_ratio"] == 1
    assert record["draft_same_vocabulary"] and set(record["draft_commands"]) == {"vLLM", "llama.cpp"}


def test_the_text_is_the_teachers_whatever_the_draft(tiny_llama, smaller):
    record = DraftTrial(str(tiny_llama), PROMPTS, PLACE, 16, 3)(subject_of(smaller))
    assert record["draft_same_text_share"] == 1
    assert 0 <= record["draft_acceptance_rate"] < 1
    assert record["draft_parameters_ratio"] < 1


def test_passes_are_counted_as_they_are(tiny_llama, smaller):
    teacher, draft = subject_of(tiny_llama).model, subject_of(smaller).model
    draft.generation_config.num_assistant_tokens = 3
    draft.generation_config.assistant_confidence_threshold = 0.0
    with _watch_passes(teacher, 3) as passes:
        written, _ = _generate(teacher, [5, 6, 7], 12, assistant_model=draft)
    assert all(0 <= proposed <= 3 and seconds > 0 for proposed, seconds in passes)
    assert len(passes) <= len(written) <= len(passes) + sum(proposed for proposed, _ in passes)


def test_generation_settings_of_the_folder_stay_as_they_were(tiny_llama, smaller):
    subject = subject_of(smaller)
    subject.model.generation_config.temperature = 0.123
    DraftTrial(str(tiny_llama), PROMPTS[:1], PLACE, 8, 2)(subject)
    assert subject.model.generation_config.temperature == 0.123


def test_another_vocabulary_of_the_same_size_is_refused(tmp_path, tiny_llama):
    make_metaspace_tokenizer(tmp_path, 400)
    record = DraftTrial(str(tiny_llama), PROMPTS, PLACE, 8, 2)(subject_of(make_llama(tmp_path, 400)))
    assert list(record) == ["draft_note"]
    assert "transplant it onto the teacher's vocabulary first" in record["draft_note"]


def test_another_vocabulary_is_carried_over_as_text_or_refused(tmp_path, tiny_llama):
    make_metaspace_tokenizer(tmp_path)
    record = DraftTrial(str(tiny_llama), PROMPTS, PLACE, 8, 2)(subject_of(make_llama(tmp_path, 512)))
    assert record.get("draft_same_vocabulary", False) is False
    assert "draft_commands" not in record
    assert record["draft_note"]


@pytest.mark.slow
def test_real_models(material):
    teacher = material / "models/stories3M-hf"
    prompt = "Once upon a time there was a little girl who"
    record = DraftTrial(str(teacher), [prompt], PLACE, 64, 3)(subject_of(material / "models/stories260K-hf"))
    assert record["draft_acceptance_rate"] > 0.1
    assert record["draft_same_text_share"] == 1
