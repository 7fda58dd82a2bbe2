"""Where rows came from, asked of a model folder."""

import json
import shutil

import pytest
import torch

import vocabalign
from vocabalign.config import make_config
from vocabalign.errors import ArtifactError, ConfigError
from vocabalign.row_origins import explain_rows
from vocabalign.stages import STAGES, TransplantConfig
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.transplantation.checkpoint import open_checkpoint


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_llama, metaspace_folder, corpus_file):
    out = tmp_path_factory.mktemp("origins") / "model"
    values = {"source": str(tiny_llama), "target": str(metaspace_folder), "corpus": [str(corpus_file)], "out": out}
    values |= {"input_rows": "fvt", "head_rows": "mean", "calibrate_head": False, "pad_to_multiple_of": 64}
    return STAGES["transplant"].run(make_config(TransplantConfig, values))


def test_every_row_of_the_model_is_what_its_origin_says(made, tiny_llama):
    new, old = open_checkpoint(made), open_checkpoint(tiny_llama)
    source = load_vocabulary(tiny_llama)
    origins = explain_rows(made, range(new.num_rows))
    for name, side in (("input", "embedding"), ("head", "head")):
        rows, sources = new.read(getattr(new, side)).float(), old.read(getattr(old, side)).float()
        for origin in origins:
            parts = getattr(origin, name)
            if origin.kind == "padding":
                assert origin.token == "" and not parts
                continue
            expected = sum(part.weight * sources[part.source_id] for part in parts) if parts else sources.mean(0)
            assert torch.allclose(rows[origin.id], expected, atol=1e-3), origin
            assert all(part.token for part in parts if part.source_id not in source.special_ids)
    kinds = {(origin.kind, origin.head_kind) for origin in origins}
    assert ("identical", "identical") in kinds and ("mean", "mean") in kinds


def test_the_two_sides_may_come_from_different_places(tmp_path, tiny_llama, metaspace_folder):
    values = {"source": str(tiny_llama), "target": str(metaspace_folder), "out": tmp_path / "out"}
    values |= {"input_rows": "zero", "head_rows": "first"}
    out = STAGES["transplant"].run(make_config(TransplantConfig, values))
    told = [(origin.kind, origin.head_kind) for origin in explain_rows(out, range(400))]
    assert ("drawn", "segmentation") in told and ("identical", "identical") in told


def test_tokens_are_found_by_name_and_the_least_certain_by_default(made):
    vocabulary = load_vocabulary(made)
    wanted = [i for i, raw in enumerate(vocabulary.raw_tokens) if raw.startswith("▁") and len(raw) > 2][:5]
    by_id = vocabalign.explain_rows(str(made), wanted)
    assert [vocabalign.explain_rows(str(made), [vocabulary.raw_tokens[i]])[0] for i in wanted] == by_id
    assert vocabalign.explain_rows(str(made), [by_id[0].token]) == by_id[:1]
    least = json.loads((made / "provenance.json").read_text())["least_certain"]
    assert [origin.id for origin in explain_rows(made)] == [entry["id"] for entry in least] != []


def test_without_the_source_ids_are_left(made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "copy")
    provenance = json.loads((folder / "provenance.json").read_text())
    (folder / "provenance.json").write_text(json.dumps({**provenance, "source": str(tmp_path / "gone")}))
    parts = [part for origin in explain_rows(folder, range(300)) for part in origin.input]
    assert parts and not any(part.token for part in parts)


def test_what_is_wrong_is_told(made, tmp_path):
    with pytest.raises(ConfigError, match="There is no token 'nonsense!'"):
        explain_rows(made, ["nonsense!"])
    with pytest.raises(ConfigError, match="There is no row 100,000"):
        explain_rows(made, [100_000])
    folder = shutil.copytree(made, tmp_path / "copy")
    provenance = json.loads((folder / "provenance.json").read_text())
    (folder / "provenance.json").write_text(json.dumps({**provenance, "classes": [1, 2]}))
    with pytest.raises(ArtifactError, match="another form"):
        explain_rows(folder, [200])
    (folder / "provenance.json").unlink()
    with pytest.raises(ArtifactError, match="written by 'vocabalign transplant'"):
        explain_rows(folder)
