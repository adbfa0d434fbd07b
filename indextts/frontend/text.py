"""What is to be said, piece by piece: segments of text and explicit pauses."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from indextts.frontend.segments import split_segments
from indextts.frontend.tokenizer import TextTokenizer
from ttscommon.errors import UserError

log = logging.getLogger(__name__)

Seconds = float
PAUSE = re.compile(r"\[pause:([^\[\]]*)\]", re.IGNORECASE)
NUMBER = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*s?\s*", re.IGNORECASE)
MAX_PAUSE: Seconds = 60.0


@dataclass(frozen=True)
class Pause:
    """Silence that was asked for by `[pause:0.8]`."""

    duration: Seconds


@dataclass(frozen=True)
class Segment:
    """Text that is spoken in one go.

    Attributes:
        pieces: of the tokenizer
        ids: their numbers
    """

    pieces: tuple[str, ...]
    ids: tuple[int, ...]


def split_pauses(text: str) -> list[str | Pause]:
    """Text and pauses in turn, empty text left out, pauses in a row added up.

    Raises:
        UserError: for a pause that isn't a number of seconds from 0 to 60
    """
    parts: list[str | Pause] = []
    for i, part in enumerate(PAUSE.split(text)):
        if i % 2 == 0:
            if part.strip():
                parts.append(part)
            continue
        pause = _pause(part)
        if parts and isinstance(before := parts[-1], Pause):
            parts[-1] = Pause(before.duration + pause.duration)
        else:
            parts.append(pause)
    return parts


def plan(
    tokenizer: TextTokenizer, text: str, *, max_tokens: int = 120, quick_tokens: int = 0
) -> list[Segment | Pause]:
    """Everything to be rendered for a text, in order.

    Args:
        max_tokens, quick_tokens: see `split_segments`

    Raises:
        UserError: if nothing can be said: empty text, pauses alone, only unknown characters
    """
    planned: list[Segment | Pause] = []
    for part in split_pauses(text):
        if isinstance(part, Pause):
            planned.append(part)
            continue
        for pieces in split_segments(tokenizer.pieces(part), max_tokens, quick_tokens):
            planned.append(Segment(tuple(pieces), tuple(tokenizer.ids(pieces))))
    segments = [item for item in planned if isinstance(item, Segment)]
    if not segments:
        raise UserError("there is no text to speak")
    unknown = [
        piece
        for segment in segments
        for piece, number in zip(segment.pieces, segment.ids, strict=True)
        if number == tokenizer.unknown_id
    ]
    if unknown:
        shown = " ".join(sorted(set(unknown))[:20])
        if not any(_says_something(tokenizer, segment) for segment in segments):
            raise UserError(f"the tokenizer knows none of these characters: {shown}")
        log.warning("%d unknown pieces will be skipped or guessed: %s", len(unknown), shown)
    return planned


def _says_something(tokenizer: TextTokenizer, segment: Segment) -> bool:
    """It has a known piece besides the mark of a word's beginning."""
    return any(
        number != tokenizer.unknown_id and piece.strip("▁")
        for piece, number in zip(segment.pieces, segment.ids, strict=True)
    )


def _pause(written: str) -> Pause:
    number = NUMBER.fullmatch(written)
    if number is None or float(number[1]) > MAX_PAUSE:
        raise UserError(
            f"[pause:{written}] is not a number of seconds from 0 to {MAX_PAUSE:g}",
            fix="write [pause:0.8]",
        )
    return Pause(float(number[1]))
