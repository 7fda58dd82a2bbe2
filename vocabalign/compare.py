"""Ways of making rows side by side: one model, one target vocabulary, one text; it stands above the stages."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from vocabalign.artifacts import ArtifactWriter, write_artifact
from vocabalign.comparison_cells import Setting, make_cell
from vocabalign.comparison_records import SOURCE, comparison_table, summarise
from vocabalign.errors import ConfigError
from vocabalign.manifests import code_version, write_json
from vocabalign.models import read_model_config, resolve
from vocabalign.stages import TransplantConfig
from vocabalign.text.corpus import corpus_files

ROW_METHODS: tuple[str, ...] = get_args(TransplantConfig.model_fields["input_rows"].annotation)
DEFAULT_METHODS = "auto,fvt,last,first,decay"


def compare_rows(
    source: str,
    target: str,
    heldout: Sequence[str],
    corpus: Sequence[str] = (),
    methods: str = DEFAULT_METHODS,
    lexicon: str | None = None,
    source_embeddings: str | None = None,
    target_embeddings: str | None = None,
    target_model: str | None = None,
    finetune_steps: int = 0,
    calibrate_head: bool = True,
    untie: bool = False,
    out: str | Path | None = None,
    overwrite: bool = False,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> dict[str, Any]:
    """Transplant ``source`` once with each method and score every result on the same documents.

    Args:
        source: model folder.
        target: tokenizer (or model) folder of the new vocabulary.
        heldout: text to score on.
        corpus: text to count on and, with ``finetune_steps``, to train on.
        methods: row methods separated by commas; ``INPUT/HEAD`` names two, for embedding rows and head rows. ``all``
            takes every method that has what it needs.
        lexicon: folder of a lexicon, for the methods that need one.
        source_embeddings: token embeddings of the source tokenizer, for ``wechsel``.
        target_embeddings: token embeddings of the target tokenizer, for ``focus`` and ``wechsel``.
        target_model: a model that owns the target vocabulary, for ``omp``, ``nearest``, ``barycentric``, ``landmark``.
        finetune_steps: also train each result, and the untouched source, for so many steps with the same settings.
        calibrate_head: shift head rows by counts, as ``transplant`` does; false: rows as they are published.
        untie: give a tied source a head of its own, for every method.
        out: folder to write; a run that is interrupted goes on from the methods that are done. None: nothing is kept.
        overwrite: replace ``out`` where it exists.
        seed: everything random follows from it.
        device: where tensors live.
        dtype: arithmetic of forward passes.

    Returns:
        ``source`` and ``methods``, best first: bits per byte with 95 % intervals over documents, ``gap`` above the
        untouched source and ``behind`` the best method with paired intervals, the same under ``finetuned`` where
        there was training; ``pairs``: every two methods. In comparison.json the same.

    Raises:
        ConfigError: an unknown method, one that needs what was not given, or training without text.
        ArtifactError: ``out`` exists.
    """
    given = {
        "lexicon": lexicon,
        "source_embeddings": source_embeddings,
        "target_embeddings": target_embeddings,
        "target_model": target_model,
    }
    names = _chosen(methods, given)
    if finetune_steps < 0:
        raise ConfigError(f"--finetune-steps {finetune_steps}: expected 0 or more.")
    if finetune_steps and not corpus:
        raise ConfigError("--finetune-steps needs --corpus, the text to train on.")
    corpus_files([*heldout, *corpus])  # told before the first transplant
    tied = bool(read_model_config(resolve(source)).get("tie_word_embeddings"))
    if untie and not tied:
        raise ConfigError(f"{source} has a head of its own already: leave out --untie.")
    common = {"seed": seed, "device": device, "dtype": dtype}
    setting = Setting(source, target, tuple(corpus), given, finetune_steps, calibrate_head, untie, common)
    with _workplace(setting, names, heldout, out, overwrite) as (folder, writer):
        cells = {name: make_cell(name, folder, setting, heldout) for name in (SOURCE, *names)}
        result = summarise(
            {name: cell.at_once for name, cell in cells.items()},
            {name: cell.finetuned for name, cell in cells.items() if cell.finetuned is not None},
            {name: cell.facts for name, cell in cells.items()},
            seed=seed,
        )
        result = {
            "source": {"path": source, **result.pop(SOURCE)},
            "target": target,
            "tied": tied and not untie,
            "finetune_steps": finetune_steps,
            **result,
        }
        if writer is not None:
            _write(writer, result)
    return result


@contextlib.contextmanager
def _workplace(
    setting: Setting, names: Sequence[str], heldout: Sequence[str], out: str | Path | None, overwrite: bool
) -> Iterator[tuple[Path, ArtifactWriter | None]]:
    """Where cells are kept: beside the artefact until it is whole, or in a folder that goes away."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="vocabalign-compare-") as temporary:
            yield Path(temporary), None
        return
    inputs: dict[str, Path | str | list[str] | None] = {
        "source": str(resolve(setting.source)),
        "target": str(resolve(setting.target)),
        "heldout": list(heldout),
        "corpus": list(setting.corpus),
        **{name: str(resolve(value)) for name, value in setting.given.items() if value},
    }
    config: dict[str, Any] = {"methods": list(names), "finetune_steps": setting.finetune_steps, "untie": setting.untie}
    config |= {"calibrate_head": setting.calibrate_head}
    # Cells of other code are not gone on with.
    config |= {**setting.common, "code": [code_version(stage) for stage in ("transplant", "finetune", "evaluate")]}
    seed = setting.common["seed"]
    with write_artifact(out, "compare", config, inputs, seed=seed, overwrite=overwrite) as writer:
        yield writer.work, writer


def _write(writer: ArtifactWriter, result: Mapping[str, Any]) -> None:
    """The artefact: what programs read, the page, and the picture."""
    from vocabalign.report.compare_page import render_comparison, write_pictures

    write_json(writer.folder / "comparison.json", result)
    (writer.folder / "comparison.html").write_text(render_comparison(result), encoding="utf-8", newline="\n")
    write_pictures(result, writer.folder)
    writer.metrics.update({row["method"]: row["bits_per_byte"] for row in result["methods"]})


def _chosen(methods: str, given: Mapping[str, str | None]) -> list[str]:
    """The row methods that were asked for, checked before any work."""
    from vocabalign.transplantation.row_plans import NEEDS

    missing = {name: [part for part in NEEDS.get(name, ()) if not given[part]] for name in ROW_METHODS}
    if methods.strip() == "all":
        return [name for name in ROW_METHODS if not missing[name]]
    names = list(dict.fromkeys(name.strip() for name in methods.split(",") if name.strip()))
    parts = {name: name.split("/") for name in names}
    unknown = [name for name in names if len(parts[name]) > 2 or not set(parts[name]) <= set(ROW_METHODS)]
    if unknown or not names:
        known = ", ".join(ROW_METHODS)
        raise ConfigError(
            f"In --methods '{methods}', unknown: {', '.join(unknown) or 'all'}; there are {known}, and two of them as "
            "INPUT/HEAD."
        )
    for part in (part for name in names for part in parts[name]):
        if missing[part]:
            flags = " and ".join("--" + needed.replace("_", "-") for needed in missing[part])
            raise ConfigError(f"The rows '{part}' need {flags} (see 'vocabalign transplant --help').")
    return names


def format_comparison(result: Mapping[str, Any]) -> str:
    """A plain table, best first."""
    header, rows = comparison_table(result)
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
