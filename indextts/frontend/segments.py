"""Cutting tokens into segments that are spoken one by one.

The places are exactly the original's, oddities included, as the model is used to them: commas and
hyphens cut first and are merged again, a quotation mark behind a full stop is said twice, and a run
without any mark is cut after the maximum, one token, the maximum, and so on.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

log = logging.getLogger(__name__)

SENTENCE_ENDS = frozenset({".", "!", "?", "▁.", "▁?", "▁..."})
COMMAS = frozenset({",", "▁,"})
HYPHENS = frozenset({"-"})
QUOTES = frozenset({"'", "▁'"})


def split_segments(
    tokens: Sequence[str],
    max_tokens: int,
    quick_tokens: int = 0,
    *,
    marks: Collection[str] = SENTENCE_ENDS,
) -> list[list[str]]:
    """Cut at marks, then merge neighbours as long as they fit.

    Args:
        tokens: pieces of the tokenizer
        max_tokens: of a segment (one more where a quotation mark follows)
        quick_tokens: merge only up to half the maximum within so many first tokens, so that
            streaming has something to say soon

    Returns:
        lists of pieces
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be 1 or more, got {max_tokens}")
    segments: list[list[str]] = []
    current: list[str] = []
    for i, token in enumerate(tokens):
        current.append(token)
        inner = _inner_marks(token, marks)
        if inner:
            segments += split_segments(current, max_tokens, quick_tokens, marks=inner)
        elif len(current) > max_tokens:
            log.info("%d tokens without a mark to cut at; cut anywhere", len(current))
            segments += [current[:max_tokens], current[max_tokens:]]
        elif token in marks and len(current) > 2:
            quote = [t for t in tokens[i + 1 : i + 2] if t in QUOTES]
            segments.append(current + quote)
        else:
            continue
        current = []
    if current:
        segments.append(current)
    return _merged(segments, max_tokens, quick_tokens)


def _inner_marks(token: str, marks: Collection[str]) -> Collection[str]:
    """Finer marks to cut at as soon as one of them is read."""
    if token in COMMAS and not COMMAS & set(marks):
        return COMMAS
    return HYPHENS if token in HYPHENS and not HYPHENS & set(marks) else ()


def _merged(segments: list[list[str]], max_tokens: int, quick_tokens: int) -> list[list[str]]:
    merged: list[list[str]] = []
    n_tokens = 0
    for segment in segments:
        n_tokens += len(segment)
        together = len(merged[-1]) + len(segment) if merged else 0
        fits = together <= max_tokens and n_tokens > quick_tokens
        if merged and (fits or together <= max_tokens / 2):
            merged[-1] = merged[-1] + segment
        else:
            merged.append(segment)
    return merged
