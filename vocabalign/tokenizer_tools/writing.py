"""What the three stages have in common: reading text with progress, writing the tokenizer and its lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.errors import TokenizerError
from vocabalign.progress import logger, progress
from vocabalign.text.corpus import corpus_bytes, read_texts
from vocabalign.text.tokenizers import load_tokenizer, load_vocabulary, save_tokenizer
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.tokenizer_tools.compression_report import measure
from vocabalign.tokenizer_tools.state import State, all_ids, rebuild

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vocabalign.artifacts import ArtifactWriter

_ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


def texts_with_progress(corpus: Sequence[str | Path], max_bytes: int | None, description: str) -> Iterator[str]:
    """The texts of a corpus, one after another."""
    with progress(description, min(corpus_bytes(corpus), max_bytes or 2**62)) as counter:
        for text in read_texts(corpus, max_bytes):
            yield text
            counter.advance(len(text))


def write_tokenizer(
    writer: ArtifactWriter, state: State, like: PreTrainedTokenizerBase | None, roles: Mapping[str, str] | None = None
) -> Vocabulary:
    """Save a tokenizer into the artefact and load it again the way the other stages will.

    Raises:
        TokenizerError: it does not load as it was meant, or its tokens get other ids.
    """
    save_tokenizer(rebuild(state, like, roles), writer.folder)
    loaded = load_tokenizer(writer.folder)
    loaded.name_or_path = str(writer.out)  # for messages; the folder has another name until it is whole
    vocabulary = load_vocabulary(loaded)
    for raw, token_id in all_ids(state).items():
        if vocabulary.raw_tokens[token_id] != raw:
            raise TokenizerError(
                f"The token '{raw}' should have the id {token_id}, where the saved tokenizer has "
                f"'{vocabulary.raw_tokens[token_id]}'."
            )
    return vocabulary


def compression(
    vocabularies: Mapping[str, Vocabulary], corpus: Sequence[str], heldout: Sequence[str], max_bytes: int | None
) -> dict[str, Any] | None:
    """The report of compression on the held-out text, or else on the corpus; None without either."""
    text, limit = (heldout, None) if heldout else (corpus, max_bytes)
    if not text:
        logger.info("no text is given, so compression is not measured")
        return None
    measured = measure(list(vocabularies.values()), text, limit)
    result = measured.as_json(list(vocabularies.values()), list(vocabularies))
    return {"on": "heldout" if heldout else "corpus", **result}


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Tab-separated values for people; tabs and line ends inside are escaped."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("\t".join(header) + "\n")
        for row in rows:
            file.write("\t".join(str(value).translate(_ESCAPES) for value in row) + "\n")
