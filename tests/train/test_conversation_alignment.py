"""Conversations in two templates: the answers line up, and that they end; nothing else does."""

import json

import numpy as np
import pytest

from tests.conftest import make_byte_level_tokenizer, make_llama, make_metaspace_tokenizer
from tests.train.runs import distilled, losses
from vocabalign.config import make_config
from vocabalign.losses.aligned import Document, aligned_chunks, aligned_starts, observed_at
from vocabalign.stages import DistillCacheConfig
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train import caches
from vocabalign.train.documents import tokenize
from vocabalign.train.pieces import cut_pieces
from vocabalign.train.teacher_side import OwnTokens, TeacherSide
from vocabalign.train.texts import TrainingText, make_renderer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}</s>"
    "{% endif %}{% endfor %}"
)
TALK = [
    ("user", "What did the cat do?"),
    ("assistant", "The cat sat on the mat."),
    ("user", "And the dog?"),
    ("assistant", "It lay by the door, Müller said."),
]


def with_template(folder, template, specials=()):
    config = json.loads((folder / "tokenizer_config.json").read_text()) | {"chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    state = json.loads((folder / "tokenizer.json").read_text())
    for token in specials:
        number = len(state["model"]["vocab"])
        state["model"]["vocab"][token] = number
        entry = {"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False}
        state["added_tokens"].append({**entry, "normalized": False, "special": True})
    (folder / "tokenizer.json").write_text(json.dumps(state))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    first, second = (tmp_path_factory.mktemp(name) for name in ("chatml", "inst"))
    make_byte_level_tokenizer(first)
    make_metaspace_tokenizer(second)
    with_template(first, CHATML, ["<|im_start|>", "<|im_end|>"])
    with_template(second, PLAIN)
    make_llama(first, 402, seed=1)
    make_llama(second, 480, seed=2)
    return first, second


@pytest.fixture(scope="module")
def sides(folders, tmp_path_factory):
    found = []
    for folder in folders:
        vocabulary = load_vocabulary(folder)
        from vocabalign.text.corpus import Document as Line

        text, scored = make_renderer(vocabulary)(Line("", "talk.jsonl", 0, tuple(TALK)))
        documents = tokenize([TrainingText(text, scored)], vocabulary, tmp_path_factory.mktemp("ids"), "text")
        found.append((vocabulary, documents))
    return found


def aligned(sides) -> Document:
    (mine, documents), (theirs, others) = sides
    side = TeacherSide(documents, mine, OwnTokens(others), theirs, 64, {})
    whole = side._aligned(0)
    assert whole is not None
    return whole


def test_the_answers_are_the_same_bytes_in_every_chunk(sides):
    whole = aligned(sides)
    mine, theirs = sides[0][0], sides[1][0]
    a = whole.alignment
    text = b""
    for c in range(len(a)):
        pieces = [
            b"".join(v.token_bytes[i] or b"" for i in ids[start:end].tolist())
            for v, ids, start, end in (
                (mine, whole.student_ids, a.cs_start[c], a.cs_end[c]),
                (theirs, whole.teacher_ids, a.ct_start[c], a.ct_end[c]),
            )
        ]
        assert pieces[0] == pieces[1]
        text += pieces[0]
    answers = [content for role, content in TALK if role == "assistant"]
    # The first word of an answer is one token with the space before it on one side and not on the other.
    for answer in answers:
        rest = answer.split(" ", 1)[1]
        assert rest.encode() in text
    assert b"What" not in text and b"INST" not in text and b"assistant" not in text


def test_the_end_of_a_turn_is_one_event_on_both_sides(sides):
    whole = aligned(sides)
    mine, theirs = sides[0][0], sides[1][0]
    pairs = observed_at([whole]).numpy()
    named = {(mine.raw_tokens[a], theirs.raw_tokens[b]) for a, b in pairs}
    assert ("<|im_end|>", "</s>") in named
    assert len([1 for a, b in pairs if mine.raw_tokens[a] == "<|im_end|>"]) == 2


def test_only_what_is_scored_is_predicted(sides):
    whole = aligned(sides)
    silent = sides[0][1].unscored
    scored = np.ones(len(whole.student_ids), dtype=bool)
    for first, last in silent:
        scored[first:last] = False
    rows = aligned_starts([whole]).numpy()
    assert scored[rows[:, 0] + 1].all()
    chunks = aligned_chunks([whole])
    assert scored[chunks.student.positions.numpy()[chunks.student.labels.numpy() >= 0] + 1].all()


def test_a_piece_in_the_middle_reads_the_question_before_it(sides):
    whole = aligned(sides)
    second = int(whole.alignment.cs_start[np.flatnonzero(np.diff(whole.alignment.ct_start) > 6)[0] + 1])
    (piece,) = cut_pieces(whole, second - 3, len(whole.student_ids), len(whole.student_ids), None)
    read = whole.teacher_ids[piece.teacher_first : piece.teacher_last]
    words = b"".join(sides[1][0].token_bytes[i] or b"" for i in read.tolist())
    assert b"dog" in words and b"cat" not in words


def test_a_student_learns_answers_from_a_teacher_with_another_template(tmp_path, folders):
    path = tmp_path / "talk.jsonl"
    with path.open("w") as file:
        for number in range(40):
            messages = [{"role": role, "content": f"{content} {number}"} for role, content in TALK]
            file.write(json.dumps({"messages": messages}) + "\n")
    options = dict(distillation_weight=1.0, learning_rate=1e-2, check_teacher=False)
    schedule = {"steps": 15, "context": 100}
    for loss in ("event", "chunks"):
        out = distilled(folders[0], folders[1], path, tmp_path / loss, schedule, loss=loss, **options)
        assert np.mean(losses(out)[-3:]) < 0.95 * np.mean(losses(out)[:3])
    # From a cache, which was made of the teacher's own rendering.
    values = {"teacher": str(folders[1]), "corpus": [str(path)], "out": tmp_path / "cache"}
    cache = caches.run(make_config(DistillCacheConfig, values))
    again = distilled(folders[0], [], path, tmp_path / "cached", schedule, loss="chunks", cache=cache, **options)
    assert losses(again)[0] == pytest.approx(losses(out)[0], rel=0.1)
    assert np.mean(losses(again)[-3:]) < 0.95 * np.mean(losses(again)[:3])
