"""Where speech goes: names from texts, nothing replaced unasked, written as it comes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from lewm.generation import Request
from lewm.inference_engine import Engine, Speech
from ttscommon import audio
from ttscommon.errors import UserError

MAX_SLUG = 40  # letters
BATCHES_PER_WRITE = 4


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


def speech_paths(texts: Sequence[str], folder: Path) -> list[Path]:
    """A name for each text's speech: numbered, if there are several."""
    if len(texts) == 1:
        return [folder / f"lewm_{slug(texts[0])}.wav"]
    digits = len(str(len(texts)))
    return [
        folder / f"lewm_{number:0{digits}d}_{slug(text)}.wav"
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
        raise UserError(f"exists already{more}", where=existing[0], fix="--overwrite, or --output")


def speak_to_files(
    engine: Engine, requests: Sequence[Request], paths: Sequence[Path]
) -> Iterator[tuple[Path, Speech]]:
    """Speak all requests, a few batches at a time, writing each wave as soon as it is there."""
    size = BATCHES_PER_WRITE * engine.settings.batch_size
    for at in range(0, len(requests), size):
        speeches = engine.synthesize(requests[at : at + size])
        for path, speech in zip(paths[at : at + size], speeches, strict=True):
            audio.save(path, speech.audio, speech.sample_rate)
            yield path, speech
