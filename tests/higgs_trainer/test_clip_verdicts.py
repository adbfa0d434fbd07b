"""Audio that is no good is left out with the reason, and every verdict is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from higgs_trainer.codec import Codec, load_codec
from higgs_trainer.config import PrepareConfig
from higgs_trainer.preprocess import prepare_speaker
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker

RATE = 24000


@pytest.fixture(scope="module")
def codec(miniature) -> Codec:
    return load_codec(miniature[1])


def hum(seconds: float = 1.0) -> np.ndarray:
    time = np.arange(int(RATE * seconds)) / RATE
    return (0.2 * np.sin(2 * np.pi * 150 * time) * np.sin(6 * time)).astype(np.float32)


@pytest.fixture
def speaker(tmp_path) -> Speaker:
    """Three clips that are fine, one silent, one clipped."""
    found = Speaker("anna", tmp_path / "training")
    found.audio.mkdir(parents=True)
    sounds = {f"fine_{number}": hum(1.0 + number / 10) for number in range(3)}
    sounds |= {"silent": hum() * 1e-4, "clipped": np.clip(hum() * 20, -1, 1)}
    for name, sound in sounds.items():
        audio.save(found.audio / f"{name}.wav", sound, RATE)
    lines = [f"{name}.wav,This is {name}." for name in sounds]
    found.transcripts.write_text("\n".join(["audio_path,text", *lines]) + "\n")
    return found


def test_audio_that_is_no_good_is_left_out_with_the_reason(speaker, codec, tmp_path):
    report = prepare_speaker(speaker, tmp_path / "out", codec, PrepareConfig())
    reasons = dict(report.skipped)
    assert set(reasons) == {"silent.wav", "clipped.wav"}
    assert reasons["silent.wav"].startswith("silence 1 (at most 0.6)")
    assert "clipped" in reasons["clipped.wav"]
    assert report.n_train + report.n_validation == 3


def test_every_verdict_is_kept_and_not_asked_for_again(speaker, codec, tmp_path, monkeypatch):
    first = prepare_speaker(speaker, tmp_path / "out", codec, PrepareConfig())
    told = json.loads(first.verdicts.read_text())
    clips = {one["audio"]: one for one in told["clips"].values()}
    assert len(clips) == 5
    assert not clips["silent.wav"]["valid"]
    assert {"silence", "clipped", "diversity"} <= {
        f["what"] for f in clips["fine_0.wav"]["findings"]
    }
    assert first.n_odd >= 2
    monkeypatch.setattr(audio, "load", lambda *_: pytest.fail("heard again"))
    again = prepare_speaker(speaker, tmp_path / "out", codec, PrepareConfig())
    assert (again.skipped, again.n_odd) == (first.skipped, first.n_odd)
    assert json.loads(again.verdicts.read_text()) == told


def test_strict_ends_at_what_else_is_left_out(speaker, codec, tmp_path: Path):
    with pytest.raises(UserError, match=r"2 of 5 are of no use, .* first: .*--strict"):
        prepare_speaker(speaker, tmp_path / "out", codec, PrepareConfig(strict=True))
    assert not (tmp_path / "out" / "train.jsonl").exists()
