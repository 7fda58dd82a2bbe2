"""The stages: documented settings, code that is there, nothing heavy until one runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from vocabalign.config import make_config
from vocabalign.errors import ArtifactError
from vocabalign.stages import STAGES, ReportConfig


@pytest.mark.parametrize("stage", STAGES)
def test_every_field_is_documented_and_every_input_is_a_field(stage):
    config_class = STAGES[stage].config_class
    assert all(field.description for field in config_class.model_fields.values())
    assert set(STAGES[stage].inputs) <= set(config_class.model_fields)
    root = Path(__file__).parents[1] / "vocabalign"
    assert all((root / package).is_dir() for package in STAGES[stage].packages)
    assert (
        root / (STAGES[stage].function.split(":")[0].removeprefix("vocabalign.").replace(".", "/") + ".py")
    ).is_file()


def test_settings_import_nothing_heavy():
    heavy = "{'torch', 'numpy', 'transformers'}"
    code = f"import sys, vocabalign.stages; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_an_artefact_in_the_way_is_refused_before_the_code_is_imported(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("x")
    with pytest.raises(ArtifactError, match="exists already"):
        STAGES["report"].run(make_config(ReportConfig, {"run": tmp_path, "out": tmp_path / "out"}))
