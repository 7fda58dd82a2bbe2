import numpy as np

from tests.alignment.toy import make_vocabulary, running_text_uses
from vocabalign.lexicon import Lexicon
from vocabalign.transplantation.sources import TokenClass, find_sources


def test_idle_tokens_take_idle_rows_or_the_mean_and_never_a_used_row():
    source = running_text_uses(make_vocabulary([b"a", b"  ", b"  ", b"x"]), {1: 2})
    target = running_text_uses(make_vocabulary([b"  ", b"  ", b"x", b"x", b"a"]), {0: 1, 2: 3})
    ids = np.zeros((5, 1), np.int32)
    ones = np.ones((5, 1), np.float32)
    lexicon = Lexicon(ids, ones, np.full(5, 4, np.uint8), ones[:, 0], source.fingerprint, target.fingerprint)
    for given in (None, lexicon):
        sources = find_sources(source, target, len(source), given, {})
        assert [sources.pieces.of(i).tolist() for i in range(5)] == [[1], [2], [], [3], [0]]
        assert sources.classes.tolist() == [0, 0, TokenClass.MEAN, 0, 0]
        for method in ("last", "lexicon") if given else ("last",):
            assert sources.weigh(method, "head")[0][2].nnz == 0
