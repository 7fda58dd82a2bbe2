"""Text from the standard library: real, the same each time, and split by module."""

from vocabalign.text.standard_library import cut_into_passages, documentation, is_heldout, passages


def test_passages_are_the_same_each_time_and_large_enough():
    first = [(p.module, p.text) for p in passages()]
    assert first == [(p.module, p.text) for p in passages()]
    assert 3e6 < sum(len(text.encode()) for _, text in first) < 2e7


def test_the_split_is_by_module_and_holds_out_a_few_percent():
    everything = list(passages())
    heldout = {p.module for p in everything if is_heldout(p.module)}
    training = {p.module for p in everything if not is_heldout(p.module)}
    assert not heldout & training
    share = sum(len(p.text) for p in everything if is_heldout(p.module)) / sum(len(p.text) for p in everything)
    assert 0.01 < share < 0.12


def test_tests_and_generated_tables_are_left_out():
    modules = {p.module.split(".")[0] for p in passages()}
    assert {"json", "email", "argparse"} <= modules
    assert not {"test", "idlelib", "encodings", "antigravity"} & modules


def test_cutting_loses_nothing():
    text = "import a\n\n\ndef f():\n    return 1\n\n" * 400
    pieces = list(cut_into_passages(text, max_bytes=500))
    assert "".join(pieces) == text and len(pieces) > 10
    assert all(piece.startswith(("import", "def")) for piece in pieces)


def test_documentation_is_prose_of_the_same_modules():
    modules = {p.module for p in passages()}
    docs = list(documentation())
    assert sum(len(p.text) for p in docs) > 5e5
    assert {p.module for p in docs} <= modules
