"""The tool as it is typed: long recordings in, clips and an account of them out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.faster_whisper import write_model
from tests.ttscommon.listener import RATE, put, sentence_audio
from tools import transcribe_dataset, validate_dataset
from tools.segment_recordings import main
from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.manifest import read_manifest
from ttscommon.workspace import Speaker

FAKES = Path(__file__).resolve().parents[1] / "fakes"


@pytest.fixture(scope="module")
def sentences() -> np.ndarray:
    """Three sentences with a second of silence after each."""
    silence = np.zeros(RATE)
    return np.concatenate([part for n in (1, 3, 4) for part in (sentence_audio(n), silence)])


@pytest.fixture
def ozzy(tmp_path, sentences) -> Speaker:
    speaker = Speaker("ozzy", tmp_path / "training")
    put(speaker.audio, "long.wav", sentences)
    return speaker


def flags(speaker: Speaker, *more: str) -> list[str]:
    return ["--speaker", speaker.name, "--training-root", str(speaker.root), *more]


def next_flags(said: str) -> list[str]:
    """Those of the command that the tool gives at its end."""
    return shlex.split(re.findall("^Next: (.*)$", said, re.MULTILINE)[-1])[2:]


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.wav")}


def test_a_speaker_s_recordings_become_clips_and_the_next_command_takes_them(ozzy, capsys):
    main(flags(ozzy, "--max-seconds", "6"))
    said = capsys.readouterr().out
    clips = read_manifest(ozzy.clips_manifest)
    assert len(clips) >= 2
    assert re.search(rf"^{len(clips)} clips, 0\.\d+ minutes, out of 1 recordings", said)
    assert all(2 <= clip.duration <= 6 and (ozzy.folder / clip.audio).is_file() for clip in clips)
    account = read_json(ozzy.segmentation, format="ttscommon.segmentation")
    assert account["n_clips"] == len(clips)
    following = transcribe_dataset.build_parser().parse(next_flags(said))
    assert (following.speaker, following.training_root) == ("ozzy", ozzy.root)


def test_the_same_command_again_cuts_nothing_and_other_settings_ask_first(ozzy, capsys):
    main(flags(ozzy))
    before = times(ozzy.clips)
    main(flags(ozzy))
    assert times(ozzy.clips) == before
    with pytest.raises(UserError, match=r"cut with other settings: max_seconds.*--overwrite"):
        main(flags(ozzy, "--max-seconds", "6"))
    assert times(ozzy.clips) == before
    main(flags(ozzy, "--max-seconds", "6", "--overwrite"))
    assert set(times(ozzy.clips)) != set(before)


def test_folders_may_be_given_instead_of_a_speaker(ozzy, tmp_path, capsys):
    output = tmp_path / "set"
    main(["--audio-dir", str(ozzy.audio), "--output-dir", str(output)])
    assert {path.name for path in output.iterdir()} == {"clips", "clips.jsonl", "segmentation.json"}
    following = transcribe_dataset.build_parser().parse(next_flags(capsys.readouterr().out))
    assert (following.audio_dir, following.output_dir) == (output / "clips", output)
    assert not ozzy.clips.exists()


def test_by_the_commands_that_follow_clips_keep_their_recording(
    ozzy, tmp_path, monkeypatch, capsys
):
    from indextts.prepare_config import PrepareConfig
    from indextts.utterances import folder_source

    monkeypatch.syspath_prepend(str(FAKES))
    whisper = write_model(tmp_path / "whisper", "these are the words of every clip there is")
    output = tmp_path / "set"
    main(["--audio-dir", str(ozzy.audio), "--output-dir", str(output), "--max-seconds", "6"])
    more = ["--whisper-model", str(whisper), "--language", "en", "--device", "cpu"]
    transcribe_dataset.main([*next_flags(capsys.readouterr().out), *more])
    following = validate_dataset.build_parser().parse(next_flags(capsys.readouterr().out))
    source = folder_source(following.audio_dir, following.transcripts, PrepareConfig())
    assert len(source.utterances) >= 2
    assert {utterance.recording for utterance in source.utterances} == {"long.wav"}
    assert len({utterance.start for utterance in source.utterances}) == len(source.utterances)


def test_what_was_left_out_is_told_with_the_reason(ozzy, capsys):
    (ozzy.audio / "broken.wav").write_bytes(b"RIFF")
    put(ozzy.audio, "word.wav", sentence_audio(1)[: RATE // 2])
    (ozzy.audio / "talk.m4a").write_bytes(b"not for us")
    main(flags(ozzy))
    said = capsys.readouterr().out
    assert "left out talk.m4a: .m4a can't be read; convert it to .wav" in said
    assert "left out broken.wav: " in said
    assert re.search(r"left out 0\.\d+ minutes of speech: .*\(first word\.wav", said)


def test_recordings_of_one_stem_become_clips_of_two_names(ozzy):
    put(ozzy.audio, "long.flac", sentence_audio(5))
    main(flags(ozzy))
    found = {clip.recording: clip.audio for clip in read_manifest(ozzy.clips_manifest)}
    assert set(found) == {"long.wav", "long.flac"}
    assert all((ozzy.folder / audio).is_file() for audio in found.values())


def test_a_folder_in_which_nobody_speaks_leaves_nothing(tmp_path):
    speaker = Speaker("silence", tmp_path)
    put(speaker.audio, "quiet.wav", np.zeros(3 * RATE))
    with pytest.raises(UserError, match="no clips"):
        main(flags(speaker))
    assert not speaker.clips_manifest.exists()
    assert not list(speaker.clips.glob("*.wav"))


@pytest.mark.parametrize("words", [[], ["--audio-dir", "a"], ["--output-dir", "b"]])
def test_half_a_place_is_wrong_usage(words):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2


def test_a_setting_that_makes_no_sense_is_one_line(ozzy):
    with pytest.raises(UserError, match="seconds"):
        main(flags(ozzy, "--min-seconds", "9", "--max-seconds", "5"))
    assert not ozzy.clips.exists()
