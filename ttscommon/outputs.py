"""Where speech goes: texts from files, names from texts, nothing replaced unasked."""

from __future__ import annotations

import re
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from ttscommon.errors import UserError

MAX_SLUG = 40  # letters


def read_texts(path: Path) -> list[str]:
    """The texts of a UTF-8 file, one a line; blank lines are left out.

    Raises:
        UserError: if the file is missing, isn't UTF-8 or holds no text
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise UserError("no such text file", where=path) from error
    except UnicodeDecodeError as error:
        raise UserError("the text file isn't UTF-8", where=path, fix="save it as UTF-8") from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise UserError("no text in the file", where=path)
    return texts


def speech_paths(texts: Sequence[str], folder: Path, prefix: str) -> list[Path]:
    """A name for each text's speech: numbered, if there are several."""
    if len(texts) == 1:
        return [folder / f"{prefix}_{slug(texts[0])}.wav"]
    digits = len(str(len(texts)))
    return [
        folder / f"{prefix}_{number:0{digits}d}_{slug(text)}.wav"
        for number, text in enumerate(texts, start=1)
    ]


def slug(text: str) -> str:
    """The beginning of a text, in any script, as part of a file name."""
    # Letters, marks (the vowels of Indian scripts) and numbers; the rest separates words.
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" else "-" for c in text.lower())
    return re.sub("-+", "-", kept).strip("-")[:MAX_SLUG].strip("-") or "speech"


def require_new(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse, before any work, what would replace an existing file.

    Raises:
        UserError: naming the first one
    """
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        fix = "--overwrite, or another name"
        raise UserError(f"exists already{more}", where=existing[0], fix=fix)


def require_writable(path: Path) -> None:
    """Refuse, before any work, a file that couldn't be written in the end; nothing is made.

    Raises:
        UserError: if it is a folder, or the nearest folder above it is none or can't be written to
    """
    if path.is_dir():
        raise UserError("a folder stands where the file should go", where=path)
    above = next(place for place in path.absolute().parents if place.exists())
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise UserError(f"cannot write there: {error.strerror}", where=path) from error
