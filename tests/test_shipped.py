"""The pipelines and configurations that come with vocabalign."""

from vocabalign.shipped import find_shipped, shipped_files


def test_only_shipped_pipelines_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("quickstart", "quickstart.yaml", "pipelines/quickstart.yaml"):
        assert find_shipped(name).endswith("pipelines/quickstart.yaml")
    for name in ("finetune.yaml", "typo/quickstart.yaml", "nonsense"):
        assert find_shipped(name) == name
    assert {path.parent.name for path in shipped_files()} == {"pipelines", "configs"}
