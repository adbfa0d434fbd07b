"""Recordings become features: what is kept, what is computed again, what is in the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lewm.config import PreprocessConfig
from lewm.features import MANIFEST_FILE, FeatureStore
from lewm.preprocess import prepare
from tests.lewm.recordings_made import (
    RATE,
    CountingTranscriber,
    tone,
    write_dataset,
    write_tones,
    write_transcripts,
)
from tools import lewm_preprocess
from ttscommon import clipping
from ttscommon.audio import load
from ttscommon.errors import UserError
from ttscommon.manifest import read_manifest
from ttscommon.mel import MelRecipe, log_mel
from ttscommon.workspace import Speaker

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample_speaker"
CONFIG = PreprocessConfig(workers=1)


@pytest.fixture
def ozzy(tmp_path: Path) -> Speaker:
    """A speaker with six recordings and their transcripts."""
    speaker = Speaker("ozzy", tmp_path / "training")
    write_dataset(speaker.dataset, 6)
    return speaker


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one recording of 22 s: a real speaker, a sentence after the other."""
    folder = tmp_path_factory.mktemp("talk")
    silence = np.zeros(16_000, np.float32)
    names = [f"spk_00{n}.flac" for n in (1, 2, 3, 4)]
    parts = [part for name in names for part in (load(SAMPLE / "audio" / name, 16_000), silence)]
    soundfile.write(folder / "talk.wav", np.concatenate(parts), 16_000)
    return folder


def test_a_speaker_s_recordings_become_features_and_a_manifest(ozzy):
    report = prepare(ozzy, CONFIG)
    assert (report.n_clips, report.skipped, report.folder) == (6, [], ozzy.lewm.processed)
    store, clips = FeatureStore(report.folder), read_manifest(report.folder / MANIFEST_FILE)
    assert store.ids == [clip.id for clip in clips] == [f"clip00{n}" for n in range(6)]
    assert store.texts[2] == clips[2].text == "words of clip002"
    assert clips[2].audio == clips[2].recording == "dataset/audio/clip002.wav"
    assert (clips[2].speaker, clips[2].language, store.speakers[2]) == ("ozzy", "en", "ozzy")
    assert sum(clip.duration for clip in clips) == pytest.approx(report.seconds, rel=0.02)
    assert sorted(path.suffix for path in report.folder.iterdir()) == [".arrow", ".json", ".jsonl"]


def test_the_mel_is_the_recipe_s_mel_of_the_trimmed_and_levelled_sound(tmp_path):
    write_dataset(tmp_path / "in", 1, seconds=1.0)
    prepare(None, CONFIG, source=tmp_path / "in", output=tmp_path / "out")
    mel = torch.from_numpy(FeatureStore(tmp_path / "out")[0].mel.astype(np.float32))
    raw = log_mel(torch.from_numpy(load(tmp_path / "in/audio/clip000.wav", RATE)), MelRecipe())
    # 40 ms of lead shift the frames by 3.75; the level shifts every value alike.
    middle, offset = mel[5:20, 30:60], raw[5:20, 26:56].mean() - mel[5:20, 30:60].mean()
    assert mel.shape == (100, 1 + round(1.12 * RATE) // 256)
    torch.testing.assert_close(middle.mean(1), raw[5:20, 26:56].mean(1) - offset, atol=0.15, rtol=0)


def test_any_mixture_of_formats_is_taken(tmp_path):
    for suffix, rate, n_channels in ((".wav", 8_000, 2), (".mp3", 44_100, 1), (".ogg", 48_000, 2)):
        sound = np.stack([tone(0.8, rate)] * n_channels, axis=1)
        soundfile.write(tmp_path / f"a{suffix}", sound, rate)
    soundfile.write(tmp_path / "b.flac", tone(0.8, 96_000), 96_000, subtype="PCM_24")
    write_transcripts(tmp_path / "metadata.csv", ["a.wav", "a.mp3", "a.ogg", "b"])
    report = prepare(None, CONFIG, source=tmp_path, output=tmp_path / "out")
    store = FeatureStore(report.folder)
    assert sorted(store.ids) == ["a.mp3", "a.ogg", "a.wav", "b"]  # one stem, so with its suffix
    assert np.ptp(store.n_frames) <= 6


def test_only_what_has_no_transcript_is_transcribed_unless_always(tmp_path):
    write_tones(tmp_path / "in", 2)
    soundfile.write(
        tmp_path / "in" / "sample.wav", load(SAMPLE / "audio" / "spk_001.flac", RATE), RATE
    )
    write_transcripts(tmp_path / "in" / "transcripts.csv", ["clip000", "clip001"])
    whisper = CountingTranscriber()
    places = {"source": tmp_path / "in", "output": tmp_path / "out"}
    prepare(None, CONFIG, **places, transcriber=whisper)
    texts = FeatureStore(tmp_path / "out").texts
    assert texts == ["words of clip000", "words of clip001", "3 seconds of en"]
    assert whisper.calls == 1
    always = PreprocessConfig(workers=1, transcribe="always")
    with pytest.raises(UserError, match="auto -> always"):
        prepare(None, always, **places, transcriber=whisper)
    prepare(None, always, **places, transcriber=whisper, overwrite=True)
    assert all("seconds of en" in text for text in FeatureStore(tmp_path / "out").texts)


def test_noise_without_a_transcript_is_not_given_to_whisper(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE)
    soundfile.write(tmp_path / "noise.wav", noise, RATE)
    soundfile.write(tmp_path / "talk.wav", load(SAMPLE / "audio" / "spk_001.flac", RATE), RATE)
    whisper = CountingTranscriber()
    report = prepare(None, CONFIG, source=tmp_path, output=tmp_path / "out", transcriber=whisper)
    assert report.skipped == [("noise.wav", "no speech in it")]
    assert whisper.calls == 1


def test_short_clips_with_a_transcript_are_kept_and_mere_clicks_are_not(tmp_path):
    write_dataset(tmp_path, 3, seconds=0.5)
    soundfile.write(tmp_path / "audio" / "clip000.wav", tone(0.2), RATE)
    report = prepare(None, CONFIG, source=tmp_path, output=tmp_path / "out")
    assert report.n_clips == 2
    assert report.skipped == [("audio/clip000.wav", "less than 0.3 s of sound")]


def test_a_long_recording_is_cut_and_its_pieces_are_transcribed(talk, tmp_path):
    config = PreprocessConfig(workers=1, max_seconds=8.0)
    report = prepare(None, config, source=talk, output=tmp_path, transcriber=CountingTranscriber())
    clips = read_manifest(tmp_path / MANIFEST_FILE)
    assert report.n_clips == len(clips) >= 3
    assert all(2.5 <= clip.duration <= 8.2 for clip in clips)
    assert {clip.recording for clip in clips} == {"talk.wav"}
    assert len({clip.id for clip in clips}) == len(clips)
    ends = [clip.start + clip.duration for clip in clips]
    assert all(end <= clip.start + 0.15 for end, clip in zip(ends, clips[1:], strict=False))


def test_a_very_long_recording_is_worked_on_in_parts_without_tearing_words(
    talk, tmp_path, monkeypatch
):
    monkeypatch.setattr(clipping, "PART_SECONDS", 12.0)
    monkeypatch.setattr(clipping, "SEARCH_SECONDS", 4.0)
    config = PreprocessConfig(workers=1, max_seconds=8.0)
    prepare(None, config, source=talk, output=tmp_path, transcriber=CountingTranscriber())
    sound = load(talk / "talk.wav", RATE)
    for clip in read_manifest(tmp_path / MANIFEST_FILE):
        for edge in (clip.start, clip.start + clip.duration):
            around = sound[max(0, round((edge - 0.02) * RATE)) : round((edge + 0.02) * RATE)]
            assert np.abs(around).max(initial=0) < 0.1 * np.abs(sound).max()
    covered = sum(clip.duration for clip in read_manifest(tmp_path / MANIFEST_FILE))
    assert covered > 12


def test_the_transcript_of_a_recording_that_must_be_cut_cannot_be_kept(tmp_path):
    write_dataset(tmp_path, 3)
    soundfile.write(tmp_path / "audio" / "clip001.wav", tone(13.0), RATE)
    config = PreprocessConfig(workers=1, transcribe="never")
    report = prepare(None, config, source=tmp_path, output=tmp_path / "out")
    assert report.n_clips == 2
    assert report.skipped[0][0] == "audio/clip001.wav"
    assert "longer than 12 s" in report.skipped[0][1]


def test_a_second_run_does_nothing_and_a_change_does_only_what_changed(tmp_path):
    paths = write_tones(tmp_path / "in", 4)
    speech = load(SAMPLE / "audio" / "spk_001.flac", RATE)
    for path in paths:
        soundfile.write(path, speech, RATE)
    places = {"source": tmp_path / "in", "output": tmp_path / "out"}
    first, second, third = (CountingTranscriber() for _ in range(3))
    config = PreprocessConfig(workers=1, clips_per_shard=2)
    prepare(None, config, **places, transcriber=first)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.arrow")}
    prepare(None, config, **places, transcriber=second)
    assert (first.calls, second.calls) == (4, 0)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.arrow")} == before
    soundfile.write(tmp_path / "in" / "added.wav", speech, RATE)  # moves all others
    paths[3].unlink()
    report = prepare(None, config, **places, transcriber=third)
    assert (third.calls, report.n_clips) == (1, 4)
    assert FeatureStore(tmp_path / "out").ids == ["added", "clip000", "clip001", "clip002"]
    assert len(list((tmp_path / "out").glob("*.arrow"))) == 2  # those of before are gone


def test_an_interrupted_run_goes_on_and_ends_the_same(tmp_path):
    for path in write_tones(tmp_path / "in", 5):
        soundfile.write(path, load(SAMPLE / "audio" / "spk_001.flac", RATE), RATE)
    config = PreprocessConfig(workers=1, clips_per_shard=2)
    places = {"source": tmp_path / "in", "output": tmp_path / "out"}
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        prepare(None, config, **places, transcriber=CountingTranscriber(interrupt_at=4))
    left = list((tmp_path / "out").iterdir())
    assert [path.suffix for path in left] == [".arrow"]  # one whole shard, nothing else
    resumed = CountingTranscriber()
    prepare(None, config, **places, transcriber=resumed)
    assert resumed.calls == 3
    straight = {"source": tmp_path / "in", "output": tmp_path / "straight"}
    prepare(None, config, **straight, transcriber=CountingTranscriber())
    assert (
        FeatureStore(tmp_path / "out").fingerprint
        == FeatureStore(tmp_path / "straight").fingerprint
    )


def test_a_draft_that_a_kill_left_is_cleared_and_a_damaged_shard_made_again(ozzy):
    report = prepare(ozzy, CONFIG)
    whole = FeatureStore(report.folder).fingerprint
    shard = next(report.folder.glob("*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-5_000])
    (report.folder / ".shard-1.arrow.99.part").write_text("half")
    prepare(ozzy, CONFIG)
    assert FeatureStore(report.folder).fingerprint == whole
    assert not list(report.folder.glob(".*"))


def test_shard_size_changes_neither_content_nor_order(ozzy, tmp_path):
    stores = []
    for size in (1, 4, 100):
        output = tmp_path / f"out{size}"
        prepare(ozzy, PreprocessConfig(workers=1, clips_per_shard=size), output=output)
        stores.append(FeatureStore(output))
    assert len({store.fingerprint for store in stores}) == 1
    assert stores[0].ids == stores[2].ids


def test_the_guide_s_command_takes_any_folder_and_names_the_speaker_after_it(tmp_path, capsys):
    write_dataset(tmp_path / "anna", 3)
    lewm_preprocess.main(["--input", str(tmp_path / "anna"), "--output", str(tmp_path / "p")])
    said = capsys.readouterr().out
    assert said.startswith("3 clips, 2s of speech")
    assert f"Next: python tools/lewm_train.py --data-dir {tmp_path / 'p'}" in said
    assert FeatureStore(tmp_path / "p").speakers == ["anna"] * 3


def test_the_tool_prepares_several_speakers_and_tells_what_it_left_out(tmp_path, capsys):
    for name in ("anna", "ben"):
        write_dataset(tmp_path / name / "dataset", 2)
    (tmp_path / "ben" / "dataset" / "audio" / "broken.wav").write_bytes(b"nothing")
    lewm_preprocess.main(
        [
            "--speaker",
            "anna",
            "ben",
            "--training-root",
            str(tmp_path),
            "--json",
            str(tmp_path / "r"),
        ]
    )
    said = capsys.readouterr().out
    assert "Left out: 1\n  1 x cannot decode the audio" in said
    assert "(dataset/audio/broken.wav)" in said
    next_command = f"python tools/lewm_train.py --speaker anna ben --training-root {tmp_path}"
    assert said.endswith(f"Next: {next_command}\n")
    assert '"skipped": []' in (tmp_path / "r").read_text()


def test_a_result_that_exists_is_refused_before_any_work(tmp_path):
    write_dataset(tmp_path / "anna" / "dataset", 1)
    result = tmp_path / "result.json"
    result.write_text("mine")
    words = ["--speaker", "anna", "--training-root", str(tmp_path), "--json", str(result)]
    with pytest.raises(UserError, match="exists already"):
        lewm_preprocess.main(words)
    assert result.read_text() == "mine"
    assert not (tmp_path / "anna" / "lewm").exists()
    lewm_preprocess.main([*words, "--overwrite"])
    assert '"n_clips": 1' in result.read_text()
