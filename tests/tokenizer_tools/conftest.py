"""Tiny tokenizers of every kind, made once."""

import pytest

from tests.tokenizer_tools.toy import make_folders


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    return make_folders(tmp_path_factory.mktemp("tokenizers"))
