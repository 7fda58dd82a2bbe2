"""What a run trains on: the documents of its corpus with their weights, conversations rendered, held-out ones apart."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocabalign.corpus_references import is_hub, split_weight
from vocabalign.errors import ConfigError, CorpusError
from vocabalign.stages import Corpus, TrainingOptions
from vocabalign.text.corpus import PIECE_BYTES, Document, corpus_files, is_plain_text, read_documents
from vocabalign.text.heldout_text import domain_names
from vocabalign.text.splits import FEWEST_FILES, SPLIT_BYTES, text_fraction, text_key
from vocabalign.text.tokenizer_loading import backend_of
from vocabalign.text.vocabulary import Vocabulary

logger = logging.getLogger("vocabalign")
HELDOUT = "heldout.jsonl"


@dataclass(frozen=True, slots=True)
class TrainingText:
    """A document as it is tokenised.

    Attributes:
        text: of a conversation, as the chat template renders it.
        scored: ranges of characters that are to be predicted, increasing; None: all of it.
        weight: how often it is read in an epoch.
        path: the file it came from.
        index: its number in that file.
    """

    text: str
    scored: tuple[tuple[int, int], ...] | None = None
    weight: float = 1.0
    path: str | None = None
    index: int = 0

    def __len__(self) -> int:
        """Characters."""
        return len(self.text)

    @property
    def ends_scored(self) -> bool:
        """Whether the last word is to be predicted."""
        return self.scored is None or bool(self.scored) and self.scored[-1][1] >= len(self.text.rstrip())


def training_texts(
    corpus: Corpus,
    options: TrainingOptions,
    vocabulary: Vocabulary,
    heldout: Path | None = None,
    *,
    apart: Sequence[str] = (),
) -> Iterator[TrainingText]:
    """The documents of a corpus that are trained on, in its order.

    Those that are held-out text too, whatever their spaces and line ends, are passed over.

    Args:
        corpus: entries, possibly with weights.
        options: weights by domain and language, and the share that is held out.
        vocabulary: its tokenizer's chat template renders conversations.
        heldout: where the documents that are held out are written, once all are read.
        apart: held-out text that stands by itself.

    Raises:
        ConfigError: a weight for a domain or a language that no document has.
        CorpusError: the text cannot be read, a conversation cannot be rendered, or there is nothing but held-out text.
    """
    weight_of, split = _Weights(corpus, options), _Split(corpus, options.heldout_share)
    render = make_renderer(vocabulary)
    never = {text_key(document.text) for document in _documents_of(apart, split.piece_bytes)}
    passed_over = kept = 0
    new = None if heldout is None else heldout.with_suffix(".new")
    file = None if new is None or not options.heldout_share else new.open("w", encoding="utf-8")
    try:
        for document in read_documents(corpus, weighted=True, piece_bytes=split.piece_bytes):
            if never and text_key(document.text) in never:
                passed_over += 1
                continue
            if split.holds_out(document):
                if file is not None:
                    labels = {"domain": weight_of.domain(document), "language": document.language}
                    file.write(json.dumps({**_said(document), **_known(labels)}, ensure_ascii=False) + "\n")
                continue
            text, scored = (document.text, None) if document.messages is None else render(document)
            kept += 1
            yield TrainingText(text, scored, weight_of(document), document.path, document.index)
    finally:
        if file is not None:
            file.close()
    if passed_over and not kept:
        raise CorpusError(
            "All documents of the corpus are in the held-out text as well: name other text for one of them."
        )
    if passed_over and heldout is not None:
        logger.warning(
            "%s of the corpus %s in the held-out text as well: not trained on.",
            f"{passed_over:,} document{'s' if passed_over > 1 else ''}",
            "are" if passed_over > 1 else "is",
        )
    weight_of.check_all_used()
    if file is not None and new is not None and heldout is not None:
        new.replace(heldout)


class _Split:
    """Which documents are held out: by a hash of their words, so that copies of one are on one side.

    A ``.txt`` file among many goes to one side whole, by the hash of its beginning; few are split by piece.
    """

    def __init__(self, corpus: Corpus, share: float) -> None:
        self.share = share
        entries = [split_weight(entry)[0] for entry in corpus] if share else []
        files = [path for entry in entries if not is_hub(entry) for path in corpus_files([entry])]
        self.whole_files = sum(map(is_plain_text, files)) >= FEWEST_FILES
        self.piece_bytes = SPLIT_BYTES if share and not self.whole_files else PIECE_BYTES
        self.file: tuple[str, bool] = ("", False)

    def holds_out(self, document: Document) -> bool:
        if not self.share:
            return False
        if self.whole_files and document.path == self.file[0]:
            return self.file[1]
        result = text_fraction(" ".join(document.text.split())) < self.share
        if self.whole_files and is_plain_text(Path(document.path)):
            self.file = (document.path, result)
        return result


def _documents_of(corpus: Sequence[str], piece_bytes: int) -> Iterator[Document]:
    return read_documents(corpus, piece_bytes=piece_bytes) if corpus else iter(())


def _said(document: Document) -> dict[str, Any]:
    """A document's text or conversation as a line has it."""
    if document.messages is None:
        return {"text": document.text}
    return {"messages": [{"role": role, "content": content} for role, content in document.messages]}


def _known(labels: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in labels.items() if value is not None}


class _Weights:
    """The weight of each document: of its entry, times those of its domain and of its language."""

    def __init__(self, corpus: Corpus, options: TrainingOptions) -> None:
        self.tables: dict[str, Mapping[str, float]] = {
            "domain": options.domain_weights,
            "language": options.language_weights,
        }
        self.unused = {(kind, name) for kind, table in self.tables.items() for name in table}
        self.seen: dict[str, set[str]] = {kind: set() for kind in self.tables}
        self.names = domain_names(corpus)

    def domain(self, document: Document) -> str | None:
        """Its own word, else the name of its file, as ``evaluate`` has it."""
        return document.domain or self.names.get(document.path)

    def __call__(self, document: Document) -> float:
        weight = document.weight
        for kind, name in (("domain", self.domain(document)), ("language", document.language)):
            if name is not None and self.tables[kind]:
                weight *= self.tables[kind].get(name, 1.0)
                self.unused.discard((kind, name))
                self.seen[kind].add(name)
        return weight

    def check_all_used(self) -> None:
        for kind, name in sorted(self.unused):
            known = ", ".join(sorted(self.seen[kind])[:10]) or "none"
            raise ConfigError(
                f"training.{kind}_weights names '{name}', which no document of the corpus has (found: {known})."
            )


Rendered = tuple[str, tuple[tuple[int, int], ...]]


def make_renderer(vocabulary: Vocabulary) -> Callable[[Document], Rendered]:
    """What renders a conversation by the tokenizer's chat template: its text, and what of it the assistant says.

    What the assistant says is what the template adds to the conversation before it with the prompt for an answer, so
    that it includes the mark of the turn's end. A template that knows no such prompt writes its words with the answer:
    then it begins where the message does.
    """
    tokenizer = vocabulary.tokenizer

    def apply(messages: list[dict[str, str]], prompt: bool) -> str:
        assert tokenizer is not None
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt))

    def render(document: Document) -> Rendered:
        where = f"{document.path}, document {document.index + 1}"
        if tokenizer is None or not getattr(tokenizer, "chat_template", None):
            raise CorpusError(
                f"{where} is a conversation, and the tokenizer of {vocabulary.name} has no chat template to render it "
                "with: give it one (transplant --chat-template FILE), or text instead of messages."
            )
        messages = [{"role": role, "content": content} for role, content in document.messages or ()]
        try:
            whole = apply(messages, False)
            ranges: list[tuple[int, int]] = []
            for number, message in enumerate(messages):
                if message["role"] == "assistant":
                    # Nothing is not a conversation: where a first answer begins is found by its words.
                    before = apply(messages[:number], True) if number else None
                    through = apply(messages[: number + 1], False)
                    start, end = _range_of(message["content"], before, through, whole, ranges)
                    if before is not None and before == apply(messages[:number], False):
                        start = max(start, whole.find(message["content"].strip(), start, end))
                    ranges.append((start, end))
        except CorpusError as error:
            raise CorpusError(f"{where}: {error}") from None
        except Exception as error:  # a template raises what it likes
            reason = " ".join(str(error).split())
            raise CorpusError(f"{where} cannot be rendered by the chat template: {reason}.") from error
        if not ranges:
            raise CorpusError(f"{where} has no message of the role 'assistant': there is nothing in it to learn.")
        return whole, tuple(ranges)

    return render


def _range_of(
    content: str, before: str | None, through: str, whole: str, earlier: list[tuple[int, int]]
) -> tuple[int, int]:
    """Characters of ``whole`` that one answer takes.

    Some templates write earlier turns otherwise than the last one (they drop its thoughts), so that a conversation
    does not begin as its beginning does; then the answer's own words are looked for.
    """
    if before is not None and through.startswith(before) and whole.startswith(through):
        return len(before), len(through)
    start = whole.find(content.strip(), earlier[-1][1] if earlier else 0)
    if start < 0:
        raise CorpusError("the chat template does not write what the assistant says; give it as text instead.")
    return start, start + len(content.strip())


def encode_scored(vocabulary: Vocabulary, items: Sequence[TrainingText]) -> list[tuple[list[int], list[bool]]]:
    """Ids of each text, and which of them hold a character that is to be predicted."""
    if not items:
        return []
    assert vocabulary.tokenizer is not None  # it has rendered them
    backend = backend_of(vocabulary.tokenizer)
    result = []
    for item, encoding in zip(items, backend.encode_batch([i.text for i in items], add_special_tokens=False)):
        scored, ranges = [], list(item.scored or ())
        for start, end in encoding.offsets:
            while ranges and ranges[0][1] <= start:
                ranges.pop(0)
            scored.append(bool(ranges) and end > ranges[0][0])
        result.append((list(encoding.ids), scored))
    return result
