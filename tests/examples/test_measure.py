"""The measurement counts what it says, and the scripts start without torch."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from examples.closed_grammar import evaluation, measure
from lewm.inference_engine import Engine
from tests.lewm.random_voice import INFO, random_voice
from ttscommon import audio
from ttscommon.errors import UserError

EXAMPLES = Path(evaluation.__file__).parent
TEXTS = ("The old farmer found a map.", "My sister sang.", "A boy ran home.")
SECONDS = (1.2, 0.6, 0.7)


class Listener:
    """A transcriber that hears given texts, whatever is played."""

    def __init__(self, *texts: str):
        self.texts = list(texts)

    def text(self, audio: np.ndarray, sample_rate: int, language: str) -> str:
        assert audio.ndim == 1
        assert sample_rate == 24000
        return self.texts.pop(0)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine((random_voice(), INFO), device="cpu", vocoder="griffinlim")


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three buzzes, each between half a second of silence, and the three as one long text."""
    folder = tmp_path_factory.mktemp("heldout")
    names = [f"audio/{i}.wav" for i in range(len(TEXTS))]
    for name, seconds in zip(names, SECONDS, strict=True):
        buzz = 0.2 * np.sign(np.sin(np.arange(round(seconds * 24000)) * 0.05))
        audio.save(folder / name, np.pad(buzz, 12000).astype(np.float32), 24000)
    tables = {
        "transcripts.csv": [("audio_path", "text"), *zip(names, TEXTS, strict=True)],
        "long.csv": [("audio_paths", "text"), (" ".join(names), " ".join(TEXTS))],
    }
    for name, rows in tables.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


def test_recordings_are_trimmed_and_keep_their_texts(engine: Engine, held_out: Path) -> None:
    recordings = evaluation.read_held_out(held_out, engine)
    assert [r.text for r in recordings] == list(TEXTS)
    lengths = [len(r.audio) / 24000 for r in recordings]
    assert lengths == pytest.approx(SECONDS, abs=0.021)


def test_limit_takes_the_first_recordings(engine: Engine, held_out: Path) -> None:
    assert [r.text for r in evaluation.read_held_out(held_out, engine, 1)] == [TEXTS[0]]


def test_long_recordings_are_joined_as_training_joins_clips(engine: Engine, held_out: Path) -> None:
    (long,) = evaluation.read_long(held_out, engine)
    margins = 2 * (0.04 + 0.08)  # of preprocessing, where the clips meet
    assert len(long.audio) / 24000 == pytest.approx(sum(SECONDS) + margins, abs=0.06)
    assert long.text == " ".join(TEXTS)


def test_a_recording_compared_with_itself_is_perfect(engine: Engine, held_out: Path) -> None:
    recordings = evaluation.read_held_out(held_out, engine)
    heard = evaluation.listen(recordings, Listener(*TEXTS), 24000, "recordings")
    scores = evaluation.score(recordings, recordings, heard)
    assert (scores["n"], scores["wer"], scores["length_ratio"]) == (3, 0, 1)
    assert scores["mel_dtw"] == pytest.approx(0, abs=1e-6)
    assert scores["early_stops"] == scores["runaways"] == 0


def test_early_stops_runaways_and_wrong_words_are_counted(engine: Engine, held_out: Path) -> None:
    recordings = evaluation.read_held_out(held_out, engine)
    short = replace(recordings[0], audio=recordings[0].audio[: len(recordings[0].audio) // 2])
    said = [short, replace(recordings[1], ran_away=True), recordings[2]]
    heard = ["The old farmer", "my sister sang", "a boy ran home"]
    scores = evaluation.score(said, recordings, heard)
    assert (scores["early_stops"], scores["runaways"]) == (1, 1)
    assert scores["wer"] == pytest.approx(3 / 13)
    assert scores["length_ratio_min"] == pytest.approx(0.5, abs=0.01)


def test_a_text_beyond_the_trained_length_is_said_in_one_piece(
    engine: Engine, held_out: Path
) -> None:
    long = evaluation.read_long(held_out, engine)
    assert len(long[0].text) > INFO.max_text_bytes
    (said,) = evaluation.speak(engine, long, seed=0)
    assert said.alignment is not None
    limit = 1.6 * len(long[0].text) * INFO.frames_per_byte * 4 * 256
    assert 0 < len(said.audio) <= limit + 1024


def test_copies_last_as_long_as_their_recordings(engine: Engine, held_out: Path) -> None:
    recordings = evaluation.read_held_out(held_out, engine)
    copies = evaluation.copy(engine, recordings)
    for made, recording in zip(copies, recordings, strict=True):
        assert made.mel.shape[1] == pytest.approx(recording.mel.shape[1], abs=4)


def test_a_folder_without_held_out_texts_is_one_clear_line(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no held-out texts"):
        evaluation.read_held_out(tmp_path, engine)


def test_the_table_has_a_column_for_each_kind_of_speech() -> None:
    scores = {"recordings": {"n": 40, "wer": 0.011}, "spoken": {"n": 40, "diagonality": 0.98765}}
    result = {"preset": "tiny", "step": 7, "vocoder": "griffinlim", "scores": scores}
    lines = [line.split("|")[1:-1] for line in measure.table(result).splitlines()[2:]]
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}
    assert rows[""] == ["recordings", "spoken"]
    assert rows["word error rate"] == ["1.1%", "-"]
    assert rows["alignment diagonality"] == ["-", "0.988"]
