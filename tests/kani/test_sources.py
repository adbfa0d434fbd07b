"""Data sets of codes from every place, and what is told of bad ones."""

from __future__ import annotations

import gzip
import json

import pytest
from datasets import Dataset, DatasetDict

from kani.config import CategoricalFilter, SourceConfig
from kani.sources import Source
from tests.kani.made_up import rows, saved
from ttscommon.errors import UserError

TABLE = rows(6)


def arrow(folder):
    Dataset.from_dict(TABLE).save_to_disk(str(folder))


def split(folder):
    data = Dataset.from_dict(TABLE)
    DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(str(folder))


def parquet(folder):
    (folder / "data").mkdir(parents=True)
    Dataset.from_dict(TABLE).select([0, 1, 2]).to_parquet(folder / "data" / "train-0000.parquet")
    Dataset.from_dict(TABLE).select([3, 4, 5]).to_parquet(folder / "data" / "train-0001.parquet")
    Dataset.from_dict(TABLE).select([0]).to_parquet(folder / "data" / "test-0000.parquet")


def lines(folder):
    folder.mkdir()
    text = "".join(json.dumps(row) + "\n" for row in Dataset.from_dict(TABLE))
    with gzip.open(folder / "codes-worker00-00000.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(text)


@pytest.mark.parametrize("write", [arrow, split, parquet, lines])
def test_every_format_gives_the_same_rows(tmp_path, write):
    write(tmp_path / "codes")
    found = Source(SourceConfig(reponame=str(tmp_path / "codes"))).rows
    assert found["text"][:] == TABLE["text"]
    assert found["nano_layer_3"][:] == TABLE["nano_layer_3"]
    assert found["recording"][:] == TABLE["recording"]


def test_columns_of_other_names_are_renamed(tmp_path):
    data = Dataset.from_dict(rows(3)).rename_columns({"text": "said", "nano_layer_2": "second"})
    data = data.remove_columns(["encoded_len"]).add_column("text", ["wrong"] * 3)
    data.to_parquet(tmp_path / "one.parquet")
    config = SourceConfig(
        reponame=str(tmp_path / "one.parquet"),
        text_col_name="said",
        nano_layer_2="second",
        encoded_len=None,
    )
    found = Source(config).rows
    assert found["text"][:] == rows(3)["text"]
    assert found["nano_layer_2"][:] == rows(3)["nano_layer_2"]
    assert found["encoded_len"][:] == [6, 9, 4]


def test_a_filter_goes_by_the_original_column(tmp_path):
    folder = saved(tmp_path / "codes", 4, who=["a", "b", "a", "b"])
    config = SourceConfig(
        reponame=str(folder), categorical_filter=CategoricalFilter(column_name="who", value="b")
    )
    assert Source(config).rows["text"][:] == [TABLE["text"][1], TABLE["text"][3]]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"text_col_name": "words"}, "no column words; there are text"),
        ({"nano_layer_1": "x", "nano_layer_2": "y"}, "no column x, y"),
        ({"nano_layer_1": "nano_layer_2"}, "two layers are one column"),
        (
            {"categorical_filter": CategoricalFilter(column_name="text", value="?")},
            "no row has '?'",
        ),
    ],
)
def test_a_data_set_that_is_not_as_told_is_refused(tmp_path, changes, match):
    config = SourceConfig(reponame=str(saved(tmp_path / "codes")), **changes)
    with pytest.raises(UserError, match=match):
        assert Source(config).rows


def test_a_data_set_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such data set"):
        Source(SourceConfig(reponame=str(tmp_path / "codes")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no table of rows"):
        Source(SourceConfig(reponame=str(tmp_path / "empty")))
    (tmp_path / "bad.parquet").write_text("nothing")
    with pytest.raises(UserError, match="can't be read"):
        assert Source(SourceConfig(reponame=str(tmp_path / "bad.parquet"))).rows


def test_a_hub_that_is_not_reached_is_told_with_a_way_out():
    with pytest.raises(UserError, match="the hub") as error:
        Source(SourceConfig(reponame="somebody/something"))
    assert "local folder" in str(error.value)


def test_another_content_has_another_digest(tmp_path):
    one, other = saved(tmp_path / "a", 4), saved(tmp_path / "b", 4, text=["x"] * 4)
    digests = [Source(SourceConfig(reponame=str(path))).digest for path in (one, other, one)]
    assert digests[0] == digests[2] != digests[1]
