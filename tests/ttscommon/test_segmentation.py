"""Long recordings become clips: cut in silence, every second accounted for, nothing done twice."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fresh import FRESH
from ttscommon import audio as sound
from ttscommon import clipping, segmentation
from ttscommon.audio import load, save, trim_silence
from ttscommon.clip_config import LONGEST_CLIP, ClipConfig
from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.manifest import read_manifest, write_manifest
from ttscommon.segmentation import Place, SegmentReport, segment_recordings
from ttscommon.workspace import Speaker

ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = ROOT / "examples" / "sample_speaker" / "audio"
RATE = 16_000
ONE = ClipConfig(workers=1, sample_rate=RATE)


@pytest.fixture(scope="module")
def sentences() -> list[np.ndarray]:
    """Six sentences of a real speaker, trimmed, 2.4 to 6 s."""
    paths = [RECORDINGS / f"spk_00{n}.flac" for n in (1, 2, 3, 4, 5, 6)]
    return [trim_silence(load(path, RATE), RATE, -42.0) for path in paths]


@pytest.fixture
def speaker(tmp_path) -> Speaker:
    speaker = Speaker("ozzy", tmp_path)
    speaker.audio.mkdir(parents=True)
    return speaker


def joined(parts: list[np.ndarray], gap: float) -> np.ndarray:
    silence = np.zeros(round(gap * RATE), np.float32)
    return np.concatenate([piece for part in parts for piece in (part, silence)])


def put(speaker: Speaker, name: str, audio: np.ndarray) -> Path:
    save(speaker.audio / name, audio.astype(np.float32), RATE)
    return speaker.audio / name


def cut(speaker: Speaker, config: ClipConfig = ONE, **options) -> SegmentReport:
    return segment_recordings(Place.of(speaker, None, None), config, **options)


def names(speaker: Speaker) -> list[str]:
    return sorted(path.name for path in speaker.clips.glob("*.wav"))


def test_a_long_recording_becomes_clips_of_the_wanted_length_and_loudness(speaker, sentences):
    put(speaker, "talk.wav", joined(sentences, 0.6))
    report = cut(speaker)
    clips = read_manifest(speaker.clips_manifest)
    assert report.n_clips == len(clips) >= 2
    assert speaker.clips_folder == speaker.clips
    for clip in clips:
        audio = load(speaker.folder / clip.audio, RATE)
        assert len(audio) / RATE == pytest.approx(clip.duration, abs=0.001)
        assert 2 <= clip.duration <= 15
        assert clip.recording == "talk.wav"
        assert clip.text == ""
        level = np.abs(sound.normalize_loudness(audio, RATE, -23.0) - audio).max()
        assert level < 0.01 * np.abs(audio).max()


def test_clips_begin_and_end_with_the_pad_and_hold_all_words(speaker, sentences):
    put(speaker, "talk.wav", joined(sentences, 0.6))
    report = cut(speaker)
    edge, speech = round(0.09 * RATE), round(0.14 * RATE)
    for clip in read_manifest(speaker.clips_manifest):
        audio = np.abs(load(speaker.folder / clip.audio, RATE))
        quiet = 0.02 * audio.max()
        for side in (audio, audio[::-1]):
            assert side[:edge].max() < quiet < side[:speech].max()
    spoken = sum(len(sentence) for sentence in sentences) / RATE
    assert report.kept > spoken
    assert report.lost == {}


def test_a_recording_that_fits_stays_whole_without_its_silent_ends(speaker, sentences):
    quiet = 1e-4 * np.random.default_rng(0).normal(size=3 * RATE)
    put(speaker, "short.wav", np.concatenate([quiet, sentences[0], quiet]))
    cut(speaker)
    (clip,) = read_manifest(speaker.clips_manifest)
    assert clip.id == "short"
    assert clip.duration == pytest.approx(len(sentences[0]) / RATE + 0.2, abs=0.1)
    assert clip.start == pytest.approx(2.9, abs=0.1)


def test_a_clip_that_is_deleted_stays_away_only_if_it_is_excluded(speaker, sentences, caplog):
    put(speaker, "talk.wav", joined(sentences, 0.6))
    cut(speaker)
    first, second, *_ = names(speaker)
    (speaker.clips / first).unlink()
    cut(speaker)
    assert (speaker.clips / first).is_file()
    assert f"1 clips were deleted and are cut again: {first}" in caplog.text
    speaker.excluded.write_text(first, encoding="utf-8")
    (speaker.clips / first).unlink()
    (speaker.clips / second).write_bytes(b"cleaned by hand")
    cut(speaker)
    assert not (speaker.clips / first).exists()
    assert (speaker.clips / second).read_bytes() == b"cleaned by hand"


def test_noise_is_trimmed_like_silence(speaker, sentences):
    level = 10 ** (-35 / 20) * np.abs(sentences[0]).max()
    noise = level * np.random.default_rng(0).normal(size=len(sentences[0]) + 6 * RATE)
    noise[3 * RATE : 3 * RATE + len(sentences[0])] += sentences[0]
    put(speaker, "noisy.wav", noise)
    cut(speaker)
    (clip,) = read_manifest(speaker.clips_manifest)
    assert clip.duration == pytest.approx(len(sentences[0]) / RATE + 0.2, abs=0.35)


def test_what_is_left_out_is_accounted_for_with_place_and_reason(speaker, sentences):
    whole = joined([sentences[1]] * 5, 0.0)  # 20 s without a rest, if the gaps are closed
    hurried = np.concatenate([s[round(0.05 * RATE) :] for s in np.array_split(whole, 40)])
    short = sentences[0][: round(0.9 * RATE)]
    put(speaker, "talk.wav", joined([sentences[2], hurried, sentences[3]], 0.6))
    put(speaker, "word.wav", joined([short], 0.3))
    put(speaker, "hum.wav", 0.01 * np.sin(np.arange(3 * RATE)))
    (speaker.audio / "broken.wav").write_bytes(b"RIFF")
    (speaker.audio / "phone.m4a").write_bytes(b"x")
    report = cut(speaker, ClipConfig(workers=1, sample_rate=RATE, max_seconds=8))
    reasons = dict(report.skipped)
    assert reasons["hum.wav"] == "no speech in it"
    assert "cannot decode" in reasons["broken.wav"]
    assert reasons["phone.m4a"] == ".m4a can't be read; convert it to .wav"
    assert "shorter than 2 s" in report.lost
    by_name = {recording["recording"]: recording for recording in report.recordings}
    talk = by_name["talk.wav"]
    assert talk["speech"] == pytest.approx(talk["kept"] + sum(talk["lost"].values()), rel=0.2)
    kept = read_json(speaker.segmentation, format="ttscommon.segmentation")
    assert kept["lost"] == report.lost
    assert kept["seconds"]["recorded"] == pytest.approx(report.recorded)


def test_speech_without_a_silence_is_lost_with_its_reason(speaker, sentences):
    voiced = np.concatenate([sentences[1]] * 4)
    size = round(0.02 * RATE)
    frames = voiced[: len(voiced) // size * size].reshape(-1, size)
    loud = frames[np.square(frames).mean(1) > 0.1 * np.square(frames).mean()]
    put(speaker, "talk.wav", joined([loud.reshape(-1)[: 9 * RATE], sentences[3]], 0.8))
    report = cut(speaker, ClipConfig(workers=1, sample_rate=RATE, max_seconds=5))
    (why,) = report.lost
    assert why in ("more than 5 s without a silence",
                   "no silence where the length of a clip asks for one")  # fmt: skip
    assert report.recordings[0]["lost_at"][0][2] == why


def test_a_set_of_nothing_but_short_words_is_refused_with_a_way_out(speaker, sentences):
    put(speaker, "word.wav", joined([sentences[0][: round(0.9 * RATE)]], 0.3))
    with pytest.raises(UserError, match=r"no clips: .* mostly shorter than 2 s.*--min-seconds"):
        cut(speaker)
    assert not speaker.clips_manifest.exists()


@pytest.mark.parametrize("makes_folder", [True, False])
def test_nothing_to_cut_is_an_error(tmp_path, makes_folder):
    speaker = Speaker("nobody", tmp_path)
    if makes_folder:
        speaker.audio.mkdir(parents=True)
    with pytest.raises(UserError, match=r"no recordings that can be read|no such folder"):
        cut(speaker)


def test_files_of_one_stem_do_not_overwrite_each_other(speaker, sentences):
    put(speaker, "a.wav", sentences[0])
    put(speaker, "b.wav", sentences[1])
    (speaker.audio / "b.wav").rename(speaker.audio / "a.aiff")
    cut(speaker)
    assert names(speaker) == ["a_aiff.wav", "a_wav.wav"]
    texts = {clip.id: clip.duration for clip in read_manifest(speaker.clips_manifest)}
    assert texts["a_wav"] != texts["a_aiff"]


def stamps(speaker: Speaker) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in speaker.clips.glob("*.wav")}


def test_only_new_and_changed_recordings_are_cut_again(speaker, sentences):
    put(speaker, "a.wav", sentences[0])
    put(speaker, "b.wav", sentences[1])
    cut(speaker)
    before = stamps(speaker)
    put(speaker, "b.wav", sentences[2])
    put(speaker, "c.wav", sentences[3])
    os.utime(speaker.audio / "a.wav", (1, 1))
    report = cut(speaker)
    after = stamps(speaker)
    assert report.n_clips == 3
    assert after["a.wav"] == before["a.wav"]
    assert after["b.wav"] != before["b.wav"]


def test_clips_of_recordings_that_are_gone_go_too(speaker, sentences):
    put(speaker, "a.wav", sentences[0])
    put(speaker, "b.wav", sentences[1])
    cut(speaker)
    (speaker.clips / "mine.wav").write_bytes((speaker.clips / "a.wav").read_bytes())
    (speaker.audio / "b.wav").unlink()
    cut(speaker)
    assert names(speaker) == ["a.wav", "mine.wav"]
    assert [clip.id for clip in read_manifest(speaker.clips_manifest)] == ["a"]


def test_other_settings_need_to_be_confirmed(speaker, sentences):
    put(speaker, "talk.wav", joined(sentences, 0.6))
    cut(speaker)
    before = names(speaker)
    shorter = ClipConfig(workers=1, sample_rate=RATE, max_seconds=7)
    with pytest.raises(UserError, match=r"max_seconds: 15\.0 -> 7.*--overwrite"):
        cut(speaker, shorter)
    assert names(speaker) == before
    cut(speaker, shorter, overwrite=True)
    assert max(clip.duration for clip in read_manifest(speaker.clips_manifest)) <= 7
    assert {clip.id + ".wav" for clip in read_manifest(speaker.clips_manifest)} == set(
        names(speaker)
    )


def test_what_was_found_out_about_a_clip_stays_while_it_does(speaker, sentences):
    put(speaker, "a.wav", sentences[0])
    cut(speaker)
    (clip,) = read_manifest(speaker.clips_manifest)
    known = type(clip)(**{**vars(clip), "text": "Hello.", "language": "en"})
    write_manifest(speaker.clips_manifest, [known])
    put(speaker, "b.wav", sentences[1])
    cut(speaker)
    assert [clip.text for clip in read_manifest(speaker.clips_manifest)] == ["Hello.", ""]


def test_a_very_long_recording_is_cut_in_parts_without_tearing_words(
    speaker, sentences, monkeypatch
):
    monkeypatch.setattr(clipping, "PART_SECONDS", 12.0)
    monkeypatch.setattr(clipping, "SEARCH_SECONDS", 4.0)
    audio = joined(sentences, 0.8)
    put(speaker, "talk.wav", audio)
    cut(speaker)
    loudest = np.abs(audio).max()
    for clip in read_manifest(speaker.clips_manifest):
        edges = [int(edge) / 100 for edge in clip.id.removeprefix("talk@").split("-")]
        for edge in set(edges) - {0.0}:
            around = audio[max(0, round((edge - 0.02) * RATE)) : round((edge + 0.02) * RATE)]
            assert np.abs(around).max(initial=0) < 0.05 * loudest


def test_a_word_at_the_torn_edge_of_a_part_is_in_no_clip(speaker, sentences, monkeypatch):
    monkeypatch.setattr(clipping, "PART_SECONDS", 8.0)
    monkeypatch.setattr(clipping, "SEARCH_SECONDS", 0.2)  # no rest is that near
    audio = joined(sentences, 0.2)
    put(speaker, "talk.wav", audio)
    report = cut(speaker)
    n_parts = clipping.count_parts(len(audio) / RATE)
    for clip in read_manifest(speaker.clips_manifest):
        edges = [int(edge) / 100 for edge in clip.id.removeprefix("talk@").split("-")]
        for number in range(1, n_parts):
            torn = len(audio) / RATE * number / n_parts
            assert min(abs(edge - torn) for edge in edges) > 0.05
    assert report.lost


def test_a_recording_of_the_longest_length_fits_with_its_pads_or_is_cut(speaker, sentences):
    for number, seconds in enumerate((14.7, 14.85, 14.97)):
        put(speaker, f"{number}.wav", joined(sentences, 0.4)[: round(seconds * RATE)])
    cut(speaker)
    clips = read_manifest(speaker.clips_manifest)
    assert {clip.recording for clip in clips} == {"0.wav", "1.wav", "2.wav"}
    assert max(clip.duration for clip in clips) <= LONGEST_CLIP


def test_a_long_recording_asks_for_the_room_of_its_clips_once(speaker, sentences, monkeypatch):
    monkeypatch.setattr(clipping, "PART_SECONDS", 5.0)
    monkeypatch.setattr(clipping, "SEARCH_SECONDS", 2.0)
    asked = []
    free = segmentation.require_free_disk
    monkeypatch.setattr(
        segmentation, "require_free_disk", lambda place, size: (asked.append(size), free(place, 0))
    )
    audio = joined(sentences[:3], 0.8)
    put(speaker, "talk.wav", audio)
    cut(speaker)
    cut(speaker)
    assert asked == [pytest.approx(2 * len(audio), rel=0.01)]


def fill_disk(*_, **__) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_killed_overwrite_leaves_nothing_that_passes_for_the_old_clips(
    speaker, sentences, monkeypatch
):
    put(speaker, "a.wav", sentences[0])
    cut(speaker)
    before = {path.name: path.read_bytes() for path in speaker.clips.glob("*.wav")}
    other = ClipConfig(workers=1, sample_rate=RATE, loudness=-30.0, pad=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(segmentation, "write_manifest", fill_disk)
        with pytest.raises(OSError, match="No space left"):
            cut(speaker, other, overwrite=True)
    cut(speaker)
    assert {path.name: path.read_bytes() for path in speaker.clips.glob("*.wav")} == before


@pytest.mark.parametrize("output", [".", "sub"])
def test_clips_do_not_go_among_the_recordings(tmp_path, sentences, output):
    save(tmp_path / "in" / "a.wav", sentences[0], RATE)
    place = Place.of(None, tmp_path / "in", tmp_path / "in" / output)
    with pytest.raises(UserError, match=r"among the recordings.*--output-dir"):
        segment_recordings(place, ONE)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.wav"]


def test_a_file_that_breaks_off_is_told_once(speaker, sentences, monkeypatch):
    monkeypatch.setattr(clipping, "PART_SECONDS", 4.0)
    path = put(speaker, "talk.flac", joined(sentences, 0.8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    put(speaker, "a.wav", sentences[0])
    (told,) = cut(speaker).skipped
    assert told[0] == "talk.flac"
    assert "parts)" in told[1]


@pytest.mark.parametrize(
    "values",
    [{"pad": 0.6, "max_seconds": 3.0}, {"trim_db": 0.0}, {"loudness": 3.0}, {"pad": float("nan")}],
)
def test_settings_that_make_no_sense_are_refused_with_a_way_out(values):
    with pytest.raises(UserError, match="Fix: --"):
        ClipConfig(**values)


def test_folders_may_be_given_instead_of_a_speaker(tmp_path, sentences):
    save(tmp_path / "in" / "a.wav", sentences[0], RATE)
    segment_recordings(Place.of(None, tmp_path / "in", tmp_path / "out"), ONE)
    (clip,) = read_manifest(tmp_path / "out" / "clips.jsonl")
    assert clip.audio == "clips/a.wav"
    assert (tmp_path / "out" / clip.audio).is_file()


def cut_and_die(root: Path) -> None:
    """Killed as soon as one recording is noted."""
    append = segmentation.Ledger.append

    def once(self: segmentation.Ledger, key: str, value: Any) -> None:
        append(self, key, value)
        os.kill(os.getpid(), signal.SIGKILL)

    segmentation.Ledger.append = once
    cut(Speaker("ozzy", root))


def test_a_run_killed_after_a_recording_goes_on_with_the_next(speaker, sentences):
    for number in range(3):
        put(speaker, f"{number}.wav", sentences[number])
    doomed = FRESH.Process(target=cut_and_die, args=(speaker.root,))
    doomed.start()
    doomed.join()
    assert doomed.exitcode == -signal.SIGKILL
    assert not speaker.clips_manifest.exists()
    before = stamps(speaker)
    assert list(before) == ["0.wav"]
    assert cut(speaker).n_clips == 3
    assert stamps(speaker)["0.wav"] == before["0.wav"]


def test_a_clip_that_was_lost_is_cut_again(speaker, sentences):
    put(speaker, "a.wav", sentences[0])
    cut(speaker)
    (speaker.clips / "a.wav").unlink()
    cut(speaker)
    assert names(speaker) == ["a.wav"]


def test_the_account_is_plain_json(speaker, sentences):
    put(speaker, "a.wav", sentences[0])
    cut(speaker)
    account = json.loads(speaker.segmentation.read_text(encoding="utf-8"))
    assert account["recordings"][0]["recording"] == "a.wav"
    assert account["recordings"][0]["n_clips"] == 1
