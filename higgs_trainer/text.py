"""Text as the model reads it: one function for what is learned from and what is said.

The rules are those that Boson AI's own program applies before it speaks (marks of full width,
parentheses, degrees, events in brackets, a mark at the end), and for Arabic those of `TextConfig`.
Applied twice they change nothing more, so that what was prepared can be given again.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Literal

Language = Literal["ar", "en", "zh", "other"]

ENDS = (".", "!", "?", ",", ";", '"', "'", "</SE>", "</SE_e>")
OTHER_ENDS = tuple("؟،؛۔।॥")  # the original's program would add a full stop behind these
JOINERS = "\u200c\u200d"  # they shape Arabic and Indian scripts
TATWEEL = "\u0640"
# Signs above letters that are part of them, where no letter has both in one.
PARTS_OF_LETTERS = "\u0653\u0654\u0655"
PRESENTATION_FORMS = re.compile("[\ufb50-\ufdff\ufe70-\ufefc]+")
EASTERN = {ord(c): str(i % 10) for i, c in enumerate("٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹")}
EASTERN |= {ord("٫"): ".", ord("٬"): ",", ord("٪"): "%"}
FULL_WIDTH = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
MARKS: dict[int, str] = {
    **FULL_WIDTH,
    **str.maketrans({"。": ".", "、": ",", "，": ", ", "【": "[", "】": "]", "—": "-", "…": "..."}),
    **dict.fromkeys(map(ord, "“”「」『』《》"), '"'),
    **dict.fromkeys(map(ord, "‘’"), "'"),
    **str.maketrans({"℃": "°C", "℉": "°F"}),
}
AROUND = str.maketrans("()", "  ")
DEGREES = {"°C": " degrees Celsius", "°F": " degrees Fahrenheit"}
# The model's own tokens for what isn't speech: once, and from where to where.
ONCE, BEGINS, FINISHES = "<SE>[{}]</SE>", "<SE_s>[{}]</SE_s>", "<SE_e>[{}]</SE_e>"
EVENTS = {
    "laugh": ONCE.format("Laughter"),
    "cough": ONCE.format("Cough"),
    "applause": ONCE.format("Applause"),
    "cheering": ONCE.format("Cheering"),
    "music": ONCE.format("Music"),
    "music start": BEGINS.format("Music"),
    "music end": FINISHES.format("Music"),
    "sing start": BEGINS.format("Singing"),
    "sing end": FINISHES.format("Singing"),
    "humming start": BEGINS.format("Humming"),
    "humming end": FINISHES.format("Humming"),
}
TYPED_EVENT = re.compile(rf"(?<!>)\[({'|'.join(EVENTS)})\]", re.IGNORECASE)
EVENT = re.compile(r"<SE(_[se])?>.*?</SE(_[se])?>")
SPEAKER = re.compile(r"\[SPEAKER\d+\]")
LETTERS_OF_A_DIGIT = 4  # "three", "six", "ninety": what is said for one


def _option(default: str, words: str) -> Any:
    return field(default=default, metadata={"help": words})


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """What becomes of Arabic script."""

    arabic_tatweel: Literal["strip", "keep"] = _option(
        "strip", "the stroke that makes words longer on paper, and has no sound"
    )
    arabic_diacritics: Literal["keep", "strip"] = _option("keep", "signs of vowels and of doubling")
    arabic_digits: Literal["western", "keep"] = _option(
        "western", "0 to 9 in place of Eastern Arabic and Persian digits"
    )


def normalised(text: str, config: TextConfig) -> str:
    """The text as the model reads it; empty if nothing is left."""
    text = unicodedata.normalize("NFC", "".join(c for c in text if _is_visible(c)))
    text = PRESENTATION_FORMS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    text = text.translate(MARKS).translate(AROUND)
    if config.arabic_tatweel == "strip":
        text = text.replace(TATWEEL, "")
    if config.arabic_diacritics == "strip":
        text = "".join(c for c in text if not _is_arabic_diacritic(c))
    if config.arabic_digits == "western":
        text = text.translate(EASTERN)
    text = TYPED_EVENT.sub(lambda found: EVENTS[found[1].lower()], text)
    if language_of(text) == "en":
        for sign, words in DEGREES.items():
            text = text.replace(sign, words)
    lines = (" ".join(line.split()) for line in text.splitlines())
    text = unicodedata.normalize("NFC", "\n".join(line for line in lines if line))
    return text if not text or text.endswith((*ENDS, *OTHER_ENDS)) else text + "."


def language_of(text: str) -> Language:
    """The script that most letters are of; "en" stands for all Latin ones, "zh" for those of East
    Asia, in which a letter is a syllable."""
    counts: dict[Language, int] = dict.fromkeys(("en", "ar", "zh", "other"), 0)
    for letter in _spoken(text):
        if letter.isalpha():
            counts[_language_of_letter(letter)] += 1
    return max(counts, key=lambda language: counts[language])


def n_letters(text: str) -> int:
    """How much there is to say: letters without their signs, digits as the words they are."""
    kinds = [unicodedata.category(c) for c in _spoken(text) if c != TATWEEL]
    n_digits = kinds.count("Nd")
    return sum(kind.startswith("L") for kind in kinds) + LETTERS_OF_A_DIGIT * n_digits


def n_events(text: str) -> int:
    """Laughter, music and the like."""
    return len(EVENT.findall(text))


def words_of(text: str) -> str:
    """What is heard as words: without events and names of speakers."""
    return " ".join(TYPED_EVENT.sub(" ", _spoken(text)).split())


def has_speech(text: str) -> bool:
    """Whether there is anything to say."""
    return n_letters(text) > 0 or n_events(text) > 0


def _spoken(text: str) -> str:
    return SPEAKER.sub(" ", EVENT.sub(" ", text))


def _is_visible(letter: str) -> bool:
    if letter in JOINERS or letter.isspace():
        return True
    return unicodedata.category(letter) not in ("Cc", "Cf")


def _is_arabic_diacritic(letter: str) -> bool:
    if letter in PARTS_OF_LETTERS or unicodedata.category(letter) != "Mn":
        return False
    return unicodedata.name(letter, "").startswith("ARABIC")


def _language_of_letter(letter: str) -> Language:
    code = ord(letter)
    if letter.isascii() or 0xC0 <= code < 0x250 or 0x1E00 <= code < 0x1F00:
        return "en"
    if 0x600 <= code < 0x780 or 0x8A0 <= code < 0x900 or 0xFB50 <= code < 0xFF00:
        return "ar"
    is_syllable = 0x3040 <= code < 0xA000 or 0xAC00 <= code < 0xD7B0 or 0xF900 <= code < 0xFB00
    return "zh" if is_syllable else "other"
