"""What a run trains on: weights, conversations, the held-out share; parquet, the hub, archives."""

import gzip
import json
import math

import pytest
import torch
import zstandard
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.conftest import TEXT
from tests.train.runs import finetuned, same
from vocabalign.errors import ConfigError, CorpusError
from vocabalign.losses.fused import IGNORE
from vocabalign.manifests import read_manifest
from vocabalign.stages import FinetuneConfig, TrainingOptions
from vocabalign.text.corpus import read_documents
from vocabalign.text.heldout_text import read_heldout
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train.data import Blocks
from vocabalign.train.documents import tokenize
from vocabalign.train.heldout import HeldOut
from vocabalign.train.texts import HELDOUT, TrainingText, encode_scored, make_renderer, training_texts

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def write_lines(path, *records):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return str(path)


def read(corpus, folder, vocabulary, **options):
    return list(training_texts(corpus, TrainingOptions(**options), vocabulary, folder / HELDOUT))


@pytest.fixture
def vocabulary(byte_level_folder):
    return load_vocabulary(byte_level_folder)


@pytest.fixture
def chat(tmp_path, byte_level_folder):
    tokenizer = AutoTokenizer.from_pretrained(byte_level_folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "chat")
    return load_vocabulary(tmp_path / "chat")


def test_weights_of_entry_domain_and_language_multiply(tmp_path, vocabulary):
    a = write_lines(tmp_path / "a.jsonl", {"text": "x", "language": "ru"}, {"text": "y", "domain": "law"})
    b = write_lines(tmp_path / "b.jsonl", {"text": "z"})
    options = {"domain_weights": {"law": 3, "b": 5}, "language_weights": {"ru": 0.5}}
    found = read([f"{a}=2", b], tmp_path, vocabulary, **options)
    assert [(item.text, item.weight) for item in found] == [("x", 1.0), ("y", 6.0), ("z", 5.0)]
    with pytest.raises(ConfigError, match="'fr', which no document of the corpus has .found: ru"):
        read([a], tmp_path, vocabulary, language_weights={"fr": 2})
    config = FinetuneConfig(model="m", corpus=[{"path": a, "weight": 2}, b], out="o")
    assert config.corpus == [f"{a}=2", b]
    with pytest.raises(CorpusError, match="above 0"):
        read([f"{a}=0"], tmp_path, vocabulary)


def test_the_heldout_share_never_leaks(tmp_path, vocabulary):
    copies = [{"text": f"{text} {number % 40}", "language": "x"} for number in range(120) for text in TEXT]
    spaced = [{"text": record["text"].replace(" ", "  ")} for record in copies[:40]]
    path = write_lines(tmp_path / "a.jsonl", *copies, *spaced)
    trained = [" ".join(item.text.split()) for item in read([path], tmp_path, vocabulary, heldout_share=0.1)]
    lines = [json.loads(line) for line in (tmp_path / HELDOUT).read_text().splitlines()]
    held = [" ".join(line["text"].split()) for line in lines]
    assert held and not set(held) & set(trained)
    assert sorted(held + trained) == sorted(" ".join(record["text"].split()) for record in [*copies, *spaced])
    assert 0.02 < len(set(held)) / len(set(held) | set(trained)) < 0.25 and lines[0]["language"] == "x"


def test_a_run_scores_on_the_share_that_it_holds_out(tmp_path, tiny_llama, corpus_file):
    out = finetuned(tiny_llama, corpus_file, tmp_path / "out", {"heldout_share": 0.2, "evaluate_every": 3})
    assert read_manifest(out)["metrics"]["heldout_bits_per_byte"] > 0
    with pytest.raises(CorpusError, match="holds out none"):
        finetuned(tiny_llama, corpus_file, tmp_path / "none", {"heldout_share": 1e-9})


def test_files_of_a_folder_go_to_one_side_whole(tmp_path, vocabulary):
    folder = tmp_path / "books"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02}.txt").write_text(f"Book {number}. " + "word and " * 12_000)  # two pieces each
    found = {item.path for item in read([str(folder)], tmp_path, vocabulary, heldout_share=0.3)}
    held = [json.loads(line)["domain"] for line in (tmp_path / HELDOUT).read_text().splitlines()]
    assert held and len(found) + len(set(held)) == 30 and len(held) == 2 * len(set(held))


def test_of_a_conversation_only_the_assistant_is_predicted(tmp_path, chat):
    turns = [("user", "The cat sat"), ("assistant", "on the mat"), ("user", "Und dann?"), ("assistant", "süße Äpfel")]
    messages = [{"role": role, "content": content} for role, content in turns]
    path = write_lines(tmp_path / "a.jsonl", {"messages": messages}, *[{"text": text} for text in TEXT])
    (tmp_path / "work").mkdir()
    documents = tokenize(read([path], tmp_path, chat), chat, tmp_path / "work", "text")
    assert len(documents.unscored) == 2
    blocks = Blocks(documents, 24, seed=0)
    eos, predicted, read_only = chat.roles["eos"], b"", []
    for number in range(blocks.blocks_per_epoch):
        batch, at = blocks.__getitems__([number]), 0
        for fragment in blocks.fragments(number):
            for place in range(fragment.first, fragment.last):
                label = at + place - fragment.first - 1
                if fragment.document == 0 and 0 <= label < 24 and place > 0:
                    token = int(batch["labels"][0, label])
                    token_id = int(documents.ids[place])
                    if token == IGNORE:
                        read_only.append(token_id)
                    else:
                        assert token == token_id
                        predicted += b"<end>" if token == eos else chat.token_bytes[token]
            at += fragment.last - fragment.first
    assert predicted.decode() == "on the mat<end>\n süße Äpfel<end>\n"  # a token may begin before the answer
    assert b"".join(chat.token_bytes[i] or b"" for i in read_only).decode().startswith("[user] The cat sat")


def test_without_a_prompt_for_answers_the_role_is_not_what_the_assistant_says(tmp_path, chat):
    chat.tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|endoftext|>{% endfor %}"
    turns = [("user", "The cat"), ("assistant", " sat "), ("user", "assistant"), ("assistant", "[assistant] mat")]
    messages = [{"role": role, "content": content} for role, content in turns]
    path = write_lines(tmp_path / "a.jsonl", {"messages": messages})
    whole, ranges = make_renderer(chat)(next(read_documents([path])))
    said = [whole[start:end] for start, end in ranges]
    assert said == ["sat <|endoftext|>", "[assistant] mat<|endoftext|>"]


def test_conversations_need_a_template_an_assistant_and_a_sound_order(tmp_path, vocabulary, chat):
    path = write_lines(tmp_path / "a.jsonl", {"messages": [{"role": "user", "content": "Hi"}]})
    with pytest.raises(CorpusError, match="a.jsonl, document 1 is a conversation.*no chat template"):
        read([path], tmp_path, vocabulary)
    with pytest.raises(CorpusError, match="no message of the role 'assistant'"):
        read([path], tmp_path, chat)
    chat.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(CorpusError, match="cannot be rendered by the chat template: roles must alternate"):
        read([write_lines(tmp_path / "b.jsonl", {"messages": [{"role": "assistant", "content": "x"}]})], tmp_path, chat)


def test_every_kind_of_file_is_the_same_text(tmp_path, vocabulary):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXT)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    parquet.write_table(pyarrow.table({"text": TEXT, "more": list(range(len(TEXT)))}), tmp_path / "a.parquet")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text(lines)
    entries = ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.par*t"]
    for entry in [str(tmp_path / name) for name in entries] + [
        f"hub:{tmp_path / 'set'}",
        f"hub:{tmp_path / 'set'}:train",
    ]:
        assert [item.text for item in read([entry], tmp_path, vocabulary)] == TEXT, entry


def test_datasets_and_tables_that_cannot_be_read(tmp_path, vocabulary):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"content": ["x"]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"no table")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text('{"text": "x"}\n')
    for entry, message in {
        str(tmp_path / "a.parquet"): "row 1 has neither 'text' nor 'messages' .keys: 'content'",
        str(tmp_path / "b.parquet"): "cannot be read as parquet",
        f"hub:{tmp_path / 'nowhere'}": "cannot be read",
        f"hub:{tmp_path / 'set'}:test": "cannot be read",
        "hub:": "is not the name of a dataset",
    }.items():
        with pytest.raises(CorpusError, match=message):
            read([entry], tmp_path, vocabulary)


def test_weights_and_datasets_through_a_whole_run(tmp_path, tiny_llama, corpus_file):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text(corpus_file.read_text())
    entries = {"corpus": [f"{corpus_file}=2", f"hub:{tmp_path / 'set'}:train=0.5"]}
    from tests.train.runs import SMALL
    from vocabalign.train import finetune

    config = FinetuneConfig(model=str(tiny_llama), out=tmp_path / "out", training=TrainingOptions(**SMALL), **entries)
    assert read_manifest(finetune.run(config))["metrics"]["steps"] == SMALL["steps"]


def test_heldout_documents_are_not_trained_on(tmp_path, vocabulary, caplog):
    held = write_lines(tmp_path / "held.jsonl", {"text": "One  two\nthree."}, {"text": "Nothing else."})
    texts = [{"text": "One two three."}, {"text": "One two three. More."}, {"text": " Nothing else. "}, {"text": "x y"}]
    corpus = write_lines(tmp_path / "a.jsonl", *texts)
    found = training_texts([corpus], TrainingOptions(), vocabulary, tmp_path / HELDOUT, apart=[held])
    assert [item.text for item in found] == ["One two three. More.", "x y"]
    assert "2 documents of the corpus are in the held-out text as well" in caplog.text
    caplog.clear()
    assert len(list(training_texts([corpus], TrainingOptions(), vocabulary, apart=[held]))) == 2 and not caplog.text
    with pytest.raises(CorpusError, match="All documents of the corpus are in the held-out text"):
        list(training_texts([held], TrainingOptions(), vocabulary, apart=[held]))


def test_a_run_passes_over_what_is_held_out(tmp_path, tiny_llama, corpus_file):
    lines = [json.loads(line) for line in corpus_file.read_text().splitlines()]
    kept = write_lines(tmp_path / "kept.jsonl", *[line for line in lines if line["text"] != lines[0]["text"]])
    held = write_lines(tmp_path / "held.jsonl", lines[0])
    both = finetuned(tiny_llama, corpus_file, tmp_path / "both", heldout=[held])
    apart = finetuned(tiny_llama, kept, tmp_path / "apart", heldout=[held])
    assert same(both, apart)


def test_of_a_heldout_conversation_the_bytes_of_the_assistant_are_scored(tmp_path, chat, tiny_llama):
    messages = [{"role": "user", "content": "The cat sat"}, {"role": "assistant", "content": "on the mat"}]
    path = write_lines(tmp_path / "a.jsonl", {"messages": messages}, {"text": TEXT[0]})
    whole, ranges = make_renderer(chat)(next(read_documents([path])))
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    scored = HeldOut(read_heldout([path]), chat, 64, 2)
    answer = sum(len(whole[a:b].encode()) for a, b in ranges)
    assert answer == len("on the mat<|endoftext|>\n") and scored.num_bytes == answer + len(TEXT[0].encode())
    # By hand: log-probabilities of the answer's tokens after everything before them.
    (ids, flags), begin = encode_scored(chat, [TrainingText(whole, ranges)])[0], chat.roles.get("bos")
    assert not any(flags[:5]) and any(flags)
    shift = 0 if begin is None else 1
    stream = torch.tensor([[*([] if begin is None else [begin]), *ids]])
    log_q = torch.log_softmax(model(stream).logits[0], -1)
    nats = -sum(log_q[n + shift - 1, i].item() for n, (i, flag) in enumerate(zip(ids, flags, strict=True)) if flag)
    text = HeldOut([TEXT[0]], chat, 64, 2)
    expected = (nats / math.log(2) + text.bits_per_byte(model) * text.num_bytes) / (answer + text.num_bytes)
    assert scored.bits_per_byte(model) == pytest.approx(expected, rel=1e-4)


def test_a_conversation_that_is_split_off_stays_one(tmp_path, chat):
    lines = [{"messages": [{"role": "assistant", "content": f"{text} {n}"}]} for n in range(20) for text in TEXT]
    path = write_lines(tmp_path / "a.jsonl", *lines)
    read([path], tmp_path, chat, heldout_share=0.3)
    held = list(read_documents([str(tmp_path / HELDOUT)]))
    assert held and all(document.messages and document.messages[0][0] == "assistant" for document in held)
