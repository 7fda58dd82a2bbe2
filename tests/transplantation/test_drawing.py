import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocabalign.transplantation.drawing import Draw, parts_of


def test_texts_are_drawn_evenly_and_whatever_their_order():
    texts = [f"document {number}" * (1 + number % 3) for number in range(500)]

    def drawn(order):
        draw = Draw(2_000)
        for text in order:
            draw.add(text)
        return draw.texts()

    found = drawn(texts)
    assert found == drawn(texts[::-1]) == drawn(texts * 2)
    assert 2_000 <= sum(len(text.encode()) for text in found) < 2_100
    numbers = [int(text.split("document ")[1]) for text in found]
    assert min(numbers) < 100 and max(numbers) > 400
    assert len(drawn(texts[:3])) == 3


@given(st.text(alphabet="ab \n", max_size=60))
def test_parts_are_the_text_in_pieces_that_end_before_words(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vocabalign.transplantation.drawing.SAMPLE_CHARACTERS", 10)
        parts = list(parts_of(text))
    assert "".join(parts) == text
    assert max(map(len, parts)) <= 10
    assert all(part[:1] in " \n" for part, last in zip(parts[1:], parts, strict=False) if {*last[5:]} & {*" \n"})
