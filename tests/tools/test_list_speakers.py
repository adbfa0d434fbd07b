"""The list of speakers, over folders as the systems leave them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tools.list_speakers import main
from ttscommon.errors import UserError
from ttscommon.manifest import Clip, write_manifest
from ttscommon.survey import moment, survey
from ttscommon.workspace import Speaker

LATE = 2_000_000_000


def record(speaker: Speaker, n: int, seconds: float = 30.0) -> None:
    speaker.audio.mkdir(parents=True)
    for number in range(n):
        soundfile.write(speaker.audio / f"{number}.wav", np.zeros(round(seconds * 8000)), 8000)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def ozzy(tmp_path) -> Speaker:
    """A minute and a half of recordings, a voice, a stopped run and an output."""
    speaker = Speaker("ozzy", tmp_path)
    record(speaker, 3)
    clips = [Clip("0", "dataset/audio/0.wav", "hello", 30.0, "ozzy", "en", "0")]
    write_manifest(speaker.lewm.manifest, clips)
    info = {"step": 1200, "metrics": {"mel_dtw": 0.97, "runaways": 0.0, "note": "fine"}}
    write_json(speaker.lewm.best_checkpoint / "config.json", {"info": info})
    state = {"format": "ttscommon.state", "step": 40, "finished": False, "metrics": {"mel_l1": 0.5}}
    write_json(speaker.lewm.run("autoencoder") / "state" / "state.json", state)
    done = {**state, "finished": True}
    write_json(speaker.lewm.run("predictor") / "state" / "state.json", done)
    speaker.outputs.mkdir()
    soundfile.write(speaker.outputs / "hello.wav", np.zeros(80), 8000)
    os.utime(speaker.outputs / "hello.wav", (LATE, LATE))
    return speaker


def test_all_that_indextts2_learned_is_found(ozzy):
    def told(step: int) -> dict[str, object]:
        return {"step": step, "metrics": {"loss": step / 100}}

    for number, folder in enumerate(
        (
            ozzy.lora.best_checkpoint,
            ozzy.lora.best_audio,
            ozzy.pattern_training.best_checkpoint,
        )
    ):
        write_json(folder / "training_metadata.json", told(number + 1))
    ozzy.finetune.folder.mkdir()
    ozzy.finetune.best_model.write_bytes(b"weights")
    write_json(ozzy.finetune.best_model.with_suffix(".json"), told(7))
    state = {"format": "ttscommon.state", "step": 9, "finished": False, "metrics": {}}
    write_json(ozzy.lora.run("gpt") / "state/state.json", state)
    found = {one.what: one.step for one in survey(ozzy).trained if one.system == "indextts2"}
    assert found == {
        "LoRA": 1,
        "best by ear LoRA": 2,
        "pattern": 3,
        "fine-tuned": 7,
        "unfinished LoRA": 9,
    }


def test_everything_of_a_speaker_is_found(ozzy):
    found = survey(ozzy)
    assert (found.n_recordings, found.minutes, found.unreadable) == (3, 1.5, 0)
    assert (found.prepared, found.n_outputs, found.last_run) == ({"lewm": 0.5}, 1, LATE)
    voice, run = found.trained
    assert (voice.what, voice.step, voice.best_score) == ("voice", 1200, ("mel_dtw", 0.97))
    assert (run.what, run.step, run.best_score) == ("unfinished autoencoder", 40, ("mel_l1", 0.5))


def test_a_stored_voice_of_indextts2_counts(ozzy):
    ozzy.speaker_embeddings.parent.mkdir()
    ozzy.speaker_embeddings.write_bytes(b"tensors")
    first = survey(ozzy).trained[0]
    assert (first.system, first.what, first.best_score) == ("indextts2", "stored voice", None)


def test_adapters_of_higgs_count_with_step_and_score(ozzy, tmp_path, capsys):
    for number, folder in enumerate((ozzy.higgs.best_checkpoint, ozzy.higgs.final_checkpoint)):
        told = {"step": 300 + number, "metrics": {"loss": 2.5, "accuracy": 0.5}}
        write_json(folder / "adapter_config.json", {})
        write_json(folder / "training_metadata.json", told)
    state = {"format": "ttscommon.state", "step": 9, "finished": False, "metrics": {}}
    write_json(ozzy.higgs.run("adapter") / "state/state.json", state)
    found = [one for one in survey(ozzy).trained if one.system == "higgs"]
    assert [(one.what, one.step) for one in found] == [
        ("LoRA", 300),
        ("last LoRA", 301),
        ("unfinished adapter", 9),
    ]
    assert found[0].best_score == ("loss", 2.5)
    main(["--training-root", str(tmp_path)])
    assert "higgs LoRA" in capsys.readouterr().out


def test_a_broken_checkpoint_and_recording_dont_stop_the_list(ozzy):
    (ozzy.lewm.best_checkpoint / "config.json").write_text("{", encoding="utf-8")
    (ozzy.audio / "0.wav").write_bytes(b"RIFF")
    found = survey(ozzy)
    assert (found.minutes, found.unreadable) == (1.0, 1)
    assert "broken JSON" in str(found.trained[0].trouble)


def test_the_table_has_a_line_for_each_thing(ozzy, tmp_path, capsys):
    record(Speaker("anna", tmp_path), 1)
    main(["--training-root", str(tmp_path)])
    header, anna, voice, run = capsys.readouterr().out.splitlines()
    assert " ".join(header.split()) == "speaker minutes what step best score saved last run"
    assert anna.split() == ["anna", "0.5", "nothing", "trained", "never"]
    assert voice.split()[:7] == ["ozzy", "1.5", "lewm", "voice", "1,200", "mel_dtw", "0.970"]
    assert voice.endswith(str(moment(LATE)))
    assert run.split()[:3] == ["lewm", "unfinished", "autoencoder"]


def test_the_json_holds_the_same_and_more(ozzy, tmp_path):
    path = tmp_path / "speakers.json"
    main(["--training-root", str(tmp_path), "--speaker", "ozzy", "--json", str(path)])
    (one,) = json.loads(path.read_text(encoding="utf-8"))["speakers"]
    assert one["trained"][0]["scores"] == {"mel_dtw": 0.97, "runaways": 0.0}
    assert one["last_run"] == moment(LATE)


def test_an_unknown_speaker_is_told_who_there_is(ozzy, tmp_path):
    with pytest.raises(UserError, match=r"no speaker 'ozy'.*there are: ozzy"):
        main(["--training-root", str(tmp_path), "--speaker", "ozy"])


def test_nobody_is_told_where_recordings_go(tmp_path):
    with pytest.raises(UserError, match=r"no speakers yet.*NAME/dataset"):
        main(["--training-root", str(tmp_path)])


def evaluated(speaker: Speaker, path: Path, wer: float, status: str) -> None:
    scores = {name: {"fluent_wer": {"value": wer}} for name in ("base", "lora")}
    rails = [{"condition": "lora", "metric": "fluent_wer", "status": status}]
    data = {"format": "voxtune.evaluation", "version": 1, "scores": scores, "guard_rails": rails}
    write_json(path, data)


def test_the_latest_evaluation_of_each_condition_is_told(ozzy, tmp_path, capsys):
    evaluated(ozzy, ozzy.evaluation / "evaluation.json", 0.5, "passed")
    os.utime(ozzy.evaluation / "evaluation.json", (1, 1))
    newer = ozzy.comparison / "2026_evaluation.json"
    evaluated(ozzy, newer, 0.25, "failed")
    os.utime(newer, (LATE + 60, LATE + 60))
    base, lora = survey(ozzy).evaluated
    assert (base.scores, base.guard_rails) == ({"fluent_wer": 0.25}, "")
    assert (lora.condition, lora.guard_rails, survey(ozzy).last_run) == (
        "lora",
        "failed",
        LATE + 60,
    )
    main(["--training-root", str(tmp_path)])
    line = capsys.readouterr().out.splitlines()[-1]
    assert "evaluated lora" in line
    assert "fluent_wer 0.250, guard rails failed" in line


def test_a_broken_evaluation_is_named_and_stops_nothing(ozzy, tmp_path, capsys):
    write_json(ozzy.evaluation / "evaluation.json", {"format": "voxtune.evaluation", "scores": 3})
    main(["--training-root", str(tmp_path)])
    assert "evaluation.json" in capsys.readouterr().out
    assert survey(ozzy).evaluated == ()


def test_adapters_and_fine_tuned_models_of_indextts2_count(ozzy):
    info = {"step": 300, "metrics": {"loss": 2.5}}
    write_json(ozzy.lora.best_checkpoint / "training_metadata.json", info)
    ozzy.finetune.best_model.parent.mkdir(parents=True)
    ozzy.finetune.best_model.write_bytes(b"tensors")
    lora, tuned = survey(ozzy).trained[:2]
    assert (lora.what, lora.step, lora.best_score) == ("LoRA", 300, ("loss", 2.5))
    assert (tuned.system, tuned.what) == ("indextts2", "fine-tuned")
