"""Row methods side by side: one model, one target vocabulary, one text; it stands above the stages."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from vocabalign.config import make_config
from vocabalign.errors import ConfigError
from vocabalign.progress import logger
from vocabalign.stages import STAGES, EvaluateConfig, FinetuneConfig, TransplantConfig
from vocabalign.text.corpus import corpus_files

ROW_METHODS: tuple[str, ...] = get_args(TransplantConfig.model_fields["input_rows"].annotation)


def compare_rows(
    source: str,
    target: str,
    heldout: Sequence[str],
    corpus: Sequence[str] = (),
    methods: str = "auto,fvt,last,first,decay",
    lexicon: str | None = None,
    source_embeddings: str | None = None,
    target_embeddings: str | None = None,
    target_model: str | None = None,
    finetune_steps: int = 0,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> dict[str, Any]:
    """Transplant ``source`` once with each method and score every result on the same text.

    Args:
        source: model folder.
        target: tokenizer (or model) folder of the new vocabulary.
        heldout: text to score on.
        corpus: text to count on and, with ``finetune_steps``, to train on.
        methods: row methods separated by commas; each makes embedding rows and head rows alike. ``all`` takes every
            method that has what it needs.
        lexicon: folder of a lexicon, for the methods that need one.
        source_embeddings: token embeddings of the source tokenizer, for ``wechsel``.
        target_embeddings: token embeddings of the target tokenizer, for ``focus`` and ``wechsel``.
        target_model: a model that owns the target vocabulary, for ``omp``, ``nearest``, ``barycentric``, ``landmark``.
        finetune_steps: also train each result for this many steps, all with the same settings.
        seed: everything random follows from it.
        device: where tensors live.
        dtype: arithmetic of forward passes.

    Returns:
        ``{"source": score, "methods": [{"method", "bits_per_byte", "gap" …}]}``; the gap is bits per
        byte above the untouched source.

    Raises:
        ConfigError: an unknown method, one that needs what was not given, or training without text.
    """
    given = {
        "lexicon": lexicon,
        "source_embeddings": source_embeddings,
        "target_embeddings": target_embeddings,
        "target_model": target_model,
    }
    names = _chosen(methods, given)
    if finetune_steps and not corpus:
        raise ConfigError("--finetune-steps needs --corpus, the text to train on.")
    corpus_files([*heldout, *corpus])  # told before the first transplant
    common = {"seed": seed, "device": device, "dtype": dtype}
    with tempfile.TemporaryDirectory(prefix="vocabalign-compare-") as temporary:
        folder = Path(temporary)
        models = {"source": source}
        for name in names:
            logger.info("transplanting with %s", name)
            values = {"source": source, "target": target, "corpus": list(corpus), **given, **common}
            values |= {"input_rows": name, "head_rows": name, "out": folder / name}
            models[name] = str(STAGES["transplant"].run(make_config(TransplantConfig, values)))
            if finetune_steps:
                values = {"model": models[name], "corpus": list(corpus), **common}
                values |= {"training": {"steps": finetune_steps}, "out": folder / f"{name}-finetuned"}
                models[f"{name} finetuned"] = str(STAGES["finetune"].run(make_config(FinetuneConfig, values)))
        values = {"models": models, "corpus": list(heldout), "sample_tokens": 0, "out": folder / "metrics", **common}
        out = STAGES["evaluate"].run(make_config(EvaluateConfig, values))
        scores = {row["name"]: row for row in json.loads((out / "metrics.json").read_text())["models"]}
    untouched = scores["source"]["bits_per_byte"]
    rows = [
        {
            "method": name,
            "bits_per_byte": scores[name]["bits_per_byte"],
            "gap": scores[name]["bits_per_byte"] - untouched,
            "tokens_per_kilobyte": scores[name]["tokens_per_kilobyte"],
        }
        for name in scores
        if name != "source"
    ]
    return {"source": untouched, "target": target, "methods": sorted(rows, key=lambda row: row["bits_per_byte"])}


def _chosen(methods: str, given: Mapping[str, str | None]) -> list[str]:
    """The row methods that were asked for, checked before any work."""
    from vocabalign.transplantation.row_plans import NEEDS

    missing = {name: [field for field in NEEDS.get(name, ()) if not given[field]] for name in ROW_METHODS}
    if methods.strip() == "all":
        return [name for name in ROW_METHODS if not missing[name]]
    names = list(dict.fromkeys(name.strip() for name in methods.split(",") if name.strip()))
    unknown = [name for name in names if name not in ROW_METHODS]
    if unknown or not names:
        known = ", ".join(ROW_METHODS)
        raise ConfigError(f"In --methods '{methods}', unknown: {', '.join(unknown) or 'all'}; there are {known}.")
    for name in names:
        if missing[name]:
            flags = " and ".join("--" + field.replace("_", "-") for field in missing[name])
            raise ConfigError(f"The rows '{name}' need {flags} (see 'vocabalign transplant --help').")
    return names


def format_comparison(result: dict[str, Any]) -> str:
    """A plain table, best first."""
    lines = [f"{'method':<24}{'bits per byte':>14}{'above source':>14}", f"{'source':<24}{result['source']:>14.4f}"]
    for row in result["methods"]:
        lines.append(f"{row['method']:<24}{row['bits_per_byte']:>14.4f}{row['gap']:>+14.4f}")
    return "\n".join(lines)
