"""Texts in characters that a voice has read, for a voice that says which those are.

What it never read has untrained rows in its table of bytes and would come out as noise. So accents
are dropped, typographic marks become plain ones, English numbers become words, and what is left
over is left out and told.
"""

from __future__ import annotations

import functools
import logging
import unicodedata
from collections.abc import Callable

from ttscommon.errors import UserError

log = logging.getLogger(__name__)

# What a letter or mark can be written as, where the voice doesn't know it.
PLAIN = {
    **{"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."},
    **{"ß": "ss", "ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th"},
}


def readable(text: str, known: str, language: str) -> str:
    """The text in `known` characters; says in a warning what had to be left out.

    Raises:
        UserError: if no letter of it is left
    """
    if language.startswith("en") and any(c.isdigit() and c not in known for c in text):
        text = _english_normaliser()(text)
    kept = "".join(_plain(c, known) for c in text)
    kept = " ".join(kept.split())
    lost = unreadable(text, known)
    if not any(c.isalnum() for c in kept):
        raise UserError(
            f"this voice can't read '{text[:30]}': it never saw such letters",
            fix="write it in the letters of its language, or install espeak-ng",
        )
    if lost:
        log.warning("warning: left out, as this voice never read them: %s", " ".join(lost))
    return kept


def unreadable(text: str, known: str, kinds: str = "LNS") -> list[str]:
    """Characters that nothing in `known` stands for: letters (L), numbers (N) and symbols (S)."""
    strangers = (c for c in dict.fromkeys(text) if unicodedata.category(c)[0] in kinds)
    return [c for c in strangers if not _plain(c, known)]


def _plain(character: str, known: str) -> str:
    """The character, or what comes near it, in known ones; empty if nothing does."""
    bare = "".join(
        c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c)
    )
    near = PLAIN.get(character.lower(), bare)
    for candidate in (character, near, near.lower(), near.upper()):
        if candidate and all(c in known for c in candidate):
            return candidate
    return " " if character.isspace() else ""


@functools.cache
def _english_normaliser() -> Callable[[str], str]:
    """What writes numbers and abbreviations as words."""
    from wetext import Normalizer

    normaliser = Normalizer(lang="en", operator="tn")
    return lambda text: str(normaliser.normalize(text))
