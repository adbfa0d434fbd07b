"""Reading and writing sound: mono float32 numpy arrays (S,) between -1 and 1.

libsndfile (through soundfile) decodes WAV of any width, FLAC, OGG, Opus, MP3 and AIFF; soxr
resamples; pyloudnorm measures loudness (ITU-R BS.1770).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ttscommon.errors import UserError
from ttscommon.files import atomic

Audio = NDArray[np.float32]

# What libsndfile can't read; named so that such files can be reported instead of overlooked.
UNREADABLE_SUFFIXES = (".m4a", ".mp4", ".aac", ".wma", ".webm", ".amr")
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au")
PEAK_LIMIT = 0.99
LOUDNESS_BLOCK = 0.4  # seconds; the gating block of BS.1770
TRIM_WINDOW = 0.02  # seconds; two pitch periods of a voice at 100 Hz


def find_audio(folder: Path, suffixes: Sequence[str] = AUDIO_SUFFIXES) -> list[Path]:
    """All audio files below `folder`, sorted; hidden files and folders are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def load(path: Path, sample_rate: int, *, start: float = 0.0, end: float | None = None) -> Audio:
    """The sound in `path`, mixed to mono and resampled: (S,) float32.

    Args:
        start, end: the part to read, in seconds; all of it by default

    Raises:
        UserError: if the file is missing, can't be decoded, is empty or holds NaN or infinity
    """
    samples, rate = _decode(path, start, end)
    if not np.isfinite(samples).all():
        raise UserError("audio holds NaN or infinite samples", where=path)
    mono = samples.mean(axis=1, dtype=np.float32)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
    if not len(mono):
        raise UserError("audio is empty", where=path)
    return np.ascontiguousarray(mono, dtype=np.float32)


def duration(path: Path) -> float:
    """Seconds of sound in `path`, from the header alone.

    Raises:
        UserError: if the file is missing or can't be decoded
    """
    _require_content(path)
    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        raise UserError(_undecodable(error), where=path) from error
    return info.frames / info.samplerate


def save(path: Path, audio: Audio | NDArray[np.int16], sample_rate: int) -> None:
    """Write a 16-bit mono WAV, atomically.

    Sound that is louder than full scale is clipped; 16-bit samples are written as they are.
    """
    samples = audio if audio.dtype == np.int16 else np.clip(audio, -1, 1)
    wave = io.BytesIO()  # libsndfile would not say that the disk is full
    soundfile.write(wave, samples, sample_rate, subtype="PCM_16", format="WAV")
    with atomic(path) as draft:
        draft.write_bytes(wave.getbuffer())


def trim_silence(audio: Audio, sample_rate: int, threshold_db: float) -> Audio:
    """Cut leading and trailing silence: below `threshold_db` relative to the loudest moment.

    Loudness is the root mean square of 20 ms windows. Audio that is silent throughout comes back
    empty.
    """
    start, end = sound_edges(audio, sample_rate, threshold_db)
    return audio[start:end]


def sound_edges(audio: Audio, sample_rate: int, threshold_db: float) -> tuple[int, int]:
    """The samples [start, end) that `trim_silence` keeps; (0, 0) for silence throughout."""
    window = round(TRIM_WINDOW * sample_rate)
    power = np.square(np.pad(audio, (0, -len(audio) % window)).reshape(-1, window)).mean(axis=1)
    if not len(power) or power.max() <= 0:
        return 0, 0
    heard = np.flatnonzero(power >= power.max() * 10 ** (threshold_db / 10))
    return int(heard[0]) * window, min(len(audio), (int(heard[-1]) + 1) * window)


def normalize_loudness(audio: Audio, sample_rate: int, lufs: float) -> Audio:
    """Bring `audio` to a loudness in LUFS, or as near as the peak limit of 0.99 allows.

    Silence, which has no loudness, comes back as it is.
    """
    if not len(audio):
        return audio
    import pyloudnorm  # brings all of scipy.signal, seconds that most callers needn't pay

    block = min(LOUDNESS_BLOCK, len(audio) / sample_rate)
    loudness = pyloudnorm.Meter(sample_rate, block_size=block).integrated_loudness(
        audio.astype(np.float64)
    )
    if not np.isfinite(loudness):
        return audio
    gain = min(10 ** ((lufs - loudness) / 20), PEAK_LIMIT / max(float(np.abs(audio).max()), 1e-9))
    return (audio * gain).astype(np.float32)


def _decode(path: Path, start: float, end: float | None) -> tuple[NDArray[np.float32], int]:
    """(S, channels) samples and their rate."""
    _require_content(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate = file.samplerate
            if start:
                file.seek(min(round(start * rate), file.frames))
            n_frames = -1 if end is None else max(0, round(end * rate) - file.tell())
            samples = file.read(n_frames, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, ValueError) as error:
        raise UserError(_undecodable(error), where=path) from error
    if not len(samples):
        raise UserError("audio has no samples", where=path)
    return np.asarray(samples, dtype=np.float32), rate


def _require_content(path: Path) -> None:
    if not path.is_file():
        raise UserError("no such audio file", where=path)
    if not path.stat().st_size:
        raise UserError("audio file has zero bytes", where=path)


def _undecodable(error: Exception) -> str:
    reason = getattr(error, "error_string", None) or str(error)
    return f"cannot decode the audio: {reason.strip().rstrip('.')}"
