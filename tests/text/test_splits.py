"""A hash of the text splits evenly, independently for each salt, and the same whatever the parts."""

import numpy as np

from vocabalign.text.splits import SAMPLE, as_fraction, text_fraction, text_hash


def test_fractions_are_even_and_salts_independent():
    texts = [f"text {number}" for number in range(4000)]
    split, sample = (np.array([text_fraction(text, *salt) for text in texts]) for salt in ((), (SAMPLE,)))
    for values in (split, sample):
        counts, _ = np.histogram(values, bins=10, range=(0, 1))
        assert counts.sum() == 4000 and counts.min() > 320 and counts.max() < 480
    assert abs(np.corrcoef(split, sample)[0, 1]) < 0.08


def test_parts_and_whole():
    state = text_hash()
    for part in ("Äpf", "el"):
        state.update(part.encode())
    assert as_fraction(state) == text_fraction("Äpfel")
