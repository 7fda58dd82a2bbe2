"""Loading and saving: the ids of the file, whatever class transformers would take."""

import dataclasses
import json
import shutil
import warnings

import pytest
from tokenizers import Tokenizer, models, normalizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from vocabalign.errors import TokenizerError
from vocabalign.text.tokenizers import load_tokenizer, load_vocabulary, probe_texts, save_tokenizer


def raw_ids(folder, texts):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


def test_vocabulary_of_a_folder(byte_level_folder):
    vocabulary = load_vocabulary(str(byte_level_folder))
    assert vocabulary.encode_batch(probe_texts()) == raw_ids(byte_level_folder, probe_texts())
    assert vocabulary.roles == {"bos": 0, "eos": 0} and vocabulary.special_ids == {0}
    assert vocabulary.name == byte_level_folder.name and len(vocabulary) == 400
    again = load_vocabulary(load_tokenizer(byte_level_folder))
    assert again.fingerprint == vocabulary.fingerprint


def test_fingerprints_differ(byte_level_folder, metaspace_folder):
    assert load_vocabulary(byte_level_folder).fingerprint != load_vocabulary(metaspace_folder).fingerprint


def test_custom_vocabulary():
    vocabulary = load_vocabulary(([b"a", b"\xff", None], lambda text: [0] * len(text)))
    assert vocabulary.encode("aa") == [0, 0] and vocabulary.special_ids == {2} and vocabulary.tokenizer is None
    for wrong in (["a"], []):
        with pytest.raises(TokenizerError, match="custom vocabulary"):
            load_vocabulary((wrong, list))


def test_encoding_is_not_disturbed_by_truncation_and_padding(byte_level_folder):
    tokenizer = load_tokenizer(byte_level_folder)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.model_max_length = 4
    vocabulary = load_vocabulary(tokenizer)
    texts = ["a", "a much longer text than the other one"]
    expected = raw_ids(byte_level_folder, texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer(texts, truncation=True, padding=True, max_length=3)
        assert vocabulary.encode_batch(texts) == expected


@pytest.mark.parametrize("name", ["Qwen2Tokenizer", "GPTNeoXTokenizer", "LlamaTokenizer", "GPT2Tokenizer"])
def test_a_class_that_rebuilds_the_tokenizer_is_not_believed(byte_level_folder, tmp_path, name):
    folder = tmp_path / "t"
    shutil.copytree(byte_level_folder, folder)
    state = json.loads((folder / "tokenizer.json").read_text())
    digits = {"type": "Digits", "individual_digits": True}
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, state["pre_tokenizer"]]}
    (folder / "tokenizer.json").write_text(json.dumps(state))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, "eos_token": "<|endoftext|>"}))
    assert load_vocabulary(folder).encode_batch(probe_texts()) == raw_ids(folder, probe_texts())


@pytest.mark.parametrize("model_type", [None, "llama", "gpt_neox", "gpt2", "qwen2", "qwen3", "siglip2"])
def test_saved_beside_a_model(byte_level_folder, metaspace_folder, tmp_path, model_type):
    for source in (byte_level_folder, metaspace_folder):
        out = tmp_path / source.name
        out.mkdir()
        (out / "vocab.json").write_text("{}")  # of the tokenizer that was there before
        if model_type is not None:
            (out / "config.json").write_text(json.dumps({"model_type": model_type}))
        remedy = save_tokenizer(source, out)
        assert remedy == ("auto_map" if model_type in ("qwen2", "siglip2") else "plain")
        assert not (out / "vocab.json").exists()
        assert (out / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
        reloaded = AutoTokenizer.from_pretrained(out)
        assert [reloaded(t, add_special_tokens=False).input_ids for t in probe_texts()] == raw_ids(
            source, probe_texts()
        )
        assert reloaded.eos_token == load_tokenizer(source).eos_token
        config = json.loads((out / "tokenizer_config.json").read_text())
        assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
        assert not isinstance(config.get("extra_special_tokens"), list)


@pytest.mark.slow
def test_saved_beside_a_model_of_every_type(byte_level_folder, metaspace_folder, tmp_path):
    """Those that transformers lists as having wrong classes on the hub, and the usual ones; none may fail."""
    from transformers.models.auto.tokenization_auto import MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS

    usual = (
        "llama mistral mixtral gemma gemma2 gemma3 gemma3_text phi gptj opt olmo olmo2 falcon smollm3 granite mpt bloom"
    )
    usual += " cohere starcoder2 stablelm llama4 deepseek_v3 mamba qwen2_moe qwen3_moe glm4 gpt_oss t5 bert qwen2_5_vl"
    for model_type in sorted({*usual.split(), *MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS}):
        for source in (byte_level_folder, metaspace_folder):
            out = tmp_path / f"{model_type}-{source.name}"
            out.mkdir()
            (out / "config.json").write_text(json.dumps({"model_type": model_type}))
            save_tokenizer(source, out)
            ids = AutoTokenizer.from_pretrained(out)(probe_texts(), add_special_tokens=False).input_ids
            assert ids == raw_ids(source, probe_texts()), model_type


def test_saving_keeps_changes_and_the_chat_template(byte_level_folder, tmp_path):
    tokenizer = load_tokenizer(byte_level_folder)
    tokenizer.add_special_tokens({"pad_token": "<pad>", "extra_special_tokens": ["<|x|>"]})
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    save_tokenizer(tokenizer, tmp_path)
    reloaded = load_tokenizer(tmp_path)
    assert reloaded.pad_token == "<pad>" and reloaded.chat_template == tokenizer.chat_template
    assert (tmp_path / "chat_template.jinja").read_text() == tokenizer.chat_template
    assert load_vocabulary(tmp_path).special_ids == load_vocabulary(tokenizer).special_ids
    assert len(load_vocabulary(tmp_path).special_ids) == 3


def test_saving_over_its_own_folder(byte_level_folder, tmp_path):
    shutil.copytree(byte_level_folder, tmp_path / "t")
    save_tokenizer(tmp_path / "t", tmp_path / "t")
    assert load_vocabulary(tmp_path / "t").fingerprint == load_vocabulary(byte_level_folder).fingerprint


def test_saving_fails_when_nothing_helps(byte_level_folder, tmp_path, monkeypatch):
    from vocabalign.text import tokenizer_saving

    monkeypatch.setattr(tokenizer_saving, "_REMEDIES", {"plain": {}})
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(TokenizerError, match="model type 'qwen2'"):
        save_tokenizer(byte_level_folder, tmp_path)


def test_sentencepiece_model_alone(tmp_path, texts):
    import io

    import sentencepiece

    for kind in ("unigram", "bpe", "char"):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts * 20), model_writer=model, vocab_size=400, model_type=kind,
            byte_fallback=kind != "char",
            normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2, num_threads=1,
            hard_vocab_limit=False,
        )  # fmt: skip
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "tokenizer.model").write_bytes(model.getvalue())
        vocabulary = load_vocabulary(folder)
        processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        assert vocabulary.encode_batch(texts) == processor.encode(texts)
        assert vocabulary.roles == {"bos": 1, "eos": 2, "unk": 0} and vocabulary.special_ids == {0, 1, 2}
        assert len(vocabulary.byte_ids) == 256 * (kind != "char") and vocabulary.dummy_prefix
        save_tokenizer(folder, tmp_path / f"{kind}-out")
        assert load_vocabulary(tmp_path / f"{kind}-out").fingerprint == vocabulary.fingerprint


@pytest.mark.parametrize("case", ["missing", "empty", "broken", "config", "code", "file", "model"])
def test_cannot_be_loaded(tmp_path, byte_level_folder, case):
    folder = tmp_path / "t"
    folder.mkdir()
    if case == "missing":
        folder, message = tmp_path / "no", "does not exist"
    elif case == "empty":
        message = "holds no tokenizer"
    elif case == "broken":
        (folder / "tokenizer.json").write_text('{"model": ')
        message = "cannot be read as a tokenizer"
    elif case == "config":
        shutil.copy(byte_level_folder / "tokenizer.json", folder)
        (folder / "tokenizer_config.json").write_text("{")
        message = "not valid JSON"
    elif case == "code":
        (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["own.Tokenizer", null]}}')
        (folder / "own.py").write_text("raise SystemExit('executed')")
        message = "code of its own"
    elif case == "file":
        folder = tmp_path / "a.txt"
        folder.write_text("")
        message = "not a folder"
    else:
        (folder / "tokenizer.model").write_bytes(b"nonsense")
        message = "SentencePiece"
    with pytest.raises(TokenizerError, match=message) as caught:
        load_vocabulary(folder)
    assert "\n" not in str(caught.value)


def test_normalizing_sentencepiece_models(tmp_path, texts):
    """Their table of characters and their trimming of spaces are those of SentencePiece, Windows line ends too."""
    import io

    import sentencepiece

    for kind, rule in (("bpe", "nmt_nfkc"), ("unigram", "nfkc")):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts * 20), model_writer=model, vocab_size=300, model_type=kind, minloglevel=2,
            normalization_rule_name=rule, num_threads=1, hard_vocab_limit=False, user_defined_symbols=["<sep>"],
        )  # fmt: skip
        path = tmp_path / f"{kind}.model"
        path.write_bytes(model.getvalue())
        processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        hard = ["a\r\nb\r\n", "  two  spaces \n\n", "\uff46\u3000\u2460", *texts]
        assert load_vocabulary(path).encode_batch(hard) == processor.encode(hard)


def test_bytes_that_cannot_be_established_are_refused(byte_level_folder, monkeypatch):
    from vocabalign.text import tokenizers

    def wrong(*arguments):
        table = read(*arguments)
        swapped = [b"#" if token == b"q" else token for token in table.token_bytes]
        return dataclasses.replace(table, token_bytes=tuple(swapped))

    read = tokenizers.read_token_bytes
    monkeypatch.setattr(tokenizers, "read_token_bytes", wrong)
    with pytest.raises(TokenizerError, match=r"'The quick brown .* the first that are wrong are \d+ 'q'"):
        load_vocabulary(byte_level_folder)


def test_a_lossy_normalizer_is_named(caplog):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    load_vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]"))
    assert "changes text before it cuts it: lower case, NFC" in caplog.text and "compatibility forms" in caplog.text


def test_one_of_several_files_must_be_named(tmp_path):
    (tmp_path / "a.model").write_bytes(b"x")
    (tmp_path / "b.tiktoken").write_bytes(b"x")
    with pytest.raises(TokenizerError, match=r"several tokenizers \(a.model, b.tiktoken\): name"):
        load_vocabulary(tmp_path)
    with pytest.raises(TokenizerError, match="a.model cannot be read as a SentencePiece model"):
        load_vocabulary(tmp_path / "a.model")


def test_code_beside_a_tokenizer_json_is_not_needed(byte_level_folder, tmp_path):
    shutil.copy(byte_level_folder / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["own.Tokenizer", null]}}')
    assert load_vocabulary(tmp_path).encode("The cat") == load_vocabulary(byte_level_folder).encode("The cat")


@pytest.mark.parametrize(("config", "added"), [({}, (1, 0)), ({"add_bos_token": False, "add_eos_token": True}, (0, 1))])
def test_a_sentencepiece_model_alone_keeps_its_bos(tmp_path, texts, config, added):
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 20), model_writer=model, vocab_size=400, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2, num_threads=1,
        hard_vocab_limit=False,
    )  # fmt: skip
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    plain = load_vocabulary(folder).encode(texts[0])
    expected = [1] * added[0] + plain + [2] * added[1]
    assert load_tokenizer(folder)(texts[0]).input_ids == expected
    save_tokenizer(folder, tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out")(texts[0]).input_ids == expected


def test_saving_notices_other_added_tokens(byte_level_folder, tmp_path, monkeypatch):
    from vocabalign.text import tokenizer_saving

    tokenizer = load_tokenizer(byte_level_folder)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    save_tokenizer(tokenizer, tmp_path / "kept")
    assert AutoTokenizer.from_pretrained(tmp_path / "kept")("The cat").input_ids[0] == 0
    content = (byte_level_folder / "tokenizer.json").read_bytes()
    monkeypatch.setattr(tokenizer_saving, "_tokenizer_json", lambda *args: content)
    with pytest.raises(TokenizerError, match="special tokens are added"):
        save_tokenizer(tokenizer, tmp_path / "lost")
