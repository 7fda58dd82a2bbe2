"""vocabalign: give a pretrained language model another vocabulary, and let models learn from each other.

The functions below are imported when they are first used, so that ``import vocabalign`` is quick.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vocabalign.api import align, distill, evaluate, finetune, transplant
    from vocabalign.exchange import export_artifact, import_embeddings, import_lexicon
    from vocabalign.row_origins import explain_rows

try:
    __version__ = version("vocabalign")
except PackageNotFoundError:
    __version__ = "0+unknown"

__all__ = [
    "__version__",
    "align",
    "distill",
    "evaluate",
    "explain_rows",
    "export_artifact",
    "finetune",
    "import_embeddings",
    "import_lexicon",
    "transplant",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from vocabalign import api, exchange, row_origins

        return getattr(next(module for module in (api, exchange, row_origins) if hasattr(module, name)), name)
    raise AttributeError(f"module 'vocabalign' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
