"""``vocabalign export`` and ``import``: artefacts in the files of other programs and of people."""

from __future__ import annotations

from typing import Any

import click

from vocabalign.cli.options import everywhere


@click.command()
@click.argument("artifact", metavar="DIR")
@click.option("--out", type=click.Path(), required=True, metavar="FILE", help="The file; its ending decides its kind.")
@click.option("--source", metavar="DIR", help="Source tokenizer, where the artefact does not say where it is.")
@click.option("--target", metavar="DIR", help="Target tokenizer, likewise.")
@click.option("--fallback", type=int, metavar="ID", help="For .json: source token of targets without evidence.")
@everywhere
def export(artifact: str, out: str, overwrite: bool | None, as_json: bool, **options: Any) -> None:
    """Write a lexicon or token embeddings into a file of another program.

    A lexicon becomes a table to read and edit (.tsv) or TokAlign's align_matrix.json (.json); token embeddings become
    gensim's KeyedVectors (.kv) or text of word2vec and fastText (.txt, .vec) or GloVe (.glove.txt).
    """
    from vocabalign.console import show, start_logging
    from vocabalign.exchange import export_artifact

    start_logging()
    names = ("source", "target", "fallback")
    path = export_artifact(artifact, out, overwrite=bool(overwrite), **{name: options[name] for name in names})
    show({"out": str(path)}, as_json, str(path))


@click.command(name="import")
@click.argument("file", metavar="FILE")
@click.option("--out", type=click.Path(), required=True, metavar="DIR", help="Folder of the artefact to write.")
@click.option("--source", metavar="DIR", help="Of a lexicon: the source tokenizer.")
@click.option("--target", metavar="DIR", help="Of a lexicon: the target tokenizer.")
@click.option("--tokenizer", metavar="DIR", help="Of word vectors: the tokenizer whose tokens they are.")
@everywhere
def import_command(
    file: str,
    out: str,
    source: str | None,
    target: str | None,
    tokenizer: str | None,
    overwrite: bool | None,
    as_json: bool,
    **_: Any,
) -> None:
    """Make an artefact of a lexicon or of word vectors in a file.

    With --source and --target FILE is a lexicon: a table (.tsv) or TokAlign's align_matrix.json; with --tokenizer it
    holds word vectors: gensim's KeyedVectors, or text of word2vec, fastText or GloVe.
    """
    from vocabalign.console import show, start_logging
    from vocabalign.errors import ConfigError
    from vocabalign.manifests import read_manifest

    start_logging()
    if tokenizer and not (source or target):
        from vocabalign.exchange import import_embeddings

        import_embeddings(file, tokenizer, out, overwrite=bool(overwrite))
    elif source and target and not tokenizer:
        from vocabalign.exchange import import_lexicon

        import_lexicon(file, source, target, out, overwrite=bool(overwrite))
    else:
        raise ConfigError("Say what the file is: a lexicon (--source and --target) or word vectors (--tokenizer).")
    show({"out": out, "metrics": read_manifest(out)["metrics"]}, as_json, f"{out} written")


COMMANDS: tuple[click.Command, ...] = (export, import_command)
