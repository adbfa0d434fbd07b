from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttscommon.errors import UserError
from ttscommon.workspace import Speaker, SystemFolder, resolve_checkpoint, speaker_flags


def test_the_paths_are_those_of_the_guides():
    speaker = Speaker("ozzy")
    assert speaker.audio == Path("training/ozzy/dataset/audio")
    assert speaker.transcripts == Path("training/ozzy/dataset/transcripts.csv")
    assert speaker.lewm.processed == Path("training/ozzy/lewm/processed")
    assert speaker.lewm.best_checkpoint == Path("training/ozzy/lewm/best_checkpoint")
    assert speaker.outputs == Path("training/ozzy/outputs")
    assert speaker.report == Path("training/ozzy/report.html")


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "..",
        "a/b",
        "a\\b",
        "",
        ".",
        ".hidden",
        "/etc",
        "a..b",
        " x",
        "x ",
        "a\n",
        "a\0",
        "-x",
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(name):
    with pytest.raises(UserError, match="can't be a speaker's name"):
        Speaker(name)


@pytest.mark.parametrize("name", ["ozzy", "anna_2", "Jean-Luc", "ओज़ी", "Dr. Who", "v1.0"])
def test_ordinary_names_are_taken(name):
    assert Speaker(name).name == name


@given(st.text(st.sampled_from("aZ0_-. /\\~:\0\n\ufeffé\u0301ओ嗯"), max_size=6))
def test_no_name_at_all_leads_out_of_the_root(name):
    root = Path("/voices/training")
    try:
        folder = Speaker(name, root).folder
    except UserError:
        return
    assert folder.resolve().parent == root


def test_a_checkpoint_is_found_by_its_folder_its_parent_or_the_name_in_the_guide(tmp_path):
    best = SystemFolder(tmp_path / "output").best_checkpoint
    best.mkdir(parents=True)
    (best / "config.json").write_text("{}", encoding="utf-8")
    for said in (best, tmp_path / "output", tmp_path / "output" / "checkpoints" / "best.pt"):
        assert resolve_checkpoint(said) == best


def test_a_place_without_a_checkpoint_is_named_with_how_to_make_one(tmp_path):
    with pytest.raises(UserError, match=r"no checkpoint here.*lewm_train\.py"):
        resolve_checkpoint(tmp_path / "nothing")


def test_commands_name_the_root_only_where_it_is_another(tmp_path):
    assert speaker_flags([Speaker("ozzy")]) == ["--speaker", "ozzy"]
    both = [Speaker("anna", tmp_path), Speaker("ben", tmp_path)]
    assert speaker_flags(both) == ["--speaker", "anna", "ben", "--training-root", str(tmp_path)]


def test_clips_stand_for_recordings_once_they_are_cut(tmp_path):
    speaker = Speaker("ozzy", tmp_path)
    assert speaker.clips_folder == speaker.dataset / "audio"
    speaker.dataset.mkdir(parents=True)
    speaker.clips_manifest.touch()
    assert speaker.clips_folder == speaker.dataset / "clips"
