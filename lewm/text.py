"""Text as the network reads it: UTF-8 bytes of the letters or of their phonemes."""

from __future__ import annotations

import functools
import itertools
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Sequence
from typing import Literal

from ttscommon.errors import UserError
from ttscommon.sentences import fitted, sentences

PAD, BOS, EOS = 0, 257, 258  # byte b is id b + 1
VOCABULARY = 259
# Byte 255 is in no UTF-8 text. A model that reads letters as well is told by it what follows.
PHONEMES_FOLLOW = 256
MAX_TEXT_BYTES = 1024
TEXTS_PER_CALL = 32  # for espeak-ng, which takes longer to start than to speak

Reading = Literal["auto", "letters", "phonemes"]

# Joiners shape Devanagari and Arabic script; other invisible characters carry no sound.
_JOINERS = "\u200c\u200d"
_CLAUSE_MARK = re.compile(r"([,;:.!?…।॥—–]+)(?=\s|$)")
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
        form: "bytes" feeds the letters, "ipa" their phonemes from the espeak-ng command,
            "marked ipa" the phonemes behind a mark that they are some
        language: as espeak-ng names it ("en", "hi", "en-us"); only looked at for phonemes

    Raises:
        UserError: for an empty or too long text, or if espeak-ng is needed and can't be used
    """
    text = clean(text)
    return _framed(text if form == "bytes" else phonemes(text, language), form)


def encode_all(texts: Sequence[str], form: str, language: str) -> list[list[int]]:
    """`encode` of many texts, at a twentieth of the time where phonemes are asked for.

    Raises:
        UserError: as `encode`
    """
    texts = [clean(text) for text in texts]
    said = texts if form == "bytes" else phonemes_of(texts, language)
    return [_framed(text, form) for text in said]


def has_espeak() -> bool:
    """Whether phonemes can be had here."""
    return shutil.which("espeak-ng") is not None


def form_to_feed(model_form: str, reading: Reading) -> str:
    """What `encode` is to make of a text for a model of `ModelConfig.text_form`.

    Only a "mixed" model has a choice; "auto" gives it phonemes where the espeak-ng command is,
    which also reads numbers and abbreviations.

    Raises:
        UserError: if the model can't read it that way
    """
    if model_form == "mixed":
        if reading == "auto":
            reading = "phonemes" if has_espeak() else "letters"
        return "marked ipa" if reading == "phonemes" else "bytes"
    if reading not in ("auto", "letters" if model_form == "bytes" else "phonemes"):
        only = "letters" if model_form == "bytes" else "phonemes"
        raise UserError(f"this voice reads {only} only", fix=f"--reading {only}")
    return model_form


def _framed(text: str, form: str) -> list[int]:
    data = text.encode()
    if len(data) > MAX_TEXT_BYTES:
        raise UserError(
            f"the text takes {len(data)} bytes, at most {MAX_TEXT_BYTES} fit: '{text[:30]}...'",
            fix="split it into sentences",
        )
    mark = [PHONEMES_FOLLOW] if form == "marked ipa" else []
    return [BOS, *mark, *(byte + 1 for byte in data), EOS]


@functools.lru_cache(maxsize=65_536)
def phonemes(text: str, language: str) -> str:
    """IPA of a text with its punctuation kept, through the espeak-ng command.

    Raises:
        UserError: if espeak-ng isn't installed, doesn't know the language or says nothing
    """
    clauses = _clauses(text)
    spoken = [piece for piece, _ in clauses if _has_sound(piece)]
    # espeak-ng drops punctuation and starts a line per clause, so clauses go in one by one; where
    # it cuts further by itself, each clause gets a call of its own.
    lines = _espeak("\n\n".join(spoken), language)
    if len(lines) != len(spoken):
        lines = [" ".join(_espeak(piece, language)) for piece in spoken]
    return _punctuated(clauses, lines, language)


def phonemes_of(texts: Sequence[str], language: str) -> list[str]:
    """`phonemes` of many texts, at a twentieth of the time: espeak-ng starts once for many.

    Raises:
        UserError: as `phonemes`
    """
    said: list[str] = []
    for start in range(0, len(texts), TEXTS_PER_CALL):
        group = texts[start : start + TEXTS_PER_CALL]
        clauses = [_clauses(text) for text in group]
        spoken = [[piece for piece, _ in each if _has_sound(piece)] for each in clauses]
        lines = _espeak("\n\n".join(piece for pieces in spoken for piece in pieces), language)
        if len(lines) != sum(map(len, spoken)):
            said += [phonemes(text, language) for text in group]
            continue
        rest = iter(lines)
        for each, pieces in zip(clauses, spoken, strict=True):
            said.append(_punctuated(each, list(itertools.islice(rest, len(pieces))), language))
    return said


def _clauses(text: str) -> list[tuple[str, str]]:
    """The text in pieces, each with the punctuation that ends it."""
    # "[[" would start espeak-ng's own phoneme notation.
    text = text.replace("[", " ").replace("]", " ")
    pieces = [" ".join(piece.split()) for piece in _CLAUSE_MARK.split(text)]
    return list(zip(pieces[::2], [*pieces[1::2], ""], strict=True))


def _punctuated(clauses: Sequence[tuple[str, str]], lines: Sequence[str], language: str) -> str:
    """Clauses as espeak-ng said them, their punctuation behind them."""
    remaining = iter(lines)
    said = ""
    for piece, mark in clauses:
        if _has_sound(piece):
            said += f" {next(remaining)}"
        said += mark
    said = _LANGUAGE_CHANGE.sub("", said).strip()
    if not _has_sound(said):
        text = " ".join(piece for piece, _ in clauses)
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
    whole = sentences(clean(text), language)
    pieces = (fitted(one, max_bytes, size=lambda piece: len(piece.encode())) for one in whole)
    return [piece for fitting in pieces for piece in fitting]


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
