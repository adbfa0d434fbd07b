"""Speech to text with Whisper: openai-whisper, or a CTranslate2 folder through faster-whisper."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from ttscommon.errors import UserError

WHISPER_RATE = 16_000
DOWNLOADED = Path("checkpoints/whisper")  # where tools/download_checkpoints.py puts NAME.pt
LOCAL_FIX = "give a model that is on this machine: --whisper-model PATH.pt"


@dataclass(frozen=True)
class Word:
    """A word as it was heard, and when, in seconds.

    Attributes:
        is_glued: whether no space stands before it
    """

    word: str
    start: float
    end: float
    is_glued: bool = False


def sentence(words: Sequence[Word]) -> str:
    """The words as one text."""
    return "".join(("" if word.is_glued else " ") + word.word for word in words).strip()


class Transcriber(Protocol):
    """Anything that turns speech into text."""

    def text(self, audio: NDArray[np.float32], sample_rate: int, language: str) -> str:
        """What is said in `audio` (S,), at most 30 seconds of it."""
        ...


@runtime_checkable
class WordTranscriber(Transcriber, Protocol):
    """One that also knows when each word is said, to about a tenth of a second."""

    def words(
        self, audio: NDArray[np.float32], sample_rate: int, language: str, prompt: str = ""
    ) -> list[Word]:
        """The words of `audio` (S,) in order.

        Args:
            prompt: a text that might have come before, whose style is followed
        """
        ...

    def spoken_language(self, audio: NDArray[np.float32], sample_rate: int) -> str:
        """The code of the language in the first 30 seconds of `audio` (S,)."""
        ...


def load_transcriber(model: str, device: str = "auto") -> WordTranscriber:
    """Whisper, loaded and ready.

    The result can be sent to other processes, which load the model again.

    Args:
        model: a Whisper name ("base": the file under checkpoints/whisper/, or else downloaded
            once into openai-whisper's own cache), a .pt file, or a CTranslate2 folder
        device: "auto", "cpu" or "cuda"

    Raises:
        UserError: if the model isn't there, can't be downloaded, or lacks its Python package
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if Path(model).is_dir():
        _faster_whisper(model, device)
        return FasterWhisper(model, device)
    here = DOWNLOADED / f"{model}.pt"
    model = str(here) if here.is_file() else model
    _whisper(model, device)
    return Whisper(model, device)


def identity(model: str) -> str:
    """A model's name and, where it is a file here, its size: another file isn't the same model."""
    files = (Path(model), Path(model) / "model.bin")
    size = next((path.stat().st_size for path in files if path.is_file()), 0)
    return f"{Path(model).name} {size}"


@dataclass(frozen=True)
class Whisper:
    """openai-whisper, greedy, one clip at a time."""

    model: str
    device: str

    def text(self, audio: NDArray[np.float32], sample_rate: int, language: str) -> str:
        return str(self._read(audio, sample_rate, language)["text"]).strip()

    def words(
        self, audio: NDArray[np.float32], sample_rate: int, language: str, prompt: str = ""
    ) -> list[Word]:
        options = {"word_timestamps": True, "initial_prompt": prompt or None}
        found = self._read(audio, sample_rate, language, **options)["segments"]
        pieces = (piece for segment in found for piece in segment["words"])
        return [_word(piece["word"], piece["start"], piece["end"]) for piece in pieces]

    def spoken_language(self, audio: NDArray[np.float32], sample_rate: int) -> str:
        from whisper.audio import log_mel_spectrogram, pad_or_trim

        network = _whisper(self.model, self.device)
        if not network.is_multilingual:
            return "en"
        sound = pad_or_trim(_at_whisper_rate(audio, sample_rate))
        mel = log_mel_spectrogram(sound, network.dims.n_mels).to(network.device)
        shares = network.detect_language(mel)[1]
        return max(shares, key=shares.get)

    def _read(self, audio: NDArray[np.float32], rate: int, language: str, **options: Any) -> Any:
        network, n_threads = _whisper(self.model, self.device), torch.get_num_threads()
        try:
            return network.transcribe(
                _at_whisper_rate(audio, rate),
                language=_known_language(language, network.is_multilingual),
                temperature=0.0,
                condition_on_previous_text=False,
                fp16=self.device == "cuda",
                **options,
            )
        finally:  # finding the words' times, in numba, gives torch every core from then on
            torch.set_num_threads(n_threads)


@dataclass(frozen=True)
class FasterWhisper:
    """The same network run by CTranslate2, several times as fast on a CPU."""

    model: str
    device: str

    def text(self, audio: NDArray[np.float32], sample_rate: int, language: str) -> str:
        segments = self._read(audio, sample_rate, language)
        # A segment begins with a space where its language has one.
        return "".join(segment.text for segment in segments).strip()

    def words(
        self, audio: NDArray[np.float32], sample_rate: int, language: str, prompt: str = ""
    ) -> list[Word]:
        options = {"word_timestamps": True, "initial_prompt": prompt or None}
        segments = self._read(audio, sample_rate, language, **options)
        pieces = (piece for segment in segments for piece in segment.words or ())
        return [_word(piece.word, piece.start, piece.end) for piece in pieces]

    def spoken_language(self, audio: NDArray[np.float32], sample_rate: int) -> str:
        network = _faster_whisper(self.model, self.device)
        if not network.model.is_multilingual:
            return "en"
        return str(network.detect_language(_at_whisper_rate(audio, sample_rate))[0])

    def _read(self, audio: NDArray[np.float32], rate: int, language: str, **options: Any) -> Any:
        network = _faster_whisper(self.model, self.device)
        segments, _ = network.transcribe(
            _at_whisper_rate(audio, rate),
            language=_known_language(language, network.model.is_multilingual),
            temperature=0.0,
            beam_size=1,
            condition_on_previous_text=False,
            **options,
        )
        return segments


@functools.lru_cache(maxsize=1)
def _whisper(model: str, device: str) -> Any:
    import whisper

    if model.endswith(".pt") and not Path(model).is_file():
        fix = "give a .pt file that is there, or python tools/download_checkpoints.py whisper"
        raise UserError("no such Whisper model", where=model, fix=fix)
    if not Path(model).is_file() and model not in whisper.available_models():
        names = ", ".join(whisper.available_models())
        raise UserError(f"no Whisper model '{model}'", fix=f"choose a .pt file or one of {names}")
    try:
        return whisper.load_model(model, device=device)
    except (OSError, RuntimeError, LookupError, EOFError, ValueError, pickle.PickleError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, pickle.PickleError):  # torch's own advice is to trust the file
            reason = "the file doesn't hold weights"
        raise UserError(f"cannot load Whisper '{model}': {reason}", fix=LOCAL_FIX) from error


@functools.lru_cache(maxsize=1)
def _faster_whisper(folder: str, device: str) -> Any:
    try:
        from faster_whisper import WhisperModel  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "a CTranslate2 folder needs faster-whisper",
            where=folder,
            fix="uv sync --extra faster-whisper, or with pip: pip install faster-whisper",
        ) from error
    missing = [name for name in ("model.bin", "config.json") if not (Path(folder) / name).is_file()]
    if missing:
        raise UserError(f"not a CTranslate2 model: no {' and no '.join(missing)}", where=folder)
    precision = "float16" if device == "cuda" else "int8"
    try:
        return WhisperModel(folder, device=device, compute_type=precision, local_files_only=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"cannot load the model: {error}", where=folder, fix=LOCAL_FIX) from error


def _word(word: str, start: float, end: float) -> Word:
    times = round(float(start), 3), round(float(end), 3)
    return Word(word.strip(), *times, is_glued=not word.startswith(" "))


def _known_language(language: str, is_multilingual: bool) -> str:
    """Whisper's code for a language; espeak-ng's regional form "en-us" is understood."""
    from whisper.tokenizer import LANGUAGES

    code = language.partition("-")[0].lower()
    if code not in LANGUAGES:
        raise UserError(f"Whisper doesn't know the language '{language}'", fix="--language en")
    if not is_multilingual and code != "en":
        raise UserError(
            f"this Whisper model reads English only, not '{language}'", fix="--whisper-model base"
        )
    return code


def _at_whisper_rate(audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    if sample_rate != WHISPER_RATE:
        audio = soxr.resample(audio, sample_rate, WHISPER_RATE)
    return np.ascontiguousarray(audio, dtype=np.float32)
