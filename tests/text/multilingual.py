"""Text of many scripts for property tests, with the places where tokenizers lose something."""

from hypothesis import strategies as st

# First and last letter of a stretch of each script that Unicode has had for long.
SCRIPTS = {
    "Latin": "az", "Cyrillic": "\u0430\u044f", "Greek": "\u03b1\u03c9", "Armenian": "\u0561\u0586",
    "Hebrew": "\u05d0\u05ea", "Arabic": "\u0627\u064a", "Syriac": "\u0710\u072c", "Thaana": "\u0780\u07a5",
    "Devanagari": "\u0905\u0939", "Bengali": "\u0995\u09b9", "Gurmukhi": "\u0a15\u0a39", "Gujarati": "\u0a95\u0ab9",
    "Tamil": "\u0b95\u0bb9", "Telugu": "\u0c15\u0c39", "Kannada": "\u0c95\u0cb9", "Malayalam": "\u0d15\u0d39",
    "Sinhala": "\u0d9a\u0dc6", "Thai": "\u0e01\u0e2e", "Lao": "\u0e81\u0eae", "Tibetan": "\u0f40\u0f6a",
    "Myanmar": "\u1000\u1020", "Georgian": "\u10d0\u10f0", "Hangul": "\uac00\ud7a3", "Ethiopic": "\u1200\u1248",
    "Cherokee": "\u13a0\u13f4", "Khmer": "\u1780\u17a2", "Mongolian": "\u1820\u1842", "Hiragana": "\u3041\u3094",
    "Katakana": "\u30a1\u30f4", "Han": "\u4e00\u9fa0", "Rare Han": "\U00020000\U0002a000",
    "Gothic": "\U00010330\U0001034a",
}  # fmt: skip
ODDITIES = (
    "\r\n", "\r", "\n\n\n", "\t", "\x00", "\x01", "\x7f", "\u00a0", "\u3000", "\u2028", "\u200b", "\ufeff", "\ufffd",
    "\u0301", "\u0300\u0323", "e\u0301", "\u1e9b\u0323", "\ufb01", "\uff11", "\u0e33", "\u093f", "\u200d", "\ufe0f",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f3f4\U000e0067\U000e0062\U000e007f",
    "\U0001f1e9\U0001f1ea", "\U0001f44d\U0001f3fd", "\u2764\ufe0f\u200d\U0001f525", "\U0010ffff", "\ue000",
    "it's", "DON'T", "1234567", "3.14", "  ", " ", "a", "A", ".", "\u0120", "</w>", "##x", "0x0A",
)  # fmt: skip

letters = st.sampled_from(sorted(SCRIPTS)).flatmap(
    lambda name: st.text(
        st.characters(min_codepoint=ord(SCRIPTS[name][0]), max_codepoint=ord(SCRIPTS[name][1])), max_size=6
    )
)
runs = st.builds(
    lambda character, length: character * length,
    st.sampled_from(["a", " ", "\n", "\u0436", "\u0301", "\U0001f600", "0", "=", "\u4e00"]),
    st.sampled_from([2, 17, 64, 300]),
)
anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581<["), max_size=6)
texts = st.lists(st.one_of(letters, st.sampled_from(ODDITIES), runs, anything), max_size=8).map("".join)
