"""One thread for every training test: tiny models are slower with more. Two teachers for tiny students."""

import pytest
import torch

from tests.conftest import make_byte_level_tokenizer, make_llama, make_metaspace_tokenizer


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def twin(tmp_path_factory):
    """Another model with the tokenizer of ``tiny_llama``."""
    folder = tmp_path_factory.mktemp("twin")
    make_byte_level_tokenizer(folder)
    return make_llama(folder, 400, seed=9)


@pytest.fixture(scope="session")
def spaced(tmp_path_factory):
    """A model with a SentencePiece-like tokenizer, BOS and EOS apart."""
    folder = tmp_path_factory.mktemp("spaced")
    make_metaspace_tokenizer(folder)
    return make_llama(folder, 480, seed=5, hidden_size=48)
