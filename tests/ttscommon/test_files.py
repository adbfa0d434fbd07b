from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ttscommon.errors import UserError
from ttscommon.files import (
    atomic,
    atomic_folder,
    read_json,
    recover_folder,
    require_free_disk,
    write_json,
)


class Killed(BaseException):
    """Stands for anything that ends a program in the middle of writing."""


def write_and_die(writing: AbstractContextManager[Path], name: str = "") -> None:
    with writing as draft:
        (draft / name).write_text("ne", encoding="utf-8")
        raise Killed


def test_a_file_appears_whole_with_its_folders(tmp_path):
    path = tmp_path / "new" / "deep" / "file.txt"
    with atomic(path) as draft:
        draft.write_text("whole", encoding="utf-8")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "whole"


def test_weights_may_be_read_by_whom_other_files_may(tmp_path):
    """safetensors makes its files readable for their owner alone."""
    other = tmp_path / "other.txt"
    other.touch()
    weights = tmp_path / "weights.safetensors"
    with atomic(weights) as draft:
        save_file({"x": torch.zeros(1)}, draft)
    with atomic_folder(tmp_path / "checkpoint") as draft:
        save_file({"x": torch.zeros(1)}, draft / "model.safetensors")
    for path in (weights, tmp_path / "checkpoint/model.safetensors"):
        assert path.stat().st_mode == other.stat().st_mode


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(Killed):
        write_and_die(atomic(path))
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_text(encoding="utf-8") == "old"


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "checkpoint"
    path.mkdir()
    (path / "old.txt").touch()
    with atomic_folder(path) as draft:
        (draft / "new.txt").touch()
    assert [p.name for p in path.iterdir()] == ["new.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


def test_a_folder_write_that_fails_leaves_the_old_folder_and_no_litter(tmp_path):
    path = tmp_path / "checkpoint"
    path.mkdir()
    (path / "old.txt").touch()
    with pytest.raises(Killed):
        write_and_die(atomic_folder(path), "new.txt")
    assert [p.name for p in path.iterdir()] == ["old.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


def test_a_kill_between_the_two_renames_is_put_right(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint"
    path.mkdir()
    (path / "old.txt").touch()
    rename = type(path).rename

    def rename_once(self, target):
        if self == path:
            rename(self, target)
        raise Killed

    monkeypatch.setattr(type(path), "rename", rename_once)
    with pytest.raises(Killed), atomic_folder(path):
        pass
    monkeypatch.undo()
    assert not path.exists()
    recover_folder(path)
    assert [p.name for p in path.iterdir()] == ["old.txt"]


def test_recovering_a_whole_folder_changes_nothing(tmp_path):
    path = tmp_path / "checkpoint"
    path.mkdir()
    (path / "new.txt").touch()
    (tmp_path / ".checkpoint.old").mkdir()
    recover_folder(path)
    assert [p.name for p in path.iterdir()] == ["new.txt"]


def test_json_is_sorted_indented_and_keeps_other_scripts_readable(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": "नमस्ते"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n  "a": "नमस्ते",\n  "b": 1\n}\n'


def test_nan_is_never_written_as_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_json_of_another_format_is_refused(tmp_path):
    write_json(tmp_path / "a.json", {"format": "voxtune.lewm"})
    assert read_json(tmp_path / "a.json", format="voxtune.lewm") == {"format": "voxtune.lewm"}
    with pytest.raises(
        UserError, match=r"expected a ttscommon\.manifest file, found voxtune\.lewm"
    ):
        read_json(tmp_path / "a.json", format="ttscommon.manifest")


@pytest.mark.parametrize("content", [b'{"a": 1', b"\xff\xfe"])
def test_broken_json_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"broken JSON.*a\.json"):
        read_json(tmp_path / "a.json")


def test_a_full_disk_is_refused_before_writing_with_both_sizes(tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(total=10**9, used=9 * 10**8, free=10**8)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    require_free_disk(tmp_path / "not" / "made" / "yet", 40_000_000)
    with pytest.raises(UserError, match="130 MB needed, 100 MB free"):
        require_free_disk(tmp_path, 80_000_000)
