"""The page and pictures of a comparison."""

import re

import pytest

from tests.test_comparison_records import made
from vocabalign.report import compare_page
from vocabalign.report.compare_page import render_comparison, write_pictures

EVIL = '<script>alert("x")</script>'


@pytest.fixture(params=[False, True])
def result(request):
    result = made(request.param)[1]
    result["source"]["path"], result["target"], result["tied"] = f"models/{EVIL.replace('/', '')}", "tokenizers/t", True
    for row in result["methods"]:
        row |= {"input_rows": "last", "head_rows": "first", "head_calibrated": True}
        row["classes"] = {"identical": 10, "segmentation": 5, "mean": 0}
    return result


def test_the_page_tells_everything_and_escapes_names(result):
    page = render_comparison(result)
    assert EVIL.replace("/", "") not in page and "&lt;script&gt;" in page
    assert "http" not in re.sub(r"http-equiv", "", page).replace("http://www.w3.org", "")
    for row in result["methods"]:
        assert f"{row['bits_per_byte']:.4f}" in page
    assert ("after training" in page) == bool(result["finetune_steps"]) and "one matrix" in page
    assert "identical" in page and "<svg" in page and len(re.findall(r"<tr", page)) > 10


def test_pictures_are_the_same_each_time(result, tmp_path):
    first = {path.name: path.read_bytes() for path in write_pictures(result, tmp_path)}
    second = {path.name: path.read_bytes() for path in write_pictures(result, tmp_path)}
    assert first == second and set(first) == {"comparison.svg", "comparison.png"}
    assert (b"steps" in first["comparison.svg"]) == bool(result["finetune_steps"])


def test_without_matplotlib_there_is_a_page_without_a_picture(result, tmp_path, monkeypatch):
    monkeypatch.setattr(compare_page, "can_draw", lambda: False)
    assert write_pictures(result, tmp_path) == [] and "<svg" not in render_comparison(result)
