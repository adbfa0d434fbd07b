"""Recordings for tests: tones with transcripts, and a transcriber that needs no network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 24_000


class CountingTranscriber:
    """Says how long a clip is, and remembers how often it was asked.

    Args:
        interrupt_at: the call at which somebody presses Ctrl-C
    """

    def __init__(self, interrupt_at: int | None = None):
        self.calls, self.interrupt_at = 0, interrupt_at

    def text(self, audio: np.ndarray, sample_rate: int, language: str) -> str:
        self.calls += 1
        if self.calls == self.interrupt_at:
            raise KeyboardInterrupt
        return f"{len(audio) / sample_rate:.0f} seconds of {language}"


def tone(seconds: float, rate: int = RATE, hertz: float = 300.0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.2 * np.sin(2 * np.pi * hertz * time) * (1 + np.sin(20 * time))).astype(np.float32)


def write_tones(folder: Path, n: int, *, seconds: float = 0.6) -> list[Path]:
    """`n` short recordings clip000.wav, clip001.wav, ..., each of another pitch."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"clip{index:03d}.wav" for index in range(n)]
    for index, path in enumerate(paths):
        soundfile.write(path, tone(seconds, hertz=200 + 10 * index), RATE)
    return paths


def write_transcripts(path: Path, names: list[str]) -> None:
    lines = [f"{name},words of {Path(name).stem}\n" for name in names]
    path.write_text("audio_path,text\n" + "".join(lines), encoding="utf-8")


def write_dataset(folder: Path, n: int, *, seconds: float = 0.6) -> Path:
    """`audio/clip*.wav` with a `transcripts.csv`."""
    paths = write_tones(folder / "audio", n, seconds=seconds)
    write_transcripts(folder / "transcripts.csv", [f"audio/{path.name}" for path in paths])
    return folder
