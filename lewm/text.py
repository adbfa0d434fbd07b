"""Text as the network reads it: UTF-8 bytes of the letters or of their phonemes."""

from __future__ import annotations

import functools
import re
import subprocess
import unicodedata
from collections.abc import Callable

import sentencex

from ttscommon.errors import UserError

PAD, BOS, EOS = 0, 257, 258  # byte b is id b + 1
VOCABULARY = 259
MAX_TEXT_BYTES = 1024

# Joiners shape Devanagari and Arabic script; other invisible characters carry no sound.
_JOINERS = "\u200c\u200d"
_CLAUSE_MARK = re.compile(r"([,;:.!?…।॥—–]+)(?=\s|$)")
_CLAUSE_END = re.compile(r"(?<=[,;:.!?…।॥—–])\s+")
# espeak-ng says "(en)hello(hi)" where it changes language inside a text.
_LANGUAGE_CHANGE = re.compile(r"\([a-z]{2,3}(?:-[a-z0-9-]+)?\)")


def clean(text: str) -> str:
    """NFC, one space between words, nothing invisible.

    Raises:
        UserError: if nothing is left, or the text isn't valid Unicode
    """
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    text = "".join(c for c in text if c in _JOINERS or unicodedata.category(c) not in ("Cc", "Cf"))
    text = " ".join(text.split())
    if not text:
        raise UserError("the text is empty", fix="give at least one word")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError("the text isn't valid Unicode", fix="save it as UTF-8") from error
    return text


def encode(text: str, form: str, language: str) -> list[int]:
    """The ids of one text: BOS, one id per byte, EOS.

    Args:
        text: at most 1,024 bytes in the form that is fed; longer ones go through `split_text`
        form: "bytes" feeds the letters, "ipa" their phonemes from the espeak-ng command
        language: as espeak-ng names it ("en", "hi", "en-us"); only looked at for "ipa"

    Raises:
        UserError: for an empty or too long text, or if espeak-ng is needed and can't be used
    """
    text = clean(text)
    data = (phonemes(text, language) if form == "ipa" else text).encode()
    if len(data) > MAX_TEXT_BYTES:
        raise UserError(
            f"the text takes {len(data)} bytes, at most {MAX_TEXT_BYTES} fit: '{text[:30]}...'",
            fix="split it into sentences",
        )
    return [BOS, *(byte + 1 for byte in data), EOS]


@functools.lru_cache(maxsize=65_536)
def phonemes(text: str, language: str) -> str:
    """IPA of a text with its punctuation kept, through the espeak-ng command.

    Raises:
        UserError: if espeak-ng isn't installed, doesn't know the language or says nothing
    """
    # "[[" would start espeak-ng's own phoneme notation.
    text = text.replace("[", " ").replace("]", " ")
    pieces = [" ".join(piece.split()) for piece in _CLAUSE_MARK.split(text)]
    clauses = [(piece, mark) for piece, mark in zip(pieces[::2], [*pieces[1::2], ""], strict=True)]
    spoken = [piece for piece, _ in clauses if _has_sound(piece)]
    # espeak-ng drops punctuation and starts a line per clause, so clauses go in one by one; where
    # it cuts further by itself, each clause gets a call of its own.
    lines = _espeak("\n\n".join(spoken), language)
    if len(lines) != len(spoken):
        lines = [" ".join(_espeak(piece, language)) for piece in spoken]
    remaining = iter(lines)
    said = ""
    for piece, mark in clauses:
        if _has_sound(piece):
            said += f" {next(remaining)}"
        said += mark
    said = _LANGUAGE_CHANGE.sub("", said).strip()
    if not _has_sound(said):
        raise UserError(f"espeak-ng has nothing to say for '{text[:30]}'", where=language)
    return " ".join(said.split())


def split_text(text: str, max_bytes: int, language: str) -> list[str]:
    """Cut a text into sentences of at most `max_bytes` UTF-8 bytes.

    A longer sentence is cut after clauses, then between words; a single longer word, at last,
    between characters. No word is lost and none is cut that fits.

    Raises:
        UserError: for an empty text
    """
    if max_bytes < 4:
        raise ValueError(f"max_bytes {max_bytes} can't hold every character")
    text = clean(text)
    pieces = (_fit(sentence, max_bytes) for sentence in _sentences(text, language))
    return [piece for fitting in pieces for piece in fitting]


def _sentences(text: str, language: str) -> list[str]:
    """The sentences of a clean text, cut between words only."""
    sentences: list[str] = []
    is_whole = False
    for found in sentencex.segment(language.split("-")[0] or "en", text):  # pyright: ignore
        if sentences and not is_whole:
            sentences[-1] += found  # "a?b" was taken for two sentences
        else:
            sentences.append(found)
        is_whole = sentences[-1].endswith((" ", "。", "！", "？"))
    if "".join(sentences) != text:
        return [text]
    return [sentence.strip() for sentence in sentences]


def _fit(text: str, max_bytes: int) -> list[str]:
    if len(text.encode()) <= max_bytes:
        return [text]
    splitters: tuple[tuple[Callable[[str], list[str]], str], ...] = (
        (_CLAUSE_END.split, " "),
        (str.split, " "),
        (list, ""),
    )
    parts, glue = next((p, g) for split, g in splitters if len(p := split(text)) > 1)
    pieces: list[str] = []
    for part in parts:
        for piece in _fit(part, max_bytes):
            joined = f"{pieces[-1]}{glue}{piece}" if pieces else ""
            if pieces and len(joined.encode()) <= max_bytes:
                pieces[-1] = joined
            else:
                pieces.append(piece)
    return pieces


def _has_sound(text: str) -> bool:
    return any(c.isalnum() for c in text)


def _espeak(text: str, language: str) -> list[str]:
    """One line of IPA per clause that espeak-ng finds in `text`."""
    command = ["espeak-ng", "-q", "--ipa", "-v", language, "--stdin"]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
    except FileNotFoundError as error:
        fix = "sudo apt-get install espeak-ng, or use a model with --text-form bytes"
        raise UserError("IPA needs the espeak-ng command", fix=fix) from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace")
        raise UserError(f"espeak-ng failed for language '{language}': {reason}") from error
    return [line.strip() for line in done.stdout.decode().splitlines() if line.strip()]
