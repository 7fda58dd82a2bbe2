"""Artefacts in the files of other programs and of people, both ways: lexicons and token embeddings.

A lexicon goes out as a table (``.tsv``), which a person can edit and give back, or as TokAlign's ``align_matrix.json``;
token embeddings go out as gensim's KeyedVectors or as text of word2vec, fastText and GloVe. Files come back as
artefacts, checked against the tokenizers that they are said to belong to.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vocabalign.artifacts import write_artifact
from vocabalign.errors import ArtifactError, ConfigError
from vocabalign.folders import make_folder, told
from vocabalign.lexicon import Lexicon
from vocabalign.lexicon_files import READERS, write_align_matrix
from vocabalign.lexicon_table import write_table
from vocabalign.manifests import read_manifest
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.token_embeddings import TokenEmbeddings


def export_artifact(
    artifact: str | Path,
    out: str | Path,
    *,
    source: str | Path | None = None,
    target: str | Path | None = None,
    fallback: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a lexicon or token embeddings into a file of another program's kind.

    Args:
        artifact: folder that ``align`` or ``embed`` wrote.
        out: the file; its ending decides. A lexicon: ``.tsv`` for people, ``.json`` for TokAlign's align_matrix.json.
            Token embeddings: ``.kv`` or ``.keyedvectors`` for gensim (large ones in several files), ``.glove.txt`` for
            GloVe's text, anything else for the text of word2vec and fastText. Words are token ids.
        source: source tokenizer, for ``.tsv``; by default the one that the artefact's manifest names.
        target: target tokenizer, likewise.
        fallback: for ``.json``: source id for target tokens without evidence.
        overwrite: replace a file that exists.

    Returns:
        The file.

    Raises:
        ArtifactError: the folder is no such artefact, belongs to other tokenizers, or the file exists.
        ConfigError: an ending that no lexicon is written as, or a fallback that is no source token.
    """
    artifact, out = Path(artifact), Path(out)
    manifest = read_manifest(artifact)
    if out.exists() and not overwrite:
        raise ArtifactError(f"{out} exists already: choose another --out, or say --overwrite to replace it.")
    if (artifact / "lexicon.safetensors").is_file():
        lexicon = Lexicon.load(artifact)
        writer = WRITERS.get(out.suffix.lower())
        if writer is None:
            raise ConfigError(
                f"{out} ends in none of {', '.join(WRITERS)}: a lexicon is written as a table or as TokAlign's file."
            )

        def vocabularies() -> tuple[Vocabulary, Vocabulary]:
            return _vocabularies(lexicon, manifest, artifact, source, target)

        with _put_in_place(out) as path:
            writer(path, lexicon, vocabularies, fallback)
    elif (artifact / "embeddings.safetensors").is_file():
        from vocabalign.alignment.vector_files import write_vectors

        embeddings = TokenEmbeddings.load(artifact)
        with _put_in_place(out) as path:
            write_vectors(path, embeddings)
    else:
        raise ArtifactError(
            f"{artifact} holds neither a lexicon nor token embeddings: give a folder of align or embed."
        )
    return out


def _write_table(
    path: Path, lexicon: Lexicon, vocabularies: Callable[[], tuple[Vocabulary, Vocabulary]], fallback: int | None
) -> None:
    if fallback is not None:
        raise ConfigError("--fallback is for TokAlign's file (.json): a table may leave a token without a source.")
    write_table(path, lexicon, *vocabularies())


def _write_align_matrix(
    path: Path, lexicon: Lexicon, vocabularies: Callable[[], tuple[Vocabulary, Vocabulary]], fallback: int | None
) -> None:
    if fallback is not None and not 0 <= fallback < len(vocabularies()[0]):
        raise ConfigError(
            f"--fallback {fallback} is no source token: the source has the numbers 0 to {len(vocabularies()[0]) - 1:,}."
        )
    write_align_matrix(path, lexicon, fallback)


def _vocabularies(
    lexicon: Lexicon,
    manifest: dict[str, Any],
    artifact: Path,
    source: str | Path | None,
    target: str | Path | None,
) -> tuple[Vocabulary, Vocabulary]:
    """Both vocabularies of a lexicon, from what is given or what its manifest names."""
    from vocabalign.text.tokenizers import load_vocabulary

    found = []
    prints = {"source": lexicon.source_fingerprint, "target": lexicon.target_fingerprint}
    for side, given in (("source", source), ("target", target)):
        place = given or manifest.get("config", {}).get(side)
        if not place:
            raise ArtifactError(f"{artifact} does not say where its {side} tokenizer is: give it with --{side}.")
        vocabulary = load_vocabulary(place)
        if vocabulary.fingerprint != prints[side]:
            raise ArtifactError(
                f"The lexicon {artifact} was made for another {side} tokenizer than {place}: give the one it was made "
                f"for with --{side}, or align again."
            )
        found.append(vocabulary)
    return found[0], found[1]


@contextmanager
def _put_in_place(out: Path) -> Iterator[Path]:
    """A file to write, in a hidden folder beside ``out``; it and what stands beside it are moved when whole."""
    make_folder(out.absolute().parent)
    folder = out.absolute().with_name(f".{out.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        folder.mkdir()
        yield folder / out.name
        # gensim puts large arrays beside its file: the file itself comes last.
        for path in sorted(folder.iterdir(), key=lambda path: path.name == out.name):
            os.replace(path, out.absolute().with_name(path.name))
    except OSError as error:
        raise told(error, out) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def import_lexicon(
    path: str | Path,
    source: str | Path,
    target: str | Path,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
) -> Lexicon:
    """Read a lexicon that a person edited (``.tsv``) or that TokAlign made (``.json``).

    Args:
        path: the file.
        source: source tokenizer (S tokens).
        target: target tokenizer (T tokens).
        out: also write it there as an artefact, which every command takes that takes one of ``align``.
        overwrite: replace an artefact that exists.

    Returns:
        Lexicon of T target tokens.

    Raises:
        ArtifactError: the file cannot be read, or is of other tokenizers; the line is told.
    """
    from vocabalign.text.tokenizers import load_vocabulary

    reader = READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise ArtifactError(f"{path} ends in none of {', '.join(READERS)}: give a lexicon's table or TokAlign's file.")
    vocabularies = load_vocabulary(source), load_vocabulary(target)
    lexicon = reader(path, *vocabularies)
    if out is not None:
        told_config = {"file": str(path), "source": str(source), "target": str(target)}
        with write_artifact(out, "import", told_config, {"file": path}, overwrite=overwrite) as writer:
            lexicon.save(writer.folder)
            write_table(writer.folder / "lexicon.tsv", lexicon, *vocabularies)
            writer.metrics |= {"target_tokens": lexicon.num_targets, **lexicon.evidence_counts()}
    return lexicon


def import_embeddings(
    path: str | Path, tokenizer: str | Path, out: str | Path | None = None, *, overwrite: bool = False
) -> TokenEmbeddings:
    """Read word vectors of word2vec, fastText, GloVe or gensim as the token embeddings of a tokenizer.

    Args:
        path: ``.kv`` or ``.keyedvectors`` of gensim, else text; its words are token ids or tokens.
        tokenizer: whose tokens they are (V tokens).
        out: also write them there as an artefact like one of ``embed``.
        overwrite: replace an artefact that exists.

    Returns:
        (V, D) vectors, zero rows for tokens that the file lacks.

    Raises:
        ArtifactError: no word is a token, a value is not finite, or vectors differ in dimension.
    """
    from vocabalign.alignment.vector_files import read_vectors
    from vocabalign.text.tokenizers import load_vocabulary

    embeddings = read_vectors(Path(path), load_vocabulary(tokenizer))
    if out is not None:
        told_config = {"file": str(path), "tokenizer": str(tokenizer)}
        with write_artifact(out, "import", told_config, {"file": path}, overwrite=overwrite) as writer:
            embeddings.save(writer.folder)
            writer.metrics |= {
                "vocabulary_size": len(embeddings.counts),
                "dimensions": int(embeddings.vectors.shape[1]),
                "covered_share": float(embeddings.covered.mean()),
            }
    return embeddings


WRITERS: dict[str, Callable[[Path, Lexicon, Callable[[], tuple[Vocabulary, Vocabulary]], int | None], None]] = {
    ".tsv": _write_table,
    ".json": _write_align_matrix,
}
