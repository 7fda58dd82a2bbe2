"""From the configuration to the choices of a run: a method's preset, and what the user changed of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from vocabalign.alignment.mapping_options import PRESETS, MappingOptions
from vocabalign.alignment.matching import MatchOptions
from vocabalign.alignment.search import SearchOptions
from vocabalign.errors import ConfigError
from vocabalign.models import pick_device
from vocabalign.stages import AlignConfig, EmbeddingOptions

TOKALIGN_ANCHORS = 300
PUBLIC_X_MAX = 10.0
# Spaces that no map makes.
SPACES: dict[str, Literal["mapped", "relative", "given"]] = {"relative": "relative", "none": "given"}


def match_options(config: AlignConfig) -> MatchOptions:
    """How the two spaces are made comparable and searched.

    Raises:
        ConfigError: the choices exclude each other.
    """
    mapping = config.mapping or ("relative" if config.method == "tokalign" else "vecmap")
    search = SearchOptions(
        device=str(pick_device(config.device)),
        block_mebibytes=config.block_mebibytes,
        backend=config.search_backend,
        precision=config.search_precision,
    )
    return MatchOptions(
        space=SPACES.get(mapping, "mapped"),
        mapping=_mapping_options(config, mapping),
        scale_relative=config.mapping_options.scale_relative is not False,
        csls_neighbors=config.csls_neighbors,
        search=search,
    )


def embedding_options(config: AlignConfig) -> EmbeddingOptions:
    """How embeddings are learned where they are not given: by the papers' method GloVe, unless another was chosen.

    TokAlign++ names GloVe as the best; ``x_max`` is that of TokAlign's public script.
    """
    options = config.embeddings
    if config.method == "auto" or "method" in options.model_fields_set:
        return options
    chosen: dict[str, Any] = {"method": "glove"}
    if "x_max" not in options.model_fields_set:
        chosen["x_max"] = PUBLIC_X_MAX
    return options.model_copy(update=chosen)


def anchor_limit(config: AlignConfig) -> int | None:
    """How many of the commonest anchors are used; None for all."""
    return config.num_anchors or (TOKALIGN_ANCHORS if config.method == "tokalign" else None)


def _mapping_options(config: AlignConfig, mapping: str) -> MappingOptions:
    preset = PRESETS.get(mapping) or PRESETS.get(config.method) or MappingOptions()
    if config.start == "unsupervised":
        if mapping in ("procrustes", "relative", "none") or config.self_learning is False:
            raise ConfigError(
                "An unsupervised start finds no more than a beginning: it needs the mapping vecmap with self_learning, "
                "or muse."
            )
        # Most pairs of such a start are wrong: they must be able to leave.
        grown = PRESETS["tokalign++"] if mapping == "vecmap" else preset
        preset = replace(grown, start="unsupervised", keep_seeds=False)
    changes = config.mapping_options.model_dump(exclude_none=True, exclude={"scale_relative"})
    if config.self_learning is not None:
        changes["self_learning"] = config.self_learning
    return replace(preset, **changes, csls_neighbors=config.csls_neighbors, seed=config.seed)


def choices(config: AlignConfig, options: MatchOptions) -> dict[str, Any]:
    """Every choice of this run that the papers leave open, for the manifest."""
    found: dict[str, Any] = {
        "anchors": f"equal {config.anchors}, commonest first",
        "num_anchors": anchor_limit(config) or "all",
        "space": options.space,
        "similarity": _similarity(options),
        "embeddings": embedding_options(config).model_dump(mode="json"),
        "view": view(config),
        "tokens_without_a_vector": "no source token" if config.method != "auto" else "spans and segmentation",
    }
    if options.space == "mapped":
        found["mapping"] = options.mapping.as_dict()
    return found


def _similarity(options: MatchOptions) -> str:
    if options.space != "relative":
        return f"CSLS, k = {options.csls_neighbors}" if options.csls_neighbors else "cosine"
    return "cosine" if options.scale_relative else "product of relative representations, as in the public code"


def view(config: AlignConfig) -> str:
    """Which view of the lexicon is written."""
    return config.view or ("top-k" if config.method == "auto" else "one-best")
