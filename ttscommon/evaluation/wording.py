"""Texts as words to compare: plain, with numbers written alike, or with disfluencies removed."""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

# Hesitation sounds by language, with runs of one letter written once: "hmmm" is "hm", and "m" is
# "mm" and longer (see NO_SOUNDS). Real words that also fill pauses ("like", "well", "ну") are no
# errors of speech and are not here.
FILLERS = {
    "de": {"äh", "ähm", "eh", "ehm", "hm", "m", "mh", "öh", "öhm"},
    "en": {"ah", "eh", "em", "er", "erm", "hm", "m", "mhm", "uh", "uhm", "um"},
    "es": {"eh", "em", "hm", "m", "mh"},
    "fr": {"ah", "euh", "euhm", "heu", "hm", "hum", "m"},
    "hi": {"अं", "अम्", "उम", "हम्", "hm", "m", "uh", "um"},
    "it": {"eh", "ehm", "hm", "m", "mh", "uhm"},
    "pt": {"ah", "ahn", "eh", "hm", "hum", "m"},
    "ru": {"э", "эм", "эх", "гм", "хм", "м"},
    "zh": {"嗯", "呃", "额"},
}
NO_SOUNDS = {"m", "м"}  # alone they are a unit or an initial: "6 m", "M. Smith"
MOST_REPEATS = 3  # a speaker who stutters says a thing up to three times; more is a machine's loop
LONGEST_REPEAT = 3  # words
SINGLE_LETTER_WORDS = "aio"  # of English; any other letter alone before its word is a false start

_SPACE = re.compile(r"\s+")
_RUN = re.compile(r"(.)\1+")
_NO_SPACES = re.compile("([\u3040-\u30ff\u3400-\u9fff])")  # kana and Han: written without spaces
_BREAK = "\u01c0"  # a letter of no language here, between two letters that spell nothing together
_ALONE, _NO_MORE = r"(?<!\w)(?<!\w['’])", r"(?!['’]?\w)"
_APART = re.compile(rf"({_ALONE}[a-z])[^\w'’]*[^\w\s.'’‑-][^\w'’]*(?=[a-z]{_NO_MORE})", re.I)
_SPELT = re.compile(  # "A.I.", "B-B-C"; in capitals also "F B I"
    rf"{_ALONE}(?:(?i:[a-z](?:[.‑-][a-z])+)|[A-Z](?: [A-Z]){{2,}}){_NO_MORE}"
)
_LETTERS, _DIGITS = (re.compile(rf"\b{one}(?: {one})+\b") for one in ("[a-z]", r"\d"))  # "b b c"
_POINT, _THOUSANDS = re.compile(r"(?<=\d)\.(?=\d)"), re.compile(r"(?<=\d),(?=\d{3})")
_SIGNS = str.maketrans("", "", "$£€¢%")
BROKEN_OFF = re.compile(r"^\W*[^\W\d_]+[-‑]\W*$")  # "go-", but neither "go--" nor "go—"
_VOWELS = re.compile("[aeiouyœæøаеёиоуыэюя]+")
_MARKS_OF_HINDI = "\u094d"  # virama: its consonant has no vowel


def plain_words(text: str) -> str:
    """Lower-case words with single spaces; apostrophes vanish, other punctuation separates.

    Combining marks stay: in Devanagari they are the vowels.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    text = text.replace("'", "").replace("’", "")
    letters = (" " if unicodedata.category(c)[0] in "PSC" else c for c in text)
    return _SPACE.sub(" ", "".join(letters)).strip()


def separate_words(text: str) -> list[str]:
    """The plain words; in scripts without spaces each character is one."""
    return _NO_SPACES.sub(r" \1 ", plain_words(text)).split()


def normal_words(text: str, language: str, *, fluent: bool = False) -> list[str]:
    """The words of a text as they are compared.

    In English "twenty-one" and "21" become the same word (openai-whisper's rules). What is spelt
    ("A B C", "9 1 1") is one word; letters with a comma and the like between them spell nothing. In
    scripts without spaces each character counts as a word.

    Args:
        fluent: remove hesitation sounds, false starts ("go- going") and immediate repeats
    """
    if fluent:
        text = " ".join(map(_without_false_start, text.split()))
    join = functools.partial(_joined, language=language)
    text = _APART.sub(rf"\1 {_BREAK} ", _SPELT.sub(_as_one_word, text))
    if _code(language) == "en":
        text = _POINT.sub(" point ", _THOUSANDS.sub("", text))
        text = _number_rules()(_DIGITS.sub(join, plain_words(text))).translate(_SIGNS)
    else:
        text = _DIGITS.sub(join, plain_words(text))
    words = _NO_SPACES.sub(r" \1 ", text).split()
    if fluent:
        words = _without_hesitations(words, language)
    words = _LETTERS.sub(join, " ".join(words)).split()
    words = [word for word in words if word != _BREAK]
    return without_repeats(words)[0] if fluent else words


def compared_words(
    wanted: str, heard: str, language: str, *, fluent: bool = False
) -> tuple[list[str], list[str]]:
    """The normal words of a text and of what was heard.

    Letters that stand in a row in one of them and as a word in the other count as that in the
    text: no ear tells "B, C, D" from "B C D" and "BCD".
    """
    text, found = (normal_words(one, language, fluent=fluent) for one in (wanted, heard))
    there, here = (f" {' '.join(words)} " for words in (text, found))
    for word in sorted({*found} - {*text}):
        letters = f" {' '.join(word)} "
        if letters in there:
            here = here.replace(f" {word} ", letters)
    for word in sorted({*text} - {*found}):
        here = here.replace(f" {' '.join(word)} ", f" {word} ")
    return text, here.split()


def count_fillers(text: str, language: str) -> int:
    """How many hesitation sounds a verbatim text has (most recognisers leave them out)."""
    return sum(fillers_among(separate_words(text), language))


def count_syllables(text: str, language: str) -> int:
    """About how many syllables the text has: groups of vowels, a silent final e in English apart.

    Han and kana count one each, Devanagari consonants unless a virama silences them.
    """
    total = 0
    for word in separate_words(text):
        groups = len(_VOWELS.findall(_bare(word)))
        if _code(language) == "en" and groups > 1 and re.search(r"[^aeiouyl]e$", word):
            groups -= 1
        if not groups and any("\u0900" <= c <= "\u097f" for c in word):
            groups = sum(unicodedata.category(c) == "Lo" for c in word)
            groups -= sum(c in _MARKS_OF_HINDI for c in word)
        total += max(1, groups)
    return total


def _bare(word: str) -> str:
    """Letters without accents."""
    apart = unicodedata.normalize("NFD", word)
    return "".join(c for c in apart if not unicodedata.combining(c))


def longest_loop(words: list[str]) -> tuple[int, list[str]]:
    """How often the most repeated run of words is said in a row, and the run (at most 8 words)."""
    best, gram = 1, words[:1]
    for size in range(1, min(8, len(words) // 2) + 1):
        for start in range(len(words) - size):
            count = _count_in_row(words, start, size)
            if count > best:
                best, gram = count, words[start : start + size]
    return best, gram


def false_starts(token: str) -> int:
    """How often a word was begun in vain before it: two in "g-g-going"."""
    return token.replace("‑", "-").count("-") - _without_false_start(token).count("-")


def _without_false_start(token: str) -> str:
    """ "go-" is nothing, "g-g-going" is "going"; "re-enter" and "no-nonsense" stay."""
    if BROKEN_OFF.match(token):
        return ""
    parts = token.replace("‑", "-").split("-")
    plain = [plain_words(part) for part in parts]
    n = 0
    while n + 1 < len(parts) and _is_false_start(plain, n):
        n += 1
    return "-".join(parts[n:])


def _is_false_start(parts: Sequence[str], n: int) -> bool:
    """Whether a part of a token is the beginning of the next, said in vain.

    More than a letter with a vowel may be a word or a prefix ("no-nonsense", "re-read"), unless it
    comes twice ("be-be-because").
    """
    part = parts[n]
    if not part or any(map(str.isdigit, part)) or not parts[n + 1].startswith(part):
        return False
    n_same = sum(other == part for other in parts)
    is_twice = n_same > 1 and any(other.startswith(part) for other in parts[n_same:])
    return len(part) == 1 or not _VOWELS.search(_bare(part)) or is_twice


def _without_hesitations(words: list[str], language: str) -> list[str]:
    """Without hesitation sounds, and without letters that are false starts."""
    are_fillers = fillers_among(words, language)
    words = [word for word, is_one in zip(words, are_fillers, strict=True) if not is_one]
    if _code(language) == "en":
        pairs = itertools.pairwise([*words, ""])
        words = [word for word, after in pairs if not _is_false_letter(word, after)]
    return words


def _as_one_word(spelt: re.Match[str]) -> str:
    """Letters whose dots, hyphens or capitals say that they are spelt; not "I-I" and loops."""
    letters = re.findall(r"\w", spelt[0])
    return "".join(letters) if len({*map(str.lower, letters)}) > 1 else spelt[0]


def _joined(spelt: re.Match[str], language: str) -> str:
    """Letters or digits said one by one as the word that they spell; loops stay, and one-letter
    words: those at either end in English ("plan B I"), all that are vowels elsewhere ("e i").
    """
    run = spelt[0].split()
    if len(set(run)) == 1 and len(run) > MOST_REPEATS:
        return spelt[0]
    if _code(language) != "en":
        return spelt[0] if all(map(_VOWELS.fullmatch, run)) else "".join(run)
    is_letter = [letter not in SINGLE_LETTER_WORDS for letter in run]
    if not any(is_letter):
        return spelt[0]
    first, end = is_letter.index(True), len(run) - is_letter[::-1].index(True)
    return " ".join([*run[:first], "".join(run[first:end]), *run[end:]])


def without_repeats(words: list[str]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Words without what is said again at once, and each phrase of up to 3 words once for each time
    that it is said again. Loops that nobody says stay.
    """
    again: list[tuple[str, ...]] = []
    for size in range(1, LONGEST_REPEAT + 1):
        words, found = _without_repeats(words, size)
        again += found
    return words, again


def is_filler(word: str, language: str, *, before: str = "") -> bool:
    """Whether a plain word (see `plain_words`) is a hesitation sound.

    Args:
        before: the plain word before it; behind a number "mm" is a unit
    """
    known = FILLERS.get(_code(language), FILLERS["en"])
    short = without_runs(word)
    is_unit = word in NO_SOUNDS or (short in NO_SOUNDS and before[-1:].isdigit())
    return not is_unit and (word in known or short in known)


def fillers_among(words: Sequence[str], language: str) -> list[bool]:
    """Which of the plain words of a text are hesitation sounds."""
    pairs = itertools.pairwise(["", *words])
    return [is_filler(word, language, before=before) for before, word in pairs]


def without_runs(word: str) -> str:
    """ "ummm" is "um"."""
    return _RUN.sub(r"\1", word)


def _is_false_letter(word: str, after: str) -> bool:
    alone = len(word) == 1 and word.isalpha() and word not in SINGLE_LETTER_WORDS
    return alone and len(after) > 1 and after.startswith(word)


def _without_repeats(words: list[str], size: int) -> tuple[list[str], list[tuple[str, ...]]]:
    kept, again, i = [], [], 0
    while i < len(words):
        count = _count_in_row(words, i, size)
        if size > 1 and len(set(words[i : i + size])) == 1:
            count = 1  # a loop of one word, looked at already
        if 1 < count <= MOST_REPEATS:
            kept += words[i : i + size]
            again += [tuple(words[i : i + size])] * (count - 1)
            i += count * size
        else:  # nothing repeated, or a loop that nobody says and that stays an error
            step = size * count if count > 1 else 1
            kept += words[i : i + step]
            i += step
    return kept, again


def _count_in_row(words: list[str], start: int, size: int) -> int:
    gram, count = words[start : start + size], 1
    while len(gram) == size and words[start + count * size : start + (count + 1) * size] == gram:
        count += 1
    return count


def _code(language: str) -> str:
    """The language of "en-us" is "en"."""
    return language.partition("-")[0].lower()


@functools.lru_cache(maxsize=1)
def _number_rules() -> Any:
    from whisper.normalizers.english import EnglishNumberNormalizer  # brings all of torch

    return EnglishNumberNormalizer()
