"""The embedded voice is measured, exported and described from what is there, or not at all."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.embedded_voice import benchmark, card, export, measure, scoring, subset
from examples.embedded_voice.hearing import Ear
from examples.embedded_voice.trial import Trial
from lewm import weights
from tests.lewm.random_voice import INFO, random_voice
from ttscommon import audio
from ttscommon.checkpoints import read_tensors
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json
from ttscommon.workspace import Speaker

EXAMPLES = Path(measure.__file__).parent
TEXTS = [f"The {word} farmer found a map." for word in ("old", "tall", "red")]
RATE = 24000


class Listener:
    """A transcriber that hears the same in everything, and counts."""

    def __init__(self, heard: str = ""):
        self.heard, self.n = heard, 0

    def text(self, audio: np.ndarray, sample_rate: int, language: str) -> str:
        self.n += 1
        return self.heard


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voice") / "best_checkpoint"
    model = random_voice(speakers=("heart", "joe"))
    weights.save(folder, model, INFO)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Held-out buzzes by one voice, the same as that voice's own clips."""
    root = tmp_path_factory.mktemp("embedded")
    folders = [root / "heldout" / kind / "heart" / "dataset" for kind in ("plain", "hard")]
    for folder in [*folders, root / "heart" / "dataset"]:
        rows = [("audio_path", "text")]
        for i, text in enumerate(TEXTS):
            seconds = np.arange(round((0.5 + 0.05 * i) * RATE))
            buzz = 0.2 * np.sign(np.sin(seconds * 0.05))
            audio.save(folder / f"audio/{i}.wav", buzz.astype(np.float32), RATE)
            rows.append((f"audio/{i}.wav", text))
        with (folder / "transcripts.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    return root


def asked(root: Path, checkpoint: Path, *words: str):
    common = ["--root", str(root), "--checkpoint", str(checkpoint), "--voices", "heart"]
    args = measure.build_parser().parse(["reading", *common, "--device", "cpu", *words])
    args.kept = root / "heard.jsonl"
    return args


def test_the_subset_is_the_first_clips_of_a_voice(root: Path, tmp_path: Path) -> None:
    copied = Speaker("heart", tmp_path)
    subset.take(Speaker("heart", root), copied, 2)
    with copied.transcripts.open(encoding="utf-8", newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == TEXTS[:2]
    assert sorted(path.name for path in copied.audio.iterdir()) == ["0.wav", "1.wav"]


def test_a_voice_that_said_too_little_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="heart said 3 texts, not 4"):
        subset.take(Speaker("heart", root), Speaker("heart", tmp_path), 4)


def test_nothing_is_listened_to_twice(tmp_path: Path) -> None:
    sounds = [np.full(100, level, np.float32) for level in (0.1, 0.2)]
    first, second = Listener("yes"), Listener("no")
    assert Ear(first, RATE, tmp_path / "heard.jsonl").words(sounds, "") == ["yes", "yes"]
    again = Ear(second, RATE, tmp_path / "heard.jsonl")
    assert again.words([*sounds, np.zeros(100, np.float32)], "") == ["yes", "yes", "no"]
    assert (first.n, second.n) == (2, 1)


@pytest.mark.parametrize(
    ("heard", "is_read"),
    [
        ("a boy ran home my sister sang a song", True),
        ("a boy ran home my sister said a thong", True),
        ("a boy ran home", False),
        ("my sister sang a song", True),
        ("", False),
    ],
)
def test_a_text_is_read_to_the_end_if_its_last_sentence_is_heard(heard: str, is_read: bool) -> None:
    last = "My sister sang a song."
    assert scoring.is_read_to_the_end(last, f"A boy ran home. {last}", heard) == is_read


def test_words_are_scored_against_what_was_heard_in_the_recordings() -> None:
    heard = ["The old farmer found a cap.", *TEXTS[1:]]
    scores = scoring.score_words(TEXTS, heard, heard)
    assert scores["wer"]["value"] == pytest.approx(1 / 18)
    assert scores["wer_excess"]["value"] == 0
    assert scoring.score_words(TEXTS, heard, TEXTS)["wer_excess"]["value"] == pytest.approx(1 / 18)


def test_a_perfect_copy_is_as_like_the_voice_as_its_recording() -> None:
    voices = [np.array(v, np.float32) for v in ([1, 0], [0.6, 0.8], [0, 1])]
    scores = scoring.score_voices(voices, voices)
    assert scores["own"] == pytest.approx(1)
    assert scores["others"] == pytest.approx(scores["recordings"])


def test_readings_have_rows_for_each_text_and_go_on_where_they_stopped(
    root: Path, checkpoint: Path
) -> None:
    args, listener = asked(root, checkpoint, "--readings", "letters"), Listener(TEXTS[0])
    rows = Trial(args, Ear(listener, RATE, args.kept)).readings()
    parts = ["recordings", "copies", "letters"]
    names = [
        *(("plain", p) for p in parts),
        ("plain x 3", "letters"),
        *(("hard", p) for p in parts),
    ]
    assert [(row["texts"], row["said"]) for row in rows] == names
    by_name = {(row["texts"], row["said"]): row for row in rows}
    assert by_name["plain", "recordings"]["wer"]["value"] == pytest.approx(2 / 18)
    assert by_name["plain", "copies"]["length_ratio"]["value"] == pytest.approx(1, abs=0.1)
    assert by_name["plain x 3", "letters"]["read_to_the_end"]["value"] == 0
    assert {"mel_dtw", "runaways", "wer_excess"} <= by_name["hard", "letters"].keys()
    silent = Listener("nothing like it")
    assert Trial(args, Ear(silent, RATE, args.kept)).readings() == rows
    assert silent.n == 0
    assert "| heart | plain x 3 | letters | 1 |" in measure.table({"rows": rows})


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "voice"
    made = export.export(checkpoint.parent, folder, TEXTS)
    assert made["mel_dtw"] < export.MOST_DIFFERENCE
    assert made["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    return folder


def test_an_export_is_half_as_large_and_loads_as_what_it_was(
    exported: Path, checkpoint: Path
) -> None:
    names = {"config.json", "model.safetensors", "texts.txt", "WORDNET_LICENSE.txt"}
    assert {path.name for path in exported.iterdir()} == names
    (half, info), (whole, _) = weights.load(exported), weights.load(checkpoint)
    assert info == INFO
    written = read_tensors(exported / "model.safetensors")
    for name, parameter in whole.named_parameters():
        assert written[name].dtype == torch.float16
        torch.testing.assert_close(half.get_parameter(name), parameter, rtol=1e-3, atol=1e-5)
    assert torch.equal(half.mel_mean, whole.mel_mean)
    assert (exported / "texts.txt").read_text(encoding="utf-8").splitlines() == TEXTS


def test_half_a_file_is_refused(exported: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match="truncated or damaged"):
        weights.load(tmp_path)


def test_a_voice_too_large_for_git_leaves_no_folder(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match="belong into git"):
        export.export(checkpoint, tmp_path / "voice", TEXTS)
    assert list(tmp_path.iterdir()) == []


def test_a_voice_without_the_embedded_speaker_is_not_exported(tmp_path: Path) -> None:
    weights.save(tmp_path / "other", random_voice(), INFO)
    with pytest.raises(UserError, match="nobody called heart"):
        export.export(tmp_path / "other", tmp_path / "voice", TEXTS)


def test_an_exported_voice_is_not_replaced_unasked(exported: Path) -> None:
    with pytest.raises(UserError, match="already there"):
        export.main(["--output-dir", str(exported)])


def test_lists_and_single_words_are_no_sentences_to_replay(tmp_path: Path) -> None:
    texts = ["Dog.", "cat, tree, stone", TEXTS[0], "no end to this one", TEXTS[1], TEXTS[2]]
    rows = "".join(f'{i},rare,"{text}"\n' for i, text in enumerate(texts))
    (tmp_path / "training.csv").write_text(f"id,kind,text\n{rows}", encoding="utf-8")
    assert export.chosen_texts(tmp_path / "training.csv", 2) == TEXTS[:2]


def buzz(text: str, path: Path) -> None:
    audio.save(path, np.sin(np.arange(1000 * len(text)) * 0.05).astype(np.float32), RATE)


def test_a_benchmark_hears_each_text_and_no_warming_up() -> None:
    said = benchmark.say_all(buzz, TEXTS)
    assert [len(sound) for sound in said.sounds] == [1000 * len(text) for text in TEXTS]
    assert said.processor >= 0


def test_the_embedded_voice_says_a_text_into_a_file(checkpoint: Path, tmp_path: Path) -> None:
    say = benchmark.embedded(checkpoint, "heart", "auto", "griffinlim")
    say("Hello.", tmp_path / "said.wav")
    assert len(audio.load(tmp_path / "said.wav", RATE)) > 0


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """What the three measurements write, a row each."""
    score = {"value": 0.05, "n": 4, "low": 0.01, "high": 0.1}
    row = {"voice": "heart", "texts": "plain", "said": "letters", "n": 4, "wer": score}
    engine = {"engine": "this voice", "real_time_factor": 0.2, "dnsmos": 3.1, "wer_plain": score}
    told = {"format": measure.FORMAT, "version": 1, "step": INFO.step, "n_parameters": 9_500_000}
    told |= {"vocoder": "griffinlim", "whisper": "whisper-base", "n_texts": 20}
    rows = {"reading": [row], "copies": [{**row, "own": 0.9}], "benchmark": [engine]}
    for name, some in rows.items():
        write_json(tmp_path / f"{name}.json", {**told, "rows": some})
    return tmp_path


def test_the_card_has_the_measured_numbers_and_every_notice(exported: Path, measured: Path) -> None:
    page = card.card(exported, measured)
    assert "| heart | plain | letters | 4 | 5.0 % [1.0, 10.0] |" in page
    assert "| this voice | 0.200 | 3.10 | 5.0 % [1.0, 10.0] |" in page
    assert "9.5 million parameters" in page
    assert "heart, joe" in page
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in page


def test_numbers_of_another_voice_make_no_card(exported: Path, measured: Path) -> None:
    reading = read_json(measured / "reading.json")
    write_json(measured / "reading.json", {**reading, "step": 7})
    with pytest.raises(UserError, match="step 7 was measured, and step 3 exported"):
        card.card(exported, measured)


def test_a_card_asks_for_what_was_not_measured(exported: Path, measured: Path) -> None:
    (measured / "copies.json").unlink()
    with pytest.raises(UserError, match=r"measure.py copies"):
        card.card(exported, measured)
