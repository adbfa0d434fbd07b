"""Speaking in a trained manner: on the one path, as strong as asked for, by its own base only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from indextts.infer_v2 import IndexTTS2
from indextts.pattern_embeddings import InjectionMode, PatternEmbedding, PatternOrigin
from tests.indextts.speakers import write_adapter, write_recording
from tools import infer, infer_with_patterns
from tools.infer_with_patterns import main, pattern_aware_inference
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker

QUICK = {"diffusion_steps": 1, "num_beams": 1, "max_mel_tokens": 60, "seed": 5}
RATES = {"pauses_per_minute": 12.5, "pause_seconds": 0.52, "fillers_per_minute": 4.0}


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    from indextts.miniature import write_miniature

    folder = tmp_path_factory.mktemp("checkpoint") / "miniature"
    write_miniature(folder)
    return folder


@pytest.fixture(scope="module")
def tts(miniature):
    return IndexTTS2(model_dir=miniature, device="cpu")


def made(
    tts, mode: InjectionMode = "add", strength: float = 3.0, **origin: Any
) -> PatternEmbedding:
    torch.manual_seed(0)
    width = tts.synthesizer.models.gpt.config.model_dim
    about: dict[str, Any] = {"base": tts.language_model.fingerprint, "rates": RATES, **origin}
    pattern = PatternEmbedding(
        width, 2, injection_mode=mode, initialization="reference", origin=PatternOrigin(**about)
    )
    pattern.pattern_scale.data.fill_(strength)
    return pattern.eval().requires_grad_(False)


@pytest.fixture
def start(miniature, tts, tmp_path, monkeypatch):
    """Runs the tool in a folder with a recording and a speaker's pattern."""
    monkeypatch.chdir(tmp_path)
    write_recording(tmp_path / "me.wav")
    best = Speaker("ozzy").pattern_training.best_checkpoint
    best.mkdir(parents=True)
    made(tts).save(best / "pattern_embedding.pt")

    def run(*words: str, tool=infer_with_patterns) -> None:
        tool.main([*words, "-r", "me.wav", "--model-dir", str(miniature), "--device", "cpu",
                   "--diffusion-steps", "1", "--num-beams", "1", "--max-mel-tokens", "60",
                   "--seed", "5"])  # fmt: skip

    return run


def spoken(tts, pattern, tmp_path, **options) -> np.ndarray:
    recording = write_recording(tmp_path / "me.wav")
    text = options.pop("text", "The cat sat.")
    _, sound = pattern_aware_inference(
        tts, pattern, text, audio_prompt=recording, **QUICK, **options
    )
    return sound


def test_a_pattern_changes_what_is_said_and_leaves_no_trace(tts, tmp_path):
    recording = write_recording(tmp_path / "me.wav")
    _, plain = tts.infer(recording, "The cat sat.", **QUICK)
    changed = spoken(tts, made(tts), tmp_path)
    assert not np.array_equal(plain, changed)
    assert np.array_equal(spoken(tts, made(tts), tmp_path, pattern_scale=0.0), plain)
    assert tts.synthesizer.manner is None
    assert np.array_equal(tts.infer(recording, "The cat sat.", **QUICK)[1], plain)


@pytest.mark.parametrize("mode", ["prepend", "replace_first"])
def test_other_modes_speak_too(tts, mode, tmp_path):
    sound = spoken(tts, made(tts, mode), tmp_path, injection_mode=mode)
    assert not np.array_equal(sound, spoken(tts, made(tts, mode), tmp_path, pattern_scale=0.0))


def test_a_stream_is_in_the_same_manner_though_it_is_listened_to_later(tts, tmp_path):
    recording = write_recording(tmp_path / "me.wav")
    options: dict[str, Any] = {**QUICK, "interval_silence": 0}
    stream = pattern_aware_inference(
        tts, made(tts), "The cat sat.", None, recording, stream_return=True, **options
    )
    whole = spoken(tts, made(tts), tmp_path, interval_silence=0)
    streamed = np.concatenate([piece[0].numpy() for piece in stream])
    assert np.array_equal(streamed.astype(np.int16), whole[:, 0])
    assert tts.synthesizer.manner is None


def test_marks_are_read_as_in_training(tts, tmp_path):
    marked = spoken(tts, made(tts), tmp_path, text="[UM] The cat sat.")
    assert np.array_equal(marked, spoken(tts, made(tts), tmp_path, text="um The cat sat."))


def test_patterns_of_another_base_or_mode_are_refused(tts, tmp_path):
    with pytest.raises(UserError, match="trained on another base"):
        spoken(tts, made(tts, base="0" * 64), tmp_path)
    with pytest.raises(UserError, match="trained with injection mode 'add'"):
        spoken(tts, made(tts), tmp_path, injection_mode="prepend")
    with pytest.raises(UserError, match="pattern_scale is nan"):
        spoken(tts, made(tts), tmp_path, pattern_scale=float("nan"))
    assert tts.synthesizer.manner is None


def test_a_speakers_pattern_speaks_and_its_rates_are_told(start, capsys):
    start("--speaker", "ozzy", "--text", "The cat sat.", "--json", "told.json")
    said = capsys.readouterr().out
    path = Path("training/ozzy/outputs/patterns_the-cat-sat.wav")
    assert path.is_file()
    assert f"{path}  " in said
    assert "moves the first code's logits by up to" in said
    rows = [line.split() for line in said.splitlines()]
    assert ["fillers", "a", "minute", "4.0", "-"] in rows
    told = json.loads(Path("told.json").read_text(encoding="utf-8"))
    assert told["rates"]["speaker"] == RATES
    assert told["rates"]["spoken"]["seconds"] >= 0


def test_without_the_pattern_it_is_what_the_other_tool_says(start):
    words = ("--text", "The cat sat.", "-o")
    start("--speaker", "ozzy", "--pattern-scale", "0", *words, "off.wav")
    start("--speaker", "ozzy", *words, "on.wav")
    start(*words, "plain.wav", tool=infer)
    off, on, plain = (Path(f"{name}.wav").read_bytes() for name in ("off", "on", "plain"))
    assert off == plain != on


def test_the_adapter_that_was_trained_with_it_speaks_along(start, miniature):
    best = Speaker("ozzy").pattern_training.best_checkpoint
    write_adapter(miniature, best / "lora")
    words = ("--speaker", "ozzy", "--text", "The cat sat.", "-o")
    start(*words, "both.wav")
    start(*words, "pattern.wav", "--lora-scale", "0")
    assert Path("both.wav").read_bytes() != Path("pattern.wav").read_bytes()


def test_what_was_never_trained_is_told_how(start, tts):
    with pytest.raises(UserError, match=r"train_pattern_embeddings\.py --speaker anna"):
        start("--speaker", "anna", "--text", "Hi.")
    untrained = made(tts, strength=0.0)
    untrained.save("none.pt")
    with pytest.raises(UserError, match="the pattern changes nothing"):
        start("--pattern-embedding", "none.pt", "--text", "Hi.")
    assert not list(Path().glob("*patterns*.wav"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pattern-scale", "nan"], "pattern_scale is nan"),
        (["--injection-mode", "prepend"], "trained with injection mode 'add'"),
        (["-o", "speech.mp3"], "speech is written as WAV"),
    ],
)
def test_bad_wishes_are_refused_before_the_weights_are_loaded(words, message, start, monkeypatch):
    def loads(*_args, **_options):
        raise AssertionError("loaded")

    monkeypatch.setattr("indextts.infer_v2.IndexTTS2.__init__", loads)
    with pytest.raises(UserError, match=message):
        start("--speaker", "ozzy", "--text", "The cat sat.", *words)


def test_without_a_voice_nothing_is_said():
    with pytest.raises(SystemExit) as stop:
        main(["--text", "Hi."])
    assert stop.value.code == 2
