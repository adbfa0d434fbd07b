"""The embedded voice is tuned on strangers, with and without each part, and measured each time."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.embedded_voice import finetune, tuning
from examples.embedded_voice.hearing import Ear
from lewm import weights
from lewm.config import TrainConfig
from tests.lewm.random_voice import INFO, random_voice
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.files import read_json

RATE = 24_000


class Listener:
    """A transcriber that hears the same word in everything."""

    def text(self, audio: np.ndarray, sample_rate: int, language: str) -> str:
        return "farmer"


class BlindEar(Ear):
    """It takes the loudness for the voice, as Resemblyzer may not be there."""

    def voices(self, sounds, what):
        return [np.array([1.0, float(np.abs(s).mean())], np.float32) for s in sounds]

    def quality(self, sounds, what):
        return [1.0] * len(sounds)


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight buzzes with their words, in the place of the bundled recordings."""
    folder = tmp_path / "person"
    rows = [("audio_path", "text")]
    for i in range(8):
        seconds = np.arange(round((0.6 + 0.05 * i) * RATE))
        buzz = (0.2 * np.sign(np.sin(seconds * 0.05))).astype(np.float32)
        audio.save(folder / f"audio/{i}.wav", buzz, RATE)
        rows.append((f"audio/{i}.wav", "The old farmer found a map."))
    with (folder / "transcripts.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    monkeypatch.setattr(tuning, "HUMAN", folder)
    return folder


def test_each_variant_is_trained_measured_and_not_done_twice(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    model = random_voice(speakers=("heart", "joe"), languages=("en-us",))
    with torch.no_grad():
        model.predictor.stop.bias.fill_(99)  # ends at once, where it would run away
    weights.save(tmp_path / "voice", model, replace(INFO, training={}))
    settings = "autoencoder_steps: 2\npredictor_steps: 2\nspeaker_steps: 2\nreplay_clips: 4\n"
    (tmp_path / "few.yaml").write_text(settings)
    (tmp_path / "plain.csv").write_text("id,kind,text\n0,plain,The farmer is here.\n")
    made = tuning.Tuning
    ear = BlindEar(Listener(), RATE, tmp_path / "heard.jsonl")
    monkeypatch.setattr(tuning, "Tuning", lambda args: made(args, ear))
    paths = {
        "--init-from": "voice",
        "--texts": "plain.csv",
        "--config": "few.yaml",
        "--folder": "work",
        "--json": "rows.json",
    }
    words = [word for flag, name in paths.items() for word in (flag, str(tmp_path / name))]
    words += ["--speaker", "human", "--device", "cpu", "--variants"]
    finetune.main([*words, finetune.ALONE, "recipe"])
    trained = tmp_path / "work/runs/human/recipe/best_checkpoint/model.safetensors"
    before = trained.stat().st_mtime_ns
    finetune.main([*words, finetune.ALONE, "recipe"])
    windows, speak = [], tuning.speak
    note = lambda *given, window, **more: windows.append(window) or speak(*given, **more)  # noqa: E731
    monkeypatch.setattr(tuning, "speak", note)
    finetune.main([*words, finetune.FREE])
    assert windows == [None, None]  # prompts and plain sentences
    assert trained.stat().st_mtime_ns == before
    rows = read_json(tmp_path / "rows.json")["rows"]
    assert [row["variant"] for row in rows] == [
        *("the base", finetune.ALONE, "recipe", finetune.FREE)
    ]
    assert [row["step"] for row in rows] == [3, 2, 2, 2]
    assert rows[2]["own"]["n"] == 2  # every fourth of eight
    assert rows[2]["cpu_seconds"] > 0
    assert rows[2]["plain"]["wer"]["value"] == pytest.approx(0.75)
    assert "| human | recipe | 1.000 |" in capsys.readouterr().out


def test_every_variant_has_settings_that_make_sense() -> None:
    chosen = finetune.configs(finetune.build_parser().parse([]))
    assert chosen["recipe"] == TrainConfig.fine_tuning()
    same = (finetune.ALONE, finetune.FREE)  # other looks at what the recipe trained
    trained = {repr(config) for name, config in chosen.items() if name not in same}
    assert len(trained) == len(chosen) - len(same)
    with pytest.raises(UserError, match="nothing is called 'replay'"):
        finetune.configs(finetune.build_parser().parse(["--variants", "replay"]))
