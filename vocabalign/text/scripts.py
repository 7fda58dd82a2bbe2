"""The script that a token is written in.

Python knows no script property, but the names of characters begin with it ("CYRILLIC SMALL LETTER A"), so nothing
has to be shipped. For letters, marks and numbers this agrees with ``Scripts.txt`` of Unicode (UAX 24) but for a few
hundred rare ones, such as modifier letters, which count as no script here.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

SEVERAL = "several scripts"
DIGITS = "digits"
SYMBOLS = "punctuation and symbols"
WHITE_SPACE = "white space"
FRAGMENT = "part of a character"
NO_TEXT = "no text"
OTHERS = (SEVERAL, DIGITS, SYMBOLS, WHITE_SPACE, FRAGMENT, NO_TEXT)
"""What a token may be that is written in no single script."""

# Names of the scripts of Unicode 16 as characters' names begin with them.
_NAMES = frozenset(
    """adlam,ahom,anatolian,arabic,armenian,avestan,balinese,bamum,bassa vah,batak,bengali,bhaiksuki,bopomofo,brahmi,
    buginese,buhid,canadian,carian,caucasian albanian,chakma,cham,cherokee,chorasmian,coptic,cuneiform,cypriot,
    cypro-minoan,cyrillic,deseret,devanagari,dives akuru,dogra,duployan,egyptian,elbasan,elymaic,ethiopic,garay,
    georgian,glagolitic,gothic,grantha,greek,gujarati,gunjala gondi,gurmukhi,gurung khema,hangul,hanifi rohingya,
    hanunoo,hatran,hebrew,hiragana,imperial aramaic,inscriptional pahlavi,inscriptional parthian,javanese,kaithi,
    kannada,katakana,kawi,kayah li,kharoshthi,khitan small script,khmer,khojki,khudawadi,kirat rai,lao,latin,lepcha,
    limbu,linear a,linear b,lisu,lycian,lydian,mahajani,makasar,malayalam,mandaic,manichaean,marchen,masaram gondi,
    medefaidrin,meetei mayek,mende kikakui,meroitic,miao,modi,mongolian,mro,multani,myanmar,nabataean,nag mundari,
    nandinagari,new tai lue,newa,nko,nushu,nyiakeng puachue hmong,ogham,ol chiki,ol onal,old hungarian,old italic,
    old north arabian,old permic,old persian,old sogdian,old south arabian,old turkic,old uyghur,oriya,osage,osmanya,
    pahawh hmong,palmyrene,pau cin hau,phags-pa,phoenician,psalter pahlavi,rejang,runic,samaritan,saurashtra,sharada,
    shavian,siddham,signwriting,sinhala,sogdian,sora sompeng,soyombo,sundanese,sunuwar,syloti nagri,syriac,tagalog,
    tagbanwa,tai le,tai tham,tai viet,takri,tamil,tangsa,tangut,telugu,thaana,thai,tibetan,tifinagh,tirhuta,todhri,
    toto,tulu-tigalari,ugaritic,vai,vithkuqi,wancho,warang citi,yezidi,yi,zanabazar square""".replace(
        "\n    ", ""
    ).split(",")
)
_ALIASES = {"cjk": "han", "hentaigana": "hiragana", "roman": "latin", "kangxi": "han", "rumi": "arabic"}
_SHAPES = frozenset({"HALFWIDTH", "FULLWIDTH", "COMBINING", "MODIFIER", "LETTER", "EXTENDED"})
_LONGEST_NAME = 3
_ASCII_LETTER = re.compile(rb"[A-Za-z]")
_ASCII_DIGIT = re.compile(rb"[0-9]")


@cache
def character_script(character: str) -> str | None:
    """``"Cyrillic"``; None for what belongs to no script: digits of ASCII, accents, punctuation, symbols."""
    if unicodedata.category(character)[0] not in "LMN":
        return None
    words = unicodedata.name(character, "").split()
    while words and words[0] in _SHAPES:
        words = words[1:]
    for count in range(_LONGEST_NAME, 0, -1):
        name = " ".join(words[:count]).lower()
        name = _ALIASES.get(name, name)
        if name in _NAMES or name == "han":
            return name.title()
    return None


def token_script(token: bytes | None) -> str:
    """The one script of a token's letters, or one of ``OTHERS``.

    Args:
        token: its bytes; None or no bytes for a token that stands for no text.
    """
    if not token:
        return NO_TEXT
    if token.isascii():
        if _ASCII_LETTER.search(token):
            return "Latin"
        if _ASCII_DIGIT.search(token):
            return DIGITS
        return WHITE_SPACE if token.isspace() else SYMBOLS
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return FRAGMENT
    scripts = {character_script(character) for character in text} - {None}
    if scripts:
        return scripts.pop() or SYMBOLS if len(scripts) == 1 else SEVERAL
    if text.isspace():
        return WHITE_SPACE
    return DIGITS if any(character.isnumeric() for character in text) else SYMBOLS
