"""The pipelines and configurations that come with vocabalign."""

from __future__ import annotations

import site
import sysconfig
from pathlib import Path

from vocabalign.progress import logger


def shipped_files() -> list[Path]:
    """Pipelines and configurations: beside the package in a checkout, under share/ when installed."""
    root = Path(__file__).resolve().parents[1]
    installed = [Path(base) / "share" / "vocabalign" for base in (sysconfig.get_path("data"), site.getuserbase())]
    roots = [root] if (root / "pipelines").is_dir() else [base for base in installed if base.is_dir()][:1]
    return sorted(path for base in roots for kind in ("pipelines", "configs") for path in (base / kind).glob("*.yaml"))


def find_shipped(path: str) -> str:
    """A pipeline that is no file here but a shipped one's name: NAME, NAME.yaml or pipelines/NAME.yaml."""
    if Path(path).exists():
        return path
    for shipped in shipped_files():
        if shipped.parent.name == "pipelines" and path in (shipped.stem, shipped.name, f"pipelines/{shipped.name}"):
            logger.info("running the pipeline that ships with vocabalign: %s", shipped)
            return str(shipped)
    return path
