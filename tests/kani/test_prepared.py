"""Clips as ids: the public sequences, every filter, and what is told of bad rows."""

from __future__ import annotations

import numpy as np
import pytest

from kani.config import ModelConfig, SourceConfig
from kani.prepared import prepare, read_prepared
from kani.tokens import extract, text_ids
from kani.weights import load_tokenizer
from tests.kani.golden import FOLDER, described
from tests.kani.made_up import dataset_config, prepared, rows, saved
from ttscommon.errors import UserError

TOKENIZER = FOLDER / "tiny_tokenizer"


def made(tmp_path, *folders, **changes):
    return prepare(dataset_config(*folders, **changes), ModelConfig(), TOKENIZER, tmp_path / "data")


def test_a_clip_is_its_prompt_and_its_codes(tmp_path):
    found = prepared(tmp_path, TOKENIZER, 4)
    row, table = found.rows[1], rows(4)
    codes = extract(row["ids"], found.space)
    assert codes.complete
    assert codes.codes.tolist() == [table[f"nano_layer_{n}"][1] for n in (1, 2, 3, 4)]
    words = text_ids(table["text"][1], "alice", load_tokenizer(TOKENIZER), found.space)
    assert row["ids"][1 : 1 + len(words)] == words
    assert row["ids"][row["audio_start"] - 1] == found.space.start_of_speech
    assert row["n_frames"] == 9


@pytest.mark.parametrize(("limit", "key"), [(12.0, "kept_with_12"), (None, "kept_without")])
def test_durations_and_duplicates_are_those_of_the_public_pipeline(tmp_path, limit, key):
    golden = described("duration_filter")
    columns = {name: [clip[name] for clip in golden["layers"]] for name in golden["layers"][0]}
    lengths = golden["encoded_len"]
    table = {"text": golden["texts"], "encoded_len": lengths, "recording": golden["texts"]}
    folder = saved(tmp_path / "codes", len(lengths), **table, **columns)
    found = made(tmp_path, folder, max_duration_sec=limit, remove_duplicate_frames=True)
    marks = 16  # golden rows are counted with their texts and marks
    kept_codes = [n - marks for n in golden[key]]
    assert [4 * n for n in found.rows["n_frames"]] == kept_codes
    whole = made(tmp_path, folder, max_duration_sec=limit)
    kept = [n for n in lengths if limit is None or n / 12.5 <= limit]
    assert whole.rows["n_frames"][:] == kept
    share = 1 - sum(kept_codes) / 4 / sum(kept)
    assert found.reports[0].removed_share == pytest.approx(share)
    assert whole.reports[0].duplicate_share == pytest.approx(share)
    assert whole.reports[0].removed_share == 0
    assert found.reports[0].too_long == (1 if limit else 0)


def test_max_len_counts_what_the_filters_keep_and_more_than_there_is_is_all(tmp_path):
    folder = saved(tmp_path / "codes", 8)
    config = SourceConfig(reponame=str(folder), max_len=3)
    few = made(tmp_path, hf_datasets=(config,), max_duration_sec=0.5)
    assert sorted(few.rows["n_frames"][:]) in ([4, 4, 6], [4, 6, 6])
    assert few.reports[0].not_drawn == 1
    moved = SourceConfig(reponame=str(folder.rename(tmp_path / "moved")), max_len=3)
    again = made(tmp_path, hf_datasets=(moved,), max_duration_sec=0.5)
    assert again.rows["ids"][:] == few.rows["ids"][:]
    more = SourceConfig(reponame=moved.reponame, max_len=500)
    assert len(made(tmp_path, hf_datasets=(more,)).rows) == 8


def test_more_shards_than_rows_and_empty_ones_change_nothing(tmp_path):
    folder = saved(tmp_path / "codes", 5)
    one = made(tmp_path, folder)
    ids = one.rows["ids"][:]
    many = prepare(
        dataset_config(folder, n_shards_per_dataset=9, seed=43),
        ModelConfig(),
        TOKENIZER,
        tmp_path / "many",
    )
    assert many.rows["ids"][:] == ids


def test_recordings_are_on_one_side_only(tmp_path):
    found = prepared(tmp_path, TOKENIZER, 12, validation_share=0.2)
    sides = {}
    for recording, held_out in zip(found.rows["recording"], found.rows["held_out"], strict=True):
        assert sides.setdefault(recording, held_out) == held_out
    assert 0 < sum(found.rows["held_out"]) < 12


def test_the_same_data_are_prepared_once(tmp_path, caplog):
    folder = saved(tmp_path / "codes")
    first = made(tmp_path, folder)
    before = (tmp_path / "data" / "prepared.json").stat().st_mtime_ns
    with caplog.at_level("INFO"):
        second = made(tmp_path, folder)
    assert (tmp_path / "data" / "prepared.json").stat().st_mtime_ns == before
    assert "prepared already" in caplog.text
    assert first.fingerprint == second.fingerprint
    assert made(tmp_path, folder, remove_duplicate_frames=True).fingerprint != first.fingerprint


def test_bad_rows_are_counted_and_many_are_refused(tmp_path):
    table = rows(30)
    table["nano_layer_2"][3][0] = 4032
    table["text"][7] = " "
    found = made(tmp_path, saved(tmp_path / "few", 30, **table))
    assert found.reports[0].bad == {"codes aren't between 0 and 4031": 1, "no text": 1}
    assert len(found.rows) == 28
    for codes in table["nano_layer_1"]:
        codes[0] = -1
    with pytest.raises(UserError, match=r"rows are of no use, .*: codes aren't between 0 and 4031"):
        made(tmp_path, saved(tmp_path / "many", 30, **table))


def test_layers_of_different_length_are_a_bad_row(tmp_path):
    table = rows(20)
    table["nano_layer_4"][5] = table["nano_layer_4"][5][:-1]
    found = made(tmp_path, saved(tmp_path / "codes", 20, **table))
    assert found.reports[0].bad == {"the layers of a clip differ in length": 1}


def test_no_clip_after_the_filters_is_refused(tmp_path):
    with pytest.raises(UserError, match="none of 8 clips is left"):
        made(tmp_path, saved(tmp_path / "codes"), max_duration_sec=0.1)
    with pytest.raises(UserError, match="one clip is too little"):
        made(tmp_path, saved(tmp_path / "one", 1))
    assert not (tmp_path / "data").exists()


def test_two_speakers_without_names_are_refused(tmp_path):
    both = saved(tmp_path / "both", 4, speaker=["a", "a", "b", "b"])
    nameless = (SourceConfig(reponame=str(both)),)
    with pytest.raises(UserError, match=r"2 speakers \(a, b\) and no speaker_id"):
        made(tmp_path, hf_datasets=nameless)
    apart = [saved(tmp_path / name, 2, speaker=[name] * 2) for name in "ab"]
    with pytest.raises(UserError, match="no speaker_id"):
        made(tmp_path, hf_datasets=tuple(SourceConfig(reponame=str(path)) for path in apart))
    named = tuple(SourceConfig(reponame=str(path), speaker_id=path.name) for path in apart)
    assert len(made(tmp_path, hf_datasets=named).rows) == 4


def test_a_kill_leaves_the_old_data_whole(tmp_path, monkeypatch):
    first = made(tmp_path, saved(tmp_path / "codes"))
    monkeypatch.setattr("kani.prepared.write_json", lambda *_: (_ for _ in ()).throw(KeyError()))
    with pytest.raises(KeyError):
        made(tmp_path, saved(tmp_path / "others", 4))
    again = read_prepared(tmp_path / "data", first.space)
    assert again.fingerprint == first.fingerprint
    assert np.array_equal(again.rows["n_frames"], first.rows["n_frames"])
