"""What was written before a kill is there after it."""

from __future__ import annotations

from ttscommon.ledger import Ledger, content_key
from ttscommon.records import read_records


def test_results_are_there_for_the_next_run(tmp_path):
    Ledger(tmp_path / "sub" / "kept.jsonl").append("a", {"text": "ü"})
    ledger = Ledger(tmp_path / "sub" / "kept.jsonl")
    assert "a" in ledger
    assert "b" not in ledger
    assert ledger["a"] == {"text": "ü"}


def test_a_line_cut_short_by_a_kill_costs_only_itself(tmp_path):
    path = tmp_path / "kept.jsonl"
    Ledger(path).append("a", 1)
    with path.open("a") as file:
        file.write('{"key": "b", "val')
    ledger = Ledger(path)
    ledger.append("c", 3)
    assert Ledger(path).values() == [1, 3]


def test_of_two_results_under_one_key_the_later_counts(tmp_path):
    ledger = Ledger(tmp_path / "kept.jsonl")
    ledger.append("a", 1)
    ledger.append("a", 2)
    assert Ledger(ledger.path)["a"] == 2


def test_a_ledger_can_forget(tmp_path):
    ledger = Ledger(tmp_path / "kept.jsonl")
    ledger.append("a", 1)
    ledger.append("b", 2)
    ledger.replace({"b": 2})
    assert Ledger(ledger.path).values() == [2]


def test_the_key_of_a_file_changes_with_its_bytes_only(tmp_path):
    for name, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / name).write_bytes(content)
    keys = [content_key(tmp_path / name) for name in "abc"]
    assert keys[0] == keys[1] != keys[2]


def test_a_line_cut_inside_a_letter_costs_that_line_alone(tmp_path):
    path = tmp_path / "kept.jsonl"
    path.write_bytes('{"a": "\u2028ö"}\n{"b": "ö'.encode()[:-1])
    assert read_records(path) == [{"a": "\u2028ö"}]
