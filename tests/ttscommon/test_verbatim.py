"""A table of what is said: nothing heard twice, nothing of a person's work replaced."""

from __future__ import annotations

import csv
import errno
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.ttscommon.listener import RATE, Listener, put, sentence_audio
from ttscommon import verbatim
from ttscommon.clip_config import VerbatimConfig
from ttscommon.clip_words import ClipWords
from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.hearing import Ear, listen
from ttscommon.ledger import Ledger
from ttscommon.manifest import Clip, read_manifest, read_transcripts, write_manifest
from ttscommon.transcripts import clip_texts
from ttscommon.verbatim import COLUMNS, Desk, VerbatimReport, transcribe_clips
from ttscommon.workspace import Speaker

ENGLISH = VerbatimConfig(language="en")


@pytest.fixture(scope="module")
def sentences() -> list[np.ndarray]:
    return [sentence_audio(number) for number in (1, 3, 4)]


@pytest.fixture
def speaker(tmp_path, sentences) -> Speaker:
    """Three recordings that are clips already."""
    speaker = Speaker("ozzy", tmp_path)
    for name, audio in zip("abc", sentences, strict=True):
        put(speaker.audio, f"{name}.wav", audio)
    return speaker


def hear(speaker: Speaker, listener: Listener, config=ENGLISH, **options) -> VerbatimReport:
    return transcribe_clips(Desk.of(speaker, None, None), config, listener.ear, **options)


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["filename"]: row for row in csv.DictReader(file)}


def correct(speaker: Speaker, name: str, old: str, new: str) -> None:
    lines = speaker.transcripts_verbatim.read_text(encoding="utf-8").split("\n")
    changed = [line.replace(old, new, 1) if line.startswith(name) else line for line in lines]
    speaker.transcripts_verbatim.write_text("\n".join(changed), encoding="utf-8")


def test_table_words_and_statistics_are_written(speaker, sentences):
    report = hear(speaker, Listener())
    table = rows(speaker.transcripts_verbatim)
    assert tuple(table["a.wav"]) == COLUMNS
    assert table["a.wav"]["text"] == "Um, hello there."
    assert table["a.wav"]["verbatim"].startswith("[UM],")
    assert float(table["a.wav"]["duration"]) == pytest.approx(len(sentences[0]) / RATE, abs=0.01)
    assert table["a.wav"]["num_fillers"] == "1"
    words = ClipWords(speaker.words).read()["b.wav"]
    assert [word["word"] for word in words["words"]] == ["Um,", "hello", "there."]
    assert words["source"] == "heard"
    stats = read_json(speaker.transcription_stats, format="ttscommon.transcription")
    assert stats == report.stats
    assert (stats["clips"], stats["num_fillers"], stats["words"]) == (3, 3, 9)
    assert clip_texts(speaker) == read_transcripts(speaker.transcripts_verbatim)


def test_the_recogniser_is_asked_for_every_hesitation_in_the_language_given(speaker):
    listener = Listener()
    hear(speaker, listener)
    assert set(listener.languages) == {"en"}
    assert all({"uh,", "um,"} <= set(prompt.lower().split()) for prompt in listener.prompts)


def test_without_a_language_it_is_recognised_once(speaker):
    listener = Listener()
    report = hear(speaker, listener, VerbatimConfig())
    assert report.stats["language"] == "de"
    assert set(listener.languages) == {"de"}
    again = Listener()
    assert hear(speaker, again, VerbatimConfig()).stats["language"] == "de"
    assert again.asked == 0


def test_nothing_is_heard_twice_also_with_other_thresholds(speaker):
    hear(speaker, Listener())
    again = Listener()
    hear(speaker, again, VerbatimConfig(language="en", min_pause=0.1, long_pause=0.2))
    assert again.asked == 0


def test_a_clip_of_another_sound_is_heard_again(speaker, sentences):
    hear(speaker, Listener())
    put(speaker.audio, "b.wav", sentences[0][:RATE])
    again = Listener("New words")
    hear(speaker, again)
    assert again.asked == 1
    assert clip_texts(speaker) == {
        "a.wav": "Um, hello there.",
        "b.wav": "New words",
        "c.wav": "Um, hello there.",
    }


def test_what_was_heard_in_sounds_that_are_gone_is_forgotten(speaker, sentences):
    hear(speaker, Listener(), VerbatimConfig())
    kept = speaker.dataset / ".heard.jsonl"
    clips = {path.name: path for path in speaker.audio.iterdir()}
    listen(clips, Ear("another", Listener), None, kept)  # a second opinion
    assert len(Ledger(kept).items()) == 8  # three clips and a language each
    with kept.open("a") as file:
        file.write('{"key": "bro')
    put(speaker.audio, "b.wav", sentences[0][:RATE])
    hear(speaker, Listener(), VerbatimConfig())
    assert len(Ledger(kept).items()) == 6  # a, new b, c and the language; the other's a and c
    assert all("bro" not in line for line in kept.read_text(encoding="utf-8").split("\n"))
    again = Listener()
    hear(speaker, again, VerbatimConfig())
    assert again.asked == 0
    listen(clips, Ear("another", lambda: again), "de", kept)
    assert again.asked == 1


def test_a_stopped_run_goes_on_with_the_clip_it_was_at(speaker):
    with pytest.raises(KeyboardInterrupt, match="goes on from here"):
        hear(speaker, Listener(stop_at=3))
    assert not speaker.transcripts_verbatim.exists()
    again = Listener()
    assert hear(speaker, again).stats["clips"] == 3
    assert again.asked == 1


def test_texts_written_by_hand_win_and_are_told(speaker):
    speaker.transcripts.write_text("audio_path,text\na.wav,Hello there.\n", encoding="utf-8")
    report = hear(speaker, Listener())
    assert report.sources == {"heard": 2, "written": 1}
    assert report.stats["word_error_rate_by_hand"] == pytest.approx(0.5)
    assert rows(speaker.transcripts_verbatim)["a.wav"]["text"] == "Hello there."
    assert ClipWords(speaker.words).read()["a.wav"]["heard"] == "Um, hello there."
    speaker.transcripts.unlink()
    assert hear(speaker, Listener()).sources == {"heard": 3}


def test_what_somebody_corrects_in_the_table_stays_through_every_run(speaker):
    hear(speaker, Listener())
    correct(speaker, "b.wav", "hello there", "Hello dear")
    for _ in range(2):
        report = hear(speaker, Listener())
        assert report.sources == {"heard": 2, "corrected": 1}
        assert rows(speaker.transcripts_verbatim)["b.wav"]["text"] == "Um, Hello dear."
    hear(speaker, Listener(), overwrite=True)
    assert rows(speaker.transcripts_verbatim)["b.wav"]["text"] == "Um, hello there."


def test_a_correction_holds_for_the_sound_it_was_written_for(speaker):
    hear(speaker, Listener())
    correct(speaker, "b.wav", "Um, hello there.", "What b said.")
    put(speaker.audio, "b.wav", sentence_audio(5))
    report = hear(speaker, Listener("Quite other words"))
    assert report.sources == {"heard": 3}
    assert "sound is another" in report.dropped["b.wav"]
    assert rows(speaker.transcripts_verbatim)["b.wav"]["text"] == "Quite other words"
    backup = speaker.transcripts_verbatim.with_name("transcripts_verbatim.csv.bak")
    assert rows(backup)["b.wav"]["text"] == "What b said."


def test_a_table_that_nothing_is_known_about_stays_as_it_is(speaker):
    hear(speaker, Listener())
    correct(speaker, "b.wav", "Um, hello there.", "My correction.")
    speaker.words.unlink()
    assert hear(speaker, Listener("Other words")).sources == {"corrected": 3}
    table = rows(speaker.transcripts_verbatim)
    assert table["b.wav"]["text"] == "My correction."
    assert table["a.wav"]["verbatim"].startswith("[UM], hello there.")
    assert hear(speaker, Listener(), overwrite=True).sources == {"heard": 3}


def test_a_correction_waits_for_a_clip_that_is_away(speaker):
    hear(speaker, Listener())
    correct(speaker, "b.wav", "Um, hello there.", "My correction.")
    away = (speaker.audio / "b.wav").rename(speaker.root / "b.wav")
    assert set(hear(speaker, Listener()).dropped) == {"b.wav"}
    assert hear(speaker, Listener()).dropped == {}
    assert set(rows(speaker.transcripts_verbatim)) == {"a.wav", "c.wav"}
    away.rename(speaker.audio / "b.wav")
    assert hear(speaker, Listener()).sources == {"heard": 2, "corrected": 1}
    assert rows(speaker.transcripts_verbatim)["b.wav"]["text"] == "My correction."


def test_a_verbatim_text_may_be_corrected_alone(speaker):
    hear(speaker, Listener())
    correct(speaker, "b.wav", "[UM], hello there.", "[UM], he- hello there.")
    for _ in range(2):
        assert hear(speaker, Listener()).sources == {"heard": 3}
        row = rows(speaker.transcripts_verbatim)["b.wav"]
        assert row["text"] == "Um, hello there."
        assert row["verbatim"] == "[UM], he- hello there."


def test_excluded_clips_are_not_heard_and_keep_their_corrections(speaker, caplog):
    speaker.excluded.write_text("gone.wav\n", encoding="utf-8")
    hear(speaker, Listener())
    assert "1 lines fit no clip, for example gone.wav" in caplog.text
    correct(speaker, "b.wav", "Um, hello there.", "My correction.")
    speaker.excluded.write_text("b.wav\na.wav\n", encoding="utf-8")
    listener = Listener()
    report = hear(speaker, listener)
    assert ("b.wav", "named in excluded.txt") in report.left_out
    assert set(rows(speaker.transcripts_verbatim)) == {"c.wav"}
    assert "excluded" in report.dropped["b.wav"]
    speaker.excluded.write_text("a.wav\nb.wav\nc.wav\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no clips to transcribe \(3 are named in excluded\.txt"):
        hear(speaker, Listener())
    speaker.excluded.unlink()
    hear(speaker, Listener())
    assert clip_texts(speaker)["b.wav"] == "My correction."


def test_a_text_that_somebody_empties_stays_empty(speaker):
    hear(speaker, Listener())
    correct(speaker, "b.wav", '"Um, hello there."', "")
    for _ in range(2):
        hear(speaker, Listener())
        assert rows(speaker.transcripts_verbatim)["b.wav"]["text"] == ""
    assert set(clip_texts(speaker)) == {"a.wav", "c.wav"}


def test_a_correction_of_a_text_by_hand_is_told_to_have_no_effect(speaker):
    speaker.transcripts.write_text("audio_path,text\na.wav,Hello there.\n", encoding="utf-8")
    hear(speaker, Listener())
    correct(speaker, "a.wav", "Hello there.", "Corrected later.")
    report = hear(speaker, Listener())
    assert "by hand say otherwise" in report.dropped["a.wav"]
    assert rows(speaker.transcripts_verbatim)["a.wav"]["text"] == "Hello there."
    assert hear(speaker, Listener()).dropped == {}


def test_a_disk_that_fills_before_the_table_makes_no_corrections(speaker, monkeypatch):
    hear(speaker, Listener())
    marked = VerbatimConfig(language="en", marked_text=True)

    def fill_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(verbatim, "atomic", fill_disk)
        with pytest.raises(OSError, match="No space left"):
            hear(speaker, Listener(), marked)
    assert hear(speaker, Listener(), marked).sources == {"heard": 3}
    assert "[UM]" in rows(speaker.transcripts_verbatim)["a.wav"]["text"]


def test_the_language_is_that_of_all_clips_also_if_none_is_new(speaker):
    hear(speaker, Listener(), VerbatimConfig())
    again = hear(speaker, Listener(), VerbatimConfig(), skip_existing=True)
    assert again.stats["language"] == "de"


def test_a_long_file_that_breaks_off_stops_nothing(speaker, sentences):
    path = speaker.audio / "z.flac"
    soundfile.write(path, np.tile(sentences[0], 10), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    report = hear(speaker, Listener(), VerbatimConfig())
    assert report.stats["language"] == "de"
    assert dict(report.left_out).keys() == {"z.flac"}


def test_a_new_sound_is_heard_also_if_rows_are_left_alone(speaker):
    hear(speaker, Listener())
    put(speaker.audio, "b.wav", sentence_audio(5))
    hear(speaker, Listener("New words"), skip_existing=True)
    assert rows(speaker.transcripts_verbatim)["b.wav"]["text"] == "New words"


def test_rows_that_exist_can_be_left_alone(speaker, sentences):
    hear(speaker, Listener())
    put(speaker.audio, "d.wav", sentences[0])
    again = Listener("Other words")
    hear(speaker, again, VerbatimConfig(language="de"), skip_existing=True)
    assert again.asked == 1
    assert set(rows(speaker.transcripts_verbatim)) == {"a.wav", "b.wav", "c.wav", "d.wav"}
    assert rows(speaker.transcripts_verbatim)["a.wav"]["text"] == "Um, hello there."


def test_silent_and_broken_clips_are_left_out_with_reasons(speaker):
    put(speaker.audio, "silent.wav", np.zeros(RATE))
    (speaker.audio / "broken.wav").write_bytes(b"RIFF")
    listener = Listener()
    report = hear(speaker, listener)
    reasons = dict(report.left_out)
    assert reasons["silent.wav"] == "no speech in it"
    assert "cannot decode" in reasons["broken.wav"]
    assert listener.asked == 3
    assert set(rows(speaker.transcripts_verbatim)) == {"a.wav", "b.wav", "c.wav"}


def test_clips_in_which_nothing_is_understood_are_no_data_set(speaker):
    with pytest.raises(UserError, match="nobody says anything"):
        hear(speaker, Listener(""))
    with pytest.raises(UserError, match="no clips to transcribe"):
        hear(Speaker("nobody", speaker.root), Listener())


def test_a_table_that_somebody_broke_is_not_replaced(speaker):
    hear(speaker, Listener())
    speaker.transcripts_verbatim.write_text("file,words\na,b\n", encoding="utf-8")
    with pytest.raises(UserError, match="not a table of ours"):
        hear(speaker, Listener())


def test_texts_go_into_the_list_of_clips(speaker, sentences):
    put(speaker.clips, "x.wav", sentences[0])
    clip = Clip("x", "dataset/clips/x.wav", "", 3.0, "ozzy", "", "a.wav")
    write_manifest(speaker.clips_manifest, [clip], speaker="ozzy")
    hear(speaker, Listener())
    (known,) = read_manifest(speaker.clips_manifest)
    assert (known.text, known.language) == ("Um, hello there.", "en")
    assert list(rows(speaker.transcripts_verbatim)) == ["x.wav"]


def test_folders_may_be_given_instead_of_a_speaker(tmp_path, sentences):
    put(tmp_path / "clips" / "deep", "a.wav", sentences[0])
    (tmp_path / "clips" / "deep" / "a.lab").write_text("From the label.")
    desk = Desk.of(None, tmp_path / "clips", tmp_path / "out")
    transcribe_clips(desk, ENGLISH, Listener().ear)
    assert rows(tmp_path / "out" / "transcripts_verbatim.csv")["deep/a.wav"]["text"] == (
        "From the label."
    )
    with pytest.raises(ValueError, match="folder of clips"):
        Desk.of(None, None, tmp_path)
