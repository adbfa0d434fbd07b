"""Long texts in pieces: at sentences, else at clauses, else between words."""

from __future__ import annotations

import re
from collections.abc import Callable

import sentencex

CLAUSE_END = re.compile(r"(?<=[,;:.!?…।॥—–؟،؛۔])\s+")
Split = Callable[[str], list[str]]


def sentences(text: str, language: str) -> list[str]:
    """The sentences of a text with one space between words; cut between words only."""
    found: list[str] = []
    is_whole = False
    for piece in sentencex.segment(language.split("-")[0] or "en", text):  # pyright: ignore
        if found and not is_whole:
            found[-1] += piece  # "a?b" was taken for two sentences
        else:
            found.append(piece)
        is_whole = found[-1].endswith((" ", "。", "！", "？"))
    if "".join(found) != text:
        return [text]
    return [sentence.strip() for sentence in found]


def fitted(
    text: str, most: int, *, size: Callable[[str], int] = len, language: str | None = None
) -> list[str]:
    """A text in pieces of at most `most`, as few as there can be.

    It is cut after sentences, if their language is known; a longer one after clauses, then between
    words, at last between characters.

    Args:
        size: of a piece, in what `most` counts
    """
    if size(text) <= most:
        return [text]
    splitters: list[tuple[Split, str]] = [
        (CLAUSE_END.split, " "),
        (str.split, " "),
        (list, ""),
    ]
    if language is not None:
        splitters.insert(0, (lambda whole: sentences(whole, language), " "))
    cuts = ((split(text), glue) for split, glue in splitters)
    parts, glue = next(((cut, glue) for cut, glue in cuts if len(cut) > 1), ([text], ""))
    if len(parts) == 1:
        return parts  # one character, which may be larger than `most`
    pieces: list[str] = []
    for part in parts:
        for piece in fitted(part, most, size=size):
            joined = f"{pieces[-1]}{glue}{piece}" if pieces else ""
            if pieces and size(joined) <= most:
                pieces[-1] = joined
            else:
                pieces.append(piece)
    return pieces
