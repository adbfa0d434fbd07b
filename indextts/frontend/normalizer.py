"""Written text -> text as it is read aloud: numbers, units, dates, punctuation.

The order of the steps is the original's. What must pass the engine unchanged (pinyin, names,
hyphens, pronunciations) is swapped for placeholders before it and put back after it.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol

from ttscommon.config import read_mapping
from ttscommon.errors import UserError

log = logging.getLogger(__name__)

Language = Literal["zh", "en"]
Glossary = Mapping[str, Mapping[str, str] | str]

CHINESE = re.compile(r"[\u4e00-\u9fff]")
LATIN = re.compile(r"[a-zA-Z]")
EMAIL = re.compile(r"[a-zA-Z0-9]+@[a-zA-Z0-9]+\.[a-zA-Z]+")
PINYIN = re.compile(
    r"(?<![a-z])(?:(?:[bpmfdtnlgkhjqxzcsryw]|[zcs]h)?"
    r"(?:[aeiouüv]|[ae]i|u[aio]|ao|ou|i[aue]|[uüv]e|[uvü]ang?|uai|[aeiuv]n|[aeio]ng|ia[no]|i[ao]ng)"
    r"|ng|er)[1-5]",
    re.IGNORECASE,
)
FRONTED = re.compile(r"([jqx])[uü]((?:n|e|an)*[1-5])", re.IGNORECASE)  # u is read ü after j, q, x
# Words and names are looked for from their beginnings only, and given up without going back: the
# time for 20,000 letters without a space would otherwise grow with their square.
NAME = re.compile(r"(?<![\u4e00-\u9fff])[\u4e00-\u9fff]++(?:[-·—][\u4e00-\u9fff]++){1,2}")
PRONUNCIATION = re.compile(r"<[^<>|]+\|[^<>|]+>")
COMPOUND = re.compile(r"(?<![A-Za-z])[A-Za-z][A-Za-z0-9]*+(?:-[A-Za-z0-9]++)+")
HYPHEN = re.compile(r"\s*<H>\s*")
CONTRACTION = re.compile(
    "(what|where|who|which|how|t?here|it|s?he|that|this)'s", re.IGNORECASE
)  # wherever it stands, as in the original: "rabbit's" too
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # they stop the engine
# Where a long text may be cut for the engine: behind a plain word (no "Mr." or "p.m.") or a Chinese
# full stop, so that nothing the engine reads as one is parted.
SENTENCE_END = {
    "en": re.compile(r"(?<=[a-z]{5}[.!?]) (?=[A-Z][a-z])"),
    "zh": re.compile(r"(?<=[\u4e00-\u9fff][。！？])(?=[\u4e00-\u9fff])"),
}
GAP = {"en": " ", "zh": ""}  # what was between two parts there
LONG = 500  # characters; the engine takes longer for each of them in longer texts
WORTH_TELLING = 5_000  # characters, a second or more
ESCAPED = re.compile(r'\\(["\\])')  # wetext's English grammar leaves its escapes in

REPLACED = {
    **dict.fromkeys("：；;，:、", ","),
    "。": ".",
    "！": "!",
    "？": "?",
    "\n": " ",
    **dict.fromkeys("·—～~", "-"),
    **dict.fromkeys(("...", ",,,", "……"), "…"),
    **dict.fromkeys('“”"‘’（）()《》【】[]「」', "'"),
}
REPLACED_IN_CHINESE = {**REPLACED, "$": "."}


class Engine(Protocol):
    """What reads numbers, dates and units out."""

    def normalize(self, text: str) -> str: ...


def is_read_as_chinese(text: str) -> bool:
    """Which engine reads a text: anything without Latin letters is Chinese too."""
    if CHINESE.search(text) or not LATIN.search(text) or EMAIL.fullmatch(text):
        return True
    return PINYIN.search(text) is not None


class Normalizer:
    """Args: engines by language (default: wetext, loaded when first needed), and a glossary."""

    def __init__(
        self, engines: Mapping[Language, Engine] | None = None, glossary: Glossary | None = None
    ):
        self._engines = engines
        self.glossary: dict[str, Mapping[str, str] | str] = dict(glossary or {})

    def normalize(self, text: str) -> str:
        """The text as it will be tokenized."""
        text, pronunciations = _hide(PRONUNCIATION, CONTROL.sub("", text), _pronunciation)
        is_chinese = is_read_as_chinese(text)
        language: Language = "zh" if is_chinese else "en"
        text = self._apply_glossary(CONTRACTION.sub(r"\1 is", text), language)
        text = COMPOUND.sub(lambda found: found[0].replace("-", "<H>"), text).rstrip()
        if is_chinese:
            text, pinyin = _hide(PINYIN, text, lambda i: f"<pinyin_{_letters(i)}>")
            text, names = _hide(NAME, text, lambda i: f"<n_{_letters(i)}>")
            text = _show(self._read_aloud(text, language), names)
            text = _show(text, {mark: _corrected(word) for mark, word in pinyin.items()})
        else:
            text = self._read_aloud(text, language)
        text = _replaced(HYPHEN.sub("-", text), REPLACED_IN_CHINESE if is_chinese else REPLACED)
        return _show(text, pronunciations)

    def load_glossary(self, path: Path) -> None:
        """Add the terms of a YAML file: `term: {en: reading, zh: reading}` or `term: reading`."""
        for term, readings in read_mapping(path).items():
            values = readings.values() if isinstance(readings, dict) else [readings]
            if not term or not all(isinstance(value, str) for value in values):
                raise UserError(f"bad reading of '{term}': {readings}", where=path)
            self.glossary[str(term)] = readings

    def _apply_glossary(self, text: str, language: Language) -> str:
        for term in sorted(self.glossary, key=len, reverse=True):
            readings = self.glossary[term]
            reading = readings if isinstance(readings, str) else readings.get(language, term)
            pattern = re.compile(re.escape(term), re.IGNORECASE)
            text = pattern.sub(lambda _, reading=reading: reading, text)
        return text

    def _read_aloud(self, text: str, language: Language) -> str:
        if not text:
            return ""
        if self._engines is None:
            self._engines = _wetext()
        engine = self._engines[language]
        if len(text) >= WORTH_TELLING:
            log.info("normalising %d characters", len(text))
        return GAP[language].join(_said(engine, part) for part in _in_parts(text, language))


def _said(engine: Engine, text: str) -> str:
    try:
        return engine.normalize(text)
    except (AssertionError, RuntimeError, ValueError) as error:
        log.warning("left as written, the normaliser failed (%s): %.60s", error, text)
        return text


def _in_parts(text: str, language: Language) -> list[str]:
    """Whole sentences, together no longer than `LONG` where they end so often."""
    if len(text) < LONG:
        return [text]
    parts: list[str] = []
    for sentence in SENTENCE_END[language].split(text):
        if parts and len(parts[-1]) + len(sentence) < LONG:
            parts[-1] += GAP[language] + sentence
        else:
            parts.append(sentence)
    return parts


class _WeText:
    """wetext with the original's settings, and without the escapes its English leaves in."""

    def __init__(self, language: Language):
        from wetext import Normalizer as WeText

        self._engine = WeText(remove_erhua=False, lang=language, operator="tn")
        self._escapes = language == "en"

    def normalize(self, text: str) -> str:
        said = str(self._engine.normalize(text))
        return ESCAPED.sub(r"\1", said) if self._escapes else said


@functools.cache
def _wetext() -> Mapping[Language, Engine]:
    return {"zh": _WeText("zh"), "en": _WeText("en")}


def _hide(
    pattern: re.Pattern[str], text: str, placeholder: Callable[[int], str]
) -> tuple[str, dict[str, str]]:
    """The text with placeholders for what was found, and what they stand for."""
    marks: dict[str, str] = {}

    def mark(found: re.Match[str]) -> str:
        return marks.setdefault(found[0], placeholder(len(marks)))

    hidden = pattern.sub(mark, text)
    return hidden, {mark: word for word, mark in marks.items()}


def _show(text: str, marks: Mapping[str, str]) -> str:
    for mark, word in marks.items():
        text = text.replace(mark, word)
    return text


def _letters(i: int) -> str:
    """0 -> a, 25 -> z, 26 -> aa: the engine would read digits out."""
    return (_letters(i // 26 - 1) if i >= 26 else "") + chr(ord("a") + i % 26)


def _pronunciation(i: int) -> str:
    return f"PRONPLACEHOLDER{_letters(i)}PRONPLACEHOLDER"


def _corrected(pinyin: str) -> str:
    """ju4 -> JV4: the tokenizer writes ü as V; other pinyin stays as it is."""
    if pinyin[0].lower() not in "jqx":
        return pinyin
    return FRONTED.sub(r"\1v\2", pinyin).upper()


def _replaced(text: str, replaced: Mapping[str, str]) -> str:
    pattern = "|".join(map(re.escape, replaced))
    return re.sub(pattern, lambda found: replaced[found[0]], text)
