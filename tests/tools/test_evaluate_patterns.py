"""From folders of speech to a verdict about manners of speaking."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.indextts.planted import SAMPLE as SAMPLES
from tests.indextts.planted import sample_recordings
from tools.evaluate_patterns import main
from ttscommon.audio import load, save
from ttscommon.errors import UserError
from ttscommon.segment import VAD_RATE

N_TEXTS = 8


def with_pause(audio: np.ndarray, seconds: float) -> np.ndarray:
    """The same with silence at its quietest moment, away from its ends."""
    size = 320
    levels = np.square(audio[: len(audio) // size * size].reshape(-1, size)).mean(1)
    edge = VAD_RATE // 2 // size
    place = (edge + int(np.argmin(levels[edge:-edge]))) * size
    silence = np.zeros(round(seconds * VAD_RATE), np.float32)
    return np.concatenate([audio[:place], silence, audio[place:]])


def write_conditions(root: Path) -> dict[str, Path]:
    """A speaker who pauses for 0.6 to 1.2 s, a base that doesn't, and a pattern that does."""
    folders = {name: root / name for name in ("R", "B0", "LP", "LP0", "LPr", "LP@0.5")}
    recordings = sample_recordings()
    lengths = np.random.default_rng(0).uniform(0.6, 1.2, 2 * N_TEXTS)
    for number in range(2 * N_TEXTS):
        audio = load(recordings[number], VAD_RATE)[: 2 * VAD_RATE]
        paused = with_pause(audio, float(lengths[number]))
        if number < N_TEXTS:
            save(folders["R"] / f"r{number}.wav", paused, VAD_RATE)
            continue
        name = f"t{number}_seed0.wav"
        for condition in ("B0", "LP0", "LPr"):
            save(folders[condition] / name, audio, VAD_RATE)
        save(folders["LP"] / name, paused, VAD_RATE)
        save(folders["LP@0.5"] / name, paused if number % 2 else audio, VAD_RATE)
    return folders


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pauses_that_a_pattern_brings_are_shown_to_come_from_it(tmp_path, capsys):
    folders = write_conditions(tmp_path)
    output = tmp_path / "out"
    words = [f"{name}={folder}" for name, folder in folders.items()]
    words += ["--whisper-model", "none", "--output-dir", str(output), "--max-clips", "4"]
    (folders["R"] / "transcripts.csv").write_text(
        "audio_path,text\n" + "".join(f"r{i}.wav,one... two\n" for i in range(N_TEXTS)), "utf-8"
    )
    words += ["--others", str(folders["B0"]), "--labelled", str(folders["R"])]
    main(words)
    said = capsys.readouterr().out
    assert "not testable: the manner carries over to new texts (only pause_rate" in said
    assert "shown: it is the pattern that does it" in said
    assert "Note: 8 texts are few" in said
    assert "by a classifier: 1 other people are few" in said
    assert "pauses, corrected: 0 labelled events" in said  # none without a recogniser's words
    found = json.loads((output / "patterns.json").read_text(encoding="utf-8"))
    assert found["transfer"]["LP"]["pause_rate"]["value"] > 0.5
    assert found["transfer"]["LP0"]["pause_rate"]["value"] < 0.2
    assert found["counts"]["LP"]["pauses_per_minute"] > found["counts"]["LP@0.5"][
        "pauses_per_minute"
    ] > found["counts"]["LP0"]["pauses_per_minute"]  # fmt: skip
    report = (output / "patterns.html").read_text(encoding="utf-8")
    assert "The way to the speaker" in report
    assert report.count("<img") >= 2
    blind = (output / "blind.html").read_text(encoding="utf-8")
    assert '"reference": "R"' in blind or '"reference":"R"' in blind
    before = (output / "measured.jsonl").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        main(words)
    main([*words, "--overwrite"])
    assert (output / "measured.jsonl").read_bytes() == before  # nothing was measured twice


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "required: NAME=FOLDER"),
        (["B0"], "'B0' isn't NAME=FOLDER"),
        (["B0=a", "B0=b"], "'B0' is there twice"),
    ],
)
def test_wrong_usage_exits_with_two(words, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["B0=a", "LP=b"], "real recordings"),
        (["B0=a", "R=b", "tuned=c"], "no condition of this protocol"),
        (["B0=a", "R=b", "LP=c"], "no such folder"),
        ([*(f"{name}={SAMPLES}" for name in ("B0", "R", "LP")), "--others", "a"], "no such folder"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_measured(words, said, tmp_path):
    output = tmp_path / "out"
    with pytest.raises(UserError, match=said):
        main([*words, "--output-dir", str(output)])
    assert not output.exists()
