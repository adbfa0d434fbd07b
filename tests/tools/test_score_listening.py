"""Listeners' answers, counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools.score_listening import main
from ttscommon.errors import UserError
from ttscommon.listening.answers import read_answers, score_answers


def given(
    pair: tuple[str, str], choice: str, *, is_swapped: bool = False, x=None
) -> dict[str, Any]:
    a, b = pair[::-1] if is_swapped else pair
    return {"item": "t", "pair": list(pair), "a": a, "b": b, "x": x, "choice": choice}


def write(path: Path, mode: str, answers: list[dict[str, Any]], who: str = "anna") -> Path:
    numbered = [{**answer, "item": f"t{n}"} for n, answer in enumerate(answers)]
    content = {"format": "voxtune.listening", "version": 1, "mode": mode, "listener": who}
    content |= {"session": path.stem, "answers": numbered}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


PAIR, OTHER = ("base", "tuned"), ("base", "wild")


def test_wins_are_counted_whichever_side_they_stood_on(tmp_path):
    answers = [given(PAIR, "b")] * 4 + [given(PAIR, "a", is_swapped=True)] * 4
    answers += [given(PAIR, "a"), given(PAIR, "b", is_swapped=True), given(PAIR, "none")]
    first, bias = score_answers(read_answers(write(tmp_path / "a.json", "ab", answers)))
    assert (first.what, first.successes, first.n, first.ties) == ("tuned preferred", 8, 10, 1)
    # Two-sided: 2 * (45 + 10 + 1) / 1024.
    assert first.p == pytest.approx(112 / 1024)
    # Wilson, z = 1.959964: (0.8 + 0.19207 +- 0.27738...) / 1.38415.
    assert (first.low, first.high) == (
        pytest.approx(0.4902, abs=1e-3),
        pytest.approx(0.9433, abs=1e-3),
    )
    assert (bias.what, bias.successes, bias.n) == ("A chosen, whatever it was", 5, 10)


def test_abx_counts_right_answers_and_asks_one_sidedly(tmp_path):
    answers = [given(PAIR, "a", x="base")] * 5 + [given(PAIR, "a", is_swapped=True, x="tuned")] * 4
    answers += [given(PAIR, "a", x="tuned")]
    (result,) = score_answers(read_answers(write(tmp_path / "a.json", "abx", answers)))
    assert (result.successes, result.n) == (9, 10)
    assert result.p == pytest.approx(11 / 1024)


def test_several_pairs_are_counted_apart_and_together(tmp_path):
    answers = [given(PAIR, "b")] * 3 + [given(OTHER, "a")] * 2
    results = score_answers(read_answers(write(tmp_path / "a.json", "like", answers)))
    counts = [(r.pair, r.successes, r.n) for r in results]
    assert counts == [(PAIR, 3, 3), (OTHER, 0, 2), (None, 3, 5), (None, 2, 5)]


def test_a_pair_is_the_same_in_either_order(tmp_path):
    answers = [given(PAIR, "b"), given(("tuned", "base"), "a")]
    first, _ = score_answers(read_answers(write(tmp_path / "a.json", "ab", answers)))
    assert (first.pair, first.successes, first.n) == (PAIR, 2, 2)


def test_the_same_sitting_counts_once(tmp_path):
    path = write(tmp_path / "a.json", "ab", [given(PAIR, "b")] * 3)
    first, _ = score_answers(read_answers(path) + read_answers(path))
    assert first.n == 3


def test_nothing_decided_is_no_result(tmp_path, capsys):
    path = write(tmp_path / "a.json", "ab", [given(PAIR, "none")] * 2)
    main([str(path)])
    assert "nothing decided, 2 no difference" in capsys.readouterr().out


def test_a_folder_of_answers_is_printed_and_written(tmp_path, capsys):
    folder = tmp_path / "answers"
    folder.mkdir()
    write(folder / "a.json", "ab", [given(PAIR, "b")] * 6)
    write(folder / "b.json", "abx", [given(PAIR, "a", x="base")] * 6, who="ben")
    main([str(folder), "--json", str(tmp_path / "scores.json")])
    printed = capsys.readouterr().out
    assert "base / tuned: tuned preferred: 6 of 6  100% [61%, 100%]  p = 0.0312" in printed
    assert "base / tuned: X found: 6 of 6  100% [61%, 100%]  p = 0.0156  not by chance" in printed
    assert "2 listeners" in printed
    written = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert [row["mode"] for row in written["results"]] == ["ab", "ab", "abx"]
    assert written["n_listeners"] == 2


@pytest.mark.parametrize(
    ("mode", "answer", "expected"),
    [
        ("ab", {**given(PAIR, "b"), "choice": "c"}, "'c' is no choice"),
        ("ab", {**given(PAIR, "b"), "a": "wild"}, "A and B aren't the pair"),
        ("abx", given(PAIR, "b", x="wild"), "X must be A or B"),
        ("xy", given(PAIR, "b"), "no test is called 'xy'"),
        ("ab", {"pair": ["base", "tuned"]}, "answer 1 is broken"),
    ],
)
def test_senseless_answers_are_refused(tmp_path, mode, answer, expected):
    with pytest.raises(UserError, match=expected):
        main([str(write(tmp_path / "a.json", mode, [answer]))])


def test_other_files_and_empty_ones_are_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"format": "other"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"expected a voxtune\.listening file, found other"):
        main([str(tmp_path / "x.json")])
    with pytest.raises(UserError, match="no comparison was answered"):
        main([str(write(tmp_path / "a.json", "ab", []))])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no answers"):
        main([str(tmp_path / "empty")])


def test_answers_are_never_replaced_by_their_own_scores(tmp_path):
    answers = tmp_path / "anna.json"
    answers.write_text("answers", encoding="utf-8")
    with pytest.raises(UserError, match="exists already"):
        main([str(answers), "--json", str(answers)])
    assert answers.read_text(encoding="utf-8") == "answers"
