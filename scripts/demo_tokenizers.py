"""The tokenizers of the two demo models, learned from text. Run by train_demo_models.py."""

from __future__ import annotations

import json
from pathlib import Path

import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

# Tokens that the models read at once.
CONTEXT = 256


def train_byte_level_bpe(texts: list[str], folder: Path, vocab_size: int = 4096) -> Tokenizer:
    """Byte-level BPE in the GPT-2 manner: made for prose, it has no tokens for runs of spaces.

    So code costs it many tokens, which is why one would want to give its model another vocabulary.
    One special token begins and ends a document.
    """
    texts = [" ".join(text.split()) for text in texts]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    save_tokenizer(tokenizer, folder, bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    return tokenizer


def train_unigram(texts: list[str], folder: Path, vocab_size: int = 6000) -> Tokenizer:
    """SentencePiece unigram with byte fallback, trained by sentencepiece and written as tokenizer.json.

    Text is kept as it is (identity normalisation, no dummy prefix, runs of spaces kept): code loses
    its meaning otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model_path = folder / "tokenizer.model"
    with model_path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=file,
            model_type="unigram",
            vocab_size=vocab_size,
            byte_fallback=True,
            character_coverage=0.9998,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_by_number=False,
            split_digits=True,
            user_defined_symbols=["\n"],
            max_sentence_length=65536,
            num_threads=2,
            minloglevel=1,
        )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model_path))
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=processor.unk_id(), byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    # A piece never crosses the end of a line, so cutting there changes no id and lets lines be cached.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("\n"), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", processor.bos_id())]
    )
    save_tokenizer(tokenizer, folder, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, **special_tokens: str) -> None:
    """Write tokenizer.json and a tokenizer_config.json that transformers 4 and 5 read alike."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        **special_tokens,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
