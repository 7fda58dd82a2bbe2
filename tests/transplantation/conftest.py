"""One tiny model that is not changed, and its body to be run."""

import pytest
import torch

from tests.transplantation.builders import build
from vocabalign.transplantation.running import Body


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return build("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def body(model):
    return Body(model, dtype=torch.float32, device=torch.device("cpu"))
