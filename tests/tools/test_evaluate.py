"""The tool stops a pipeline when the tuned voice got worse, and says each mistake in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tools import evaluate
from ttscommon.audio import load, save
from ttscommon.errors import UserError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample_speaker"
RATE = 16_000


@pytest.fixture
def folders(tmp_path) -> list[str]:
    """Two readings of six texts: recordings, and the same under noise."""
    noise = np.random.default_rng(0).normal(0, 0.05, 60 * RATE).astype(np.float32)
    for number in range(1, 7):
        audio = load(EXAMPLE / "audio" / f"spk_{number:03d}.flac", RATE)[: 3 * RATE]
        save(tmp_path / "base" / f"{number}.wav", audio, RATE)
        save(tmp_path / "tuned" / f"{number}.wav", audio + noise[: len(audio)], RATE)
    return [f"{name}={tmp_path / name}" for name in ("base", "tuned")]


def test_noise_breaks_the_guard_rail_of_quality_and_the_exit_code_says_so(
    folders, tmp_path, capsys
):
    pytest.importorskip("speechmos")
    words = [*folders, "--whisper-model", "none", "--output-dir", str(tmp_path / "out")]
    assert evaluate.main(words) == 3
    shown = capsys.readouterr().out
    assert "guard rail failed: tuned dnsmos -" in shown
    assert "not measured: wer: no recogniser was given" in shown
    data = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert data["differences"]["tuned"]["dnsmos"]["high"] < 0
    assert (tmp_path / "out" / "evaluation.csv").is_file()
    with pytest.raises(UserError, match="exists already"):
        evaluate.main(words)
    same = [folders[0], folders[0].replace("base=", "tuned=")]  # all of it was measured before
    assert evaluate.main([*same, *words[2:], "--overwrite"]) == 0


def test_a_speakers_outputs_are_conditions(tmp_path, monkeypatch):
    speaker = tmp_path / "ozzy"
    shutil.copytree(EXAMPLE, speaker / "dataset")
    for name in ("base", "tuned"):
        (speaker / "outputs" / name).mkdir(parents=True)
    words = ["--speaker", "ozzy", "--training-root", str(tmp_path), "--whisper-model", "none"]
    with pytest.raises(UserError, match="no recordings in the folder") as caught:
        evaluate.main(words)
    assert str(speaker / "outputs" / "base") in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give conditions"),
        (["base"], "'base' isn't NAME=FOLDER"),
        (["base=a", "base=b"], "'base' is there twice"),
        (["base=a", "--speaker", "ozzy"], "give conditions"),
    ],
)
def test_wrong_usage_exits_with_two(words, said, capsys):
    with pytest.raises(SystemExit) as caught:
        evaluate.main(words)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_one_condition_compares_with_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="one condition alone"):
        evaluate.main(["base=a"])
    with pytest.raises(UserError, match="no such folder"):
        evaluate.main(["base=a", "tuned=b", "--whisper-model", "none"])
    assert list(tmp_path.iterdir()) == []
