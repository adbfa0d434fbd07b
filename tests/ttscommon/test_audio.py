"""Any recording becomes mono float32 at the wanted rate, or a clear word of why it can't."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ttscommon.audio import (
    duration,
    find_audio,
    load,
    normalize_loudness,
    save,
    sound_edges,
    trim_silence,
)
from ttscommon.errors import UserError

RATE = 24_000


def tone(seconds: float, rate: int, hertz: float = 440.0, level: float = 0.3) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def loudest_frequency(audio: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    return float(np.argmax(spectrum) * rate / len(audio))


@pytest.mark.parametrize(
    ("suffix", "rate", "subtype"),
    [
        (".wav", 8_000, "PCM_16"),
        (".wav", 44_100, "PCM_24"),
        (".wav", 48_000, "FLOAT"),
        (".wav", 24_000, "PCM_U8"),
        (".flac", 16_000, "PCM_24"),
        (".ogg", 22_050, "VORBIS"),
        (".opus", 48_000, "OPUS"),
        (".mp3", 44_100, "MPEG_LAYER_III"),
        (".aiff", 32_000, "PCM_16"),
    ],
)
@pytest.mark.parametrize("n_channels", [1, 2])
def test_every_format_rate_and_channel_count_gives_the_same_mono_sound(
    tmp_path, suffix, rate, subtype, n_channels
):
    path = tmp_path / f"clip{suffix}"
    container = {".opus": "OGG", ".mp3": "MP3", ".aiff": "AIFF"}.get(suffix, suffix[1:].upper())
    samples = np.stack([tone(1.0, rate)] * n_channels, axis=1)
    soundfile.write(path, samples, rate, subtype=subtype, format=container)
    audio = load(path, RATE)
    assert audio.dtype == np.float32
    assert audio.ndim == 1
    assert len(audio) == pytest.approx(RATE, abs=0.06 * RATE)  # lossy codecs add a little
    assert loudest_frequency(audio, RATE) == pytest.approx(440, abs=3)
    middle = audio[RATE // 4 : RATE // 2]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)
    assert duration(path) == pytest.approx(1.0, abs=0.06)


def test_a_part_of_a_file_is_the_same_part_of_the_whole(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, RATE), RATE)
    whole = load(path, RATE)
    np.testing.assert_array_equal(load(path, RATE, start=0.25, end=0.5), whole[6_000:12_000])
    np.testing.assert_array_equal(load(path, RATE, start=0.75), whole[18_000:])


def write_text(path: Path) -> None:
    path.write_text("this is not sound")


def write_nothing(path: Path) -> None:
    path.touch()


def write_no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0, np.float32), RATE)


def write_nan(path: Path) -> None:
    soundfile.write(path, np.array([0.1, np.nan, 0.2], np.float32), RATE, subtype="FLOAT")


def write_infinity(path: Path) -> None:
    soundfile.write(path, np.array([0.1, np.inf, 0.2], np.float32), RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such audio file"),
        (write_nothing, "zero bytes"),
        (write_text, "cannot decode"),
        (write_no_samples, "no samples"),
        (write_nan, "NaN or infinite"),
        (write_infinity, "NaN or infinite"),
    ],
)
def test_what_cannot_be_used_says_why_and_where(tmp_path, make, reason):
    path = tmp_path / "clip.wav"
    make(path)
    with pytest.raises(UserError, match=reason) as caught:
        load(path, RATE)
    assert "clip.wav" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_saving_and_loading_keeps_the_sound_to_16_bits_and_clips_what_is_too_loud(tmp_path):
    path = tmp_path / "new folder" / "clip.wav"
    audio = np.concatenate([tone(0.1, RATE), np.array([1.7, -1.7], np.float32)])
    save(path, audio, RATE)
    assert np.abs(load(path, RATE) - np.clip(audio, -1, 1)).max() < 1e-4
    assert [p.name for p in path.parent.iterdir()] == ["clip.wav"]


def test_audio_is_found_in_subfolders_in_order_without_hidden_files(tmp_path):
    for name in ("b.wav", "a/z.FLAC", "a/notes.txt", ".hidden/c.wav", "._b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in find_audio(tmp_path)]
    assert names == ["a/z.FLAC", "b.wav"]


def test_trimming_removes_the_silence_around_but_not_inside():
    quiet = np.random.default_rng(0).normal(0, 1e-4, RATE // 2).astype(np.float32)
    sound = np.concatenate([tone(0.4, RATE), quiet, tone(0.4, RATE)])
    trimmed = trim_silence(np.concatenate([quiet, sound, quiet]), RATE, -42.0)
    assert len(trimmed) == pytest.approx(len(sound), abs=0.04 * RATE)


def test_the_edges_of_silence_meet():
    assert sound_edges(np.zeros(RATE, np.float32), RATE, -42.0) == (0, 0)
    assert len(trim_silence(np.zeros(0, np.float32), RATE, -42.0)) == 0


@pytest.mark.parametrize("level", [0.01, 0.1, 0.9])
@pytest.mark.parametrize("seconds", [0.3, 3.0])
def test_loudness_comes_out_the_same_whatever_it_was(level, seconds):
    import pyloudnorm

    audio = normalize_loudness(tone(seconds, RATE, level=level), RATE, -23.0)
    meter = pyloudnorm.Meter(RATE, block_size=min(0.4, seconds))
    assert meter.integrated_loudness(audio.astype(np.float64)) == pytest.approx(-23, abs=0.1)
    assert audio.dtype == np.float32


def test_loudness_never_clips_and_leaves_silence_alone():
    click = np.zeros(RATE, np.float32)
    click[100:110] = 0.5
    assert np.abs(normalize_loudness(click, RATE, -5.0)).max() <= 0.99
    np.testing.assert_array_equal(normalize_loudness(np.zeros(RATE, np.float32), RATE, -23.0), 0)


def test_sixteen_bit_samples_are_written_as_they_are(tmp_path):
    samples = np.array([-32768, -1, 0, 1, 32767], dtype=np.int16)
    save(tmp_path / "exact.wav", samples, 22_050)
    assert soundfile.read(tmp_path / "exact.wav", dtype="int16")[0].tolist() == samples.tolist()


def test_a_full_disk_is_told_by_the_system_and_leaves_nothing(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path / "a.wav", np.zeros(100, np.float32), 16_000)
    assert list(tmp_path.iterdir()) == []
