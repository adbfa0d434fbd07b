"""Real speech scores as real speech; each damage is caught by the metric meant for it.

Human clips of the example's speaker that the voice is not averaged from. The words are judged where
VOXTUNE_WEIGHTS names a folder with whisper-base-ct2 (examples/closed_grammar/whisper_base.py).
"""

from __future__ import annotations

import csv
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soxr

from tools import evaluate
from ttscommon.audio import load, save
from ttscommon.evaluation.evaluate import Evaluation, read_evaluation

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample_speaker"
RATE = 16_000
N_TEXTS = 6
WHISPER = Path(os.environ.get("VOXTUNE_WEIGHTS", "")) / "whisper-base-ct2"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # with Whisper, on a machine that has other things to do
    pytest.mark.skipif(
        importlib.util.find_spec("resemblyzer") is None, reason="installed by uv, not by pip"
    ),
]


def noisy(audio: np.ndarray) -> np.ndarray:
    """White noise 6 dB below the speech."""
    noise = np.random.default_rng(0).normal(0, 0.5 * np.sqrt(np.square(audio).mean()), len(audio))
    return np.clip(audio + noise, -1, 1).astype(np.float32)


def spoken_by_another(audio: np.ndarray) -> np.ndarray:
    """The same words from a larger body: pitch and formants sink."""
    return soxr.resample(audio, RATE, 0.7 * RATE).astype(np.float32)


def folder(root: Path, texts: Sequence[str], clips: Sequence[np.ndarray]) -> str:
    for number, clip in enumerate(clips):
        save(root / f"{number}.wav", clip, RATE)
    with (root / "transcripts.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(f"{number}.wav", text) for number, text in enumerate(texts)]
        csv.writer(file).writerows([("audio_path", "text"), *rows])
    return f"{root.name}={root}"


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory) -> Evaluation:
    root = tmp_path_factory.mktemp("truth")
    with (EXAMPLE / "transcripts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[: 2 * N_TEXTS]
    clips, texts = [load(EXAMPLE / r["audio_path"], RATE) for r in rows], [r["text"] for r in rows]
    held_out, words = clips[:N_TEXTS], texts[:N_TEXTS]
    conditions = [
        folder(root / "base", words, held_out),
        folder(root / "noise", words, [noisy(clip) for clip in held_out]),
        folder(root / "silence", words, [np.zeros_like(clip) for clip in held_out]),
        folder(root / "other", words, [spoken_by_another(clip) for clip in held_out]),
        folder(root / "scrambled", [*words[1:], words[0]], held_out),
        folder(root / "real", texts[N_TEXTS:], clips[N_TEXTS:]),
    ]
    whisper = str(WHISPER) if WHISPER.is_dir() else "none"
    output = root / "out"
    assert (
        evaluate.main([*conditions, "--whisper-model", whisper, "--output-dir", str(output)]) == 3
    )
    return read_evaluation(output / "evaluation.json")


def failed(evaluation: Evaluation, condition: str) -> set[str]:
    return {rail.metric for rail in evaluation.failures if rail.condition == condition}


def test_human_clips_score_as_the_same_voice_of_good_quality_without_faults(evaluation):
    scores = evaluation.scores["base"]
    assert scores["similarity"].value > 0.85
    assert min(one.values["similarity"] for one in evaluation.results if "base" in one.path) > 0.75
    assert 2.9 < scores["dnsmos"].value < 3.5
    assert scores["faults"].value == 0


def test_noise_silence_and_another_voice_are_caught_by_the_metrics_meant_for_them(evaluation):
    assert "dnsmos" in failed(evaluation, "noise")
    assert evaluation.scores["noise"]["dnsmos"].value < 2.2
    assert "faults" in failed(evaluation, "silence")
    assert evaluation.scores["silence"]["faults"].value == 1
    assert "similarity" in failed(evaluation, "other")
    assert evaluation.scores["other"]["similarity"].value < 0.75
    assert not failed(evaluation, "scrambled") - {"fluent_wer"}


@pytest.mark.weights
def test_the_words_of_human_clips_are_heard_and_scrambled_texts_are_caught(evaluation):
    assert evaluation.scores["base"]["fluent_wer"].value <= 0.06
    assert evaluation.scores["real"]["fluent_wer"].value <= 0.06
    assert evaluation.scores["scrambled"]["fluent_wer"].value > 0.5
    assert failed(evaluation, "scrambled") == {"fluent_wer"}
