"""What was written before a kill is there after it."""

from __future__ import annotations

import pytest

from ttscommon import ledger
from ttscommon.ledger import Ledger, content_key
from ttscommon.records import read_kept


def test_results_are_there_for_the_next_run(tmp_path):
    Ledger(tmp_path / "sub" / "kept.jsonl").append("a", {"text": "ü"})
    kept = Ledger(tmp_path / "sub" / "kept.jsonl")
    assert "a" in kept
    assert "b" not in kept
    assert kept["a"] == {"text": "ü"}


def test_a_line_cut_short_by_a_kill_costs_only_itself(tmp_path):
    path = tmp_path / "kept.jsonl"
    Ledger(path).append("a", 1)
    with path.open("a") as file:
        file.write('{"key": "b", "val')
    kept = Ledger(path)
    kept.append("c", 3)
    assert Ledger(path).values() == [1, 3]


def test_of_two_results_under_one_key_the_later_counts(tmp_path):
    kept = Ledger(tmp_path / "kept.jsonl")
    kept.append("a", 1)
    kept.append("a", 2)
    assert Ledger(kept.path)["a"] == 2


def test_a_ledger_can_forget(tmp_path):
    kept = Ledger(tmp_path / "kept.jsonl")
    kept.append("a", 1)
    kept.append("b", 2)
    kept.replace({"b": 2})
    assert Ledger(kept.path).values() == [2]


def test_the_key_of_a_file_changes_with_its_bytes_only(tmp_path):
    for name, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / name).write_bytes(content)
    keys = [content_key(tmp_path / name) for name in "abc"]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("place", [0, 1, 50, 99, -1])
def test_large_files_of_weights_are_known_by_samples(tmp_path, monkeypatch, place):
    monkeypatch.setattr(ledger, "READ_WHOLE", 500)
    monkeypatch.setattr(ledger, "BLOCK", 64)
    monkeypatch.setattr(ledger, "N_BLOCKS", 5)
    raw = bytearray(1000)
    blocks = [(1000 - 64) * i // 4 for i in range(5)]
    keys = []
    for change in (0, 0, 1):
        changed = bytearray(raw)
        for start in blocks:
            changed[start + place % 64] += change  # training changes everything
        (tmp_path / "w").write_bytes(changed)
        keys.append(ledger.weights_key(tmp_path / "w"))
    (tmp_path / "w").write_bytes(raw + b"0")
    assert keys[0] == keys[1] != keys[2]
    assert ledger.weights_key(tmp_path / "w") != keys[0]


def test_a_line_cut_inside_a_letter_costs_that_line_alone(tmp_path):
    path = tmp_path / "kept.jsonl"
    path.write_bytes('{"a": "\u2028ö"}\n{"b": "ö'.encode()[:-1])
    assert read_kept(path) == [{"a": "\u2028ö"}]
