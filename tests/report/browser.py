"""A real browser for tests of pages; they are skipped where none is installed."""

from __future__ import annotations

import base64
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]


def scale_benchmark() -> ModuleType:
    """``benchmarks/report_scale.py``, which has the browser and the large run."""
    if "report_scale" not in sys.modules:
        spec = importlib.util.spec_from_file_location("report_scale", ROOT / "benchmarks" / "report_scale.py")
        sys.modules["report_scale"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["report_scale"])
    return sys.modules["report_scale"]


def emulate(browser: Any, width: int, dark: bool = False) -> None:
    """A screen of this width, light or dark; a narrow one is a phone's."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    scheme += [{"name": "prefers-reduced-motion", "value": "reduce"}]  # a click must not wait for a scroll
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})


def screenshot(browser: Any) -> bytes:
    """The whole page as PNG."""
    height = min(browser.execute_script("return document.documentElement.scrollHeight"), 8000)
    width = browser.execute_script("return document.documentElement.clientWidth")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return base64.b64decode(shot["data"])


def complaints(browser: Any) -> list[str]:
    """What the console says that is no mere information."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
