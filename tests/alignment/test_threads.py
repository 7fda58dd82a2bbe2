from __future__ import annotations

import torch

from vocabalign.alignment.threads import one_thread_each


def test_each_thread_has_one_and_the_number_is_put_back():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_thread_each(2) as pool:
            assert set(pool.map(lambda _: torch.get_num_threads(), range(4))) == {1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
