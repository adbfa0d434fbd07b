"""The voice that comes with the repository really speaks: held-out sentences beside recordings."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from examples.closed_grammar.evaluation import Utterance, read_held_out, speak
from examples.embedded_voice.export import MOST_BYTES
from lewm.embedded_voice import EMBEDDED_SPEAKER, EMBEDDED_VOICE
from lewm.inference_engine import Engine
from lewm.replay import TEXTS_FILE
from tools import lewm_infer
from ttscommon import audio
from ttscommon.metrics import mel_dtw

HELD_OUT = Path(__file__).resolve().parents[1] / "golden/embedded_voice"
# Nats of mel-DTW, mean of three sentences: the voice is 0.55 from the recordings as phonemes and
# 0.57 as letters; to the recording of another sentence it's 1.28.
NEAR = 0.8


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(EMBEDDED_VOICE, device="cpu", vocoder="griffinlim")


@pytest.fixture(scope="module")
def recordings(engine: Engine) -> list[Utterance]:
    return read_held_out(HELD_OUT, engine)


@pytest.mark.parametrize("reading", ["letters", "phonemes"])
def test_it_says_sentences_that_it_never_heard(engine, recordings, reading) -> None:
    if reading == "phonemes" and shutil.which("espeak-ng") is None:
        pytest.skip("no espeak-ng here")
    said = speak(engine, recordings, 0, speaker=EMBEDDED_SPEAKER, reading=reading)
    for one, recording in zip(said, recordings, strict=True):
        assert not one.ran_away
        assert len(one.audio) / len(recording.audio) == pytest.approx(1, abs=0.2)
        assert one.alignment is not None
        assert one.alignment.diagonality > 0.95
        assert one.alignment.coverage > 0.8
    near = [mel_dtw(a.mel, b.mel) for a, b in zip(said, recordings, strict=True)]
    far = [
        mel_dtw(a.mel, b.mel) for a, b in zip(said, recordings[1:] + recordings[:1], strict=True)
    ]
    assert sum(near) / 3 < NEAR < sum(far) / 3


def test_it_reads_a_text_six_times_as_long_to_its_end_and_nothing_twice(engine) -> None:
    text = " ".join([
        "They have lived next door for years.",
        "We painted the bedroom light blue.",
        "My brother works at the hospital.",
        "The sun came out after lunch.",
        "They have lived next door for years.",
        "The teacher asked us to be quiet.",
    ])  # fmt: skip
    (said,) = speak(
        engine,
        [Utterance(text, np.zeros(1, np.float32), np.zeros((1, 1), np.float32))],
        0,
        speaker=EMBEDDED_SPEAKER,
        reading="letters",
    )
    assert not said.ran_away
    assert said.alignment is not None
    assert said.alignment.coverage > 0.95
    assert said.alignment.monotonicity > 0.97
    assert len(said.audio) / engine.recipe.sample_rate == pytest.approx(len(text) / 15, rel=0.3)


def test_it_is_small_enough_for_git_and_in_half_precision() -> None:
    assert sum(path.stat().st_size for path in EMBEDDED_VOICE.iterdir()) <= MOST_BYTES
    with safe_open(EMBEDDED_VOICE / "model.safetensors", "pt") as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    assert {kind for name, kind in kinds.items() if name.startswith("predictor.")} == {"F16"}


def test_it_brings_sentences_for_fine_tuning_to_replay_and_wordnets_notice() -> None:
    texts = (EMBEDDED_VOICE / TEXTS_FILE).read_text(encoding="utf-8").splitlines()
    assert len(set(texts)) == len(texts) >= 300
    assert "Princeton University" in (EMBEDDED_VOICE / "WORDNET_LICENSE.txt").read_text()


def test_it_speaks_where_nobody_is_named(tmp_path: Path) -> None:
    words = ["--text", "Good morning. Did you sleep well, Zoë?", "--vocoder", "griffinlim"]
    lewm_infer.main([*words, "--output", str(tmp_path / "a.wav"), "--device", "cpu"])
    assert 1.5 < audio.duration(tmp_path / "a.wav") < 6
