from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lewm import weights
from lewm.demo import bring_recordings
from tests.lewm.random_voice import INFO, random_voice
from tools.lewm_demo import main
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.evaluation.conditions import find_utterances, pair
from ttscommon.evaluation.evaluate import read_evaluation
from ttscommon.workspace import Speaker

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample_speaker"
HEADINGS = (*(f"training_text_{n}" for n in (1, 2, 3, 4)), "held_out_text_1")
VERSIONS = ("recording", "copy", "teacher_forced", "from_text")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Five short recordings of the bundled speaker."""
    folder = tmp_path_factory.mktemp("source")
    with (SAMPLE / "transcripts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rows = sorted(rows, key=lambda row: audio.duration(SAMPLE / row["audio_path"]))[:5]
    (folder / "audio").mkdir()
    for row in rows:
        shutil.copyfile(SAMPLE / row["audio_path"], folder / row["audio_path"])
    with (folder / "transcripts.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["audio_path", "text"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def run_demo(source: Path, root: Path) -> None:
    steps = ["--autoencoder-steps", "2", "--predictor-steps", "2"]
    base = ["--init-from", str(root / "no voice")]
    main(["--input", str(source), "--training-root", str(root), *steps, *base])


@pytest.fixture(scope="module")
def speaker(source, tmp_path_factory) -> Speaker:
    root = tmp_path_factory.mktemp("training")
    run_demo(source, root)
    return Speaker("demo", root)


def test_every_version_of_every_text_can_be_heard(speaker):
    expected = {f"{version}/{heading}.wav" for heading in HEADINGS for version in VERSIONS}
    expected.add("from_text/new_sentence.wav")
    paths = list(speaker.outputs.rglob("*.wav"))
    assert {path.relative_to(speaker.outputs).as_posix() for path in paths} == expected
    assert all(audio.duration(path) > 0.2 for path in paths)


def test_its_versions_can_be_compared_as_conditions(speaker):
    copies, said = (find_utterances(speaker.outputs / name) for name in ("copy", "from_text"))
    assert [len(pair(copies, said)), len(copies), len(said)] == [5, 5, 6]
    assert all(one.text for one in said)


def test_the_page_plays_what_lies_in_outputs_and_says_what_to_do_next(speaker):
    page = speaker.report.read_text(encoding="utf-8")
    assert page.count("<audio ") == 3 * len(VERSIONS) + 1  # two training texts, one held out
    assert "What a voice learns from 5 recordings" in page
    assert "Teacher-forced, held-out text" in page
    assert "python tools/lewm_train.py --speaker NAME" in page


def test_it_ends_with_an_evaluation_of_its_versions_and_its_page(speaker):
    evaluation = read_evaluation(speaker.evaluation / "evaluation.json")
    assert (evaluation.base, evaluation.real) == ("copy", "recording")
    assert set(evaluation.differences) == {"teacher_forced", "from_text", "recording"}
    page = (speaker.evaluation / "evaluation.html").read_text(encoding="utf-8")
    assert "Did it help? demo" in page
    assert page.count("<audio") == 5 * len(VERSIONS)


def test_started_again_after_a_kill_it_trains_only_what_is_missing(source, speaker):
    finished = speaker.lewm.run("autoencoder") / "best" / "model.safetensors"
    before = finished.stat().st_mtime_ns
    for lost in (speaker.lewm.run("predictor"), speaker.lewm.best_checkpoint, speaker.outputs):
        shutil.rmtree(lost)
    run_demo(source, speaker.root)
    assert finished.stat().st_mtime_ns == before
    assert (speaker.lewm.best_checkpoint / "model.safetensors").is_file()
    assert len(list(speaker.outputs.rglob("*.wav"))) == 21


@pytest.mark.slow
def test_where_there_is_a_voice_it_is_tuned_and_compared_with(source, tmp_path):
    model = random_voice(speakers=("anna", "heart"), languages=("en-us",))
    with torch.no_grad():
        model.predictor.stop.bias.fill_(99)  # ends at once, where it would run away
    training = {"language_of": dict.fromkeys(model.config.speakers, "en-us")}
    weights.save(tmp_path / "voice", model, replace(INFO, training=training))
    settings = tmp_path / "few.yaml"
    settings.write_text("speaker_steps: 2\nreplay_clips: 4\nevaluate_every: 2\n")
    words = ["--input", str(source), "--training-root", str(tmp_path), "--config", str(settings)]
    steps = ["--autoencoder-steps", "2", "--predictor-steps", "2"]
    main([*words, *steps, "--init-from", str(tmp_path / "voice")])
    speaker = Speaker("demo", tmp_path)
    tuned, info = weights.load(speaker.lewm.best_checkpoint)
    assert tuned.config.speakers == ("anna", "heart", "demo")
    assert (info.training["voice"], info.training["language_of"]["demo"]) == ("demo", "en-us")
    spoken = [{path.name for path in (speaker.outputs / n).glob("*.wav")} for n in ("base", "copy")]
    assert spoken[0] == spoken[1] | {f"new_sentence_{n}.wav" for n in range(1, 7)}
    evaluation = read_evaluation(speaker.evaluation / "evaluation.json")
    assert evaluation.base == "base"
    assert "faults" in evaluation.differences["from_text"]
    assert "The embedded voice, tuned on 5" in speaker.report.read_text(encoding="utf-8")


def test_recordings_are_brought_once_and_a_cut_copy_again(source, tmp_path):
    speaker = Speaker("demo", tmp_path)
    assert bring_recordings(source, speaker) == 6
    assert bring_recordings(source, speaker) == 0
    copied = next(speaker.audio.iterdir())
    copied.write_bytes(copied.read_bytes()[:100])
    assert bring_recordings(source, speaker) == 1


def test_a_missing_folder_of_recordings_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no recordings here.*gone"):
        bring_recordings(tmp_path / "gone", Speaker("demo", tmp_path))
