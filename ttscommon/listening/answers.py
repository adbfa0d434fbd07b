"""What listeners' answers say: wins and right answers with intervals and binomial tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ttscommon.errors import UserError
from ttscommon.files import read_json

FORMAT, VERSION = "voxtune.listening", 1
CONFIDENCE = 0.95
Mode = Literal["ab", "abx", "like"]
MODES: dict[Mode, str] = {"ab": "preferred", "abx": "X found", "like": "more like X"}


@dataclass(frozen=True)
class Answer:
    """One comparison by one listener.

    Attributes:
        session: names one sitting; a file read twice counts once
        pair: the two conditions, in the page's order
        a, b, x: which condition stood where; no X in an A/B test
        choice: "a", "b" or "none"
    """

    mode: Mode
    listener: str
    session: str
    item: str
    pair: tuple[str, str]
    a: str
    b: str
    x: str | None
    choice: Literal["a", "b", "none"]

    @property
    def chosen(self) -> str | None:
        """The condition that was chosen; None for no difference."""
        return {"a": self.a, "b": self.b, "none": None}[self.choice]


@dataclass(frozen=True)
class Result:
    """One binomial test.

    Attributes:
        pair: of conditions; None for all of them together
        what: what counts as a success, in words
        successes, n: of the comparisons that were decided
        ties: "no difference", which count for neither
        share, low, high: successes / n with Wilson's 95 % interval; None if n is 0
        p: of so many successes by chance; two-sided, but one-sided for ABX, where only more right
            answers than by chance mean something
    """

    mode: Mode
    pair: tuple[str, str] | None
    what: str
    successes: int
    n: int
    ties: int
    share: float | None
    low: float | None
    high: float | None
    p: float
    n_listeners: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_answers(path: Path) -> list[Answer]:
    """The answers that a listening page saved.

    Raises:
        UserError: if the file is broken or of another kind
    """
    data = read_json(path, format=FORMAT)
    if data.get("version") != VERSION:
        raise UserError(f"expected version {VERSION} of {FORMAT}", where=path)
    answers = []
    try:
        for given in data["answers"]:
            a, b, x, choice = (given[name] for name in ("a", "b", "x", "choice"))
            first, second = given["pair"]
            mode = data["mode"]
            who = (str(data["listener"]), str(data["session"]), str(given["item"]))
            answer = Answer(mode, *who, (first, second), a, b, x, choice)
            _require_sense(answer)
            answers.append(answer)
    except (KeyError, TypeError, ValueError) as error:
        fix = "save it again from the listening page"
        raise UserError(
            f"answer {len(answers) + 1} is broken: {error}", where=path, fix=fix
        ) from error
    return answers


def score_answers(answers: Sequence[Answer]) -> list[Result]:
    """For each kind of test: every pair, all pairs together, and whether A was favoured as such.

    The tests take all comparisons as independent; with few listeners, or few sentences heard many
    times, the truth is less certain than they say.
    """
    unique = {(a.session, a.mode, a.item, tuple(sorted(a.pair))): a for a in answers}
    results = []
    for mode in MODES:
        pairs: dict[tuple[str, str], list[Answer]] = {}
        for answer in unique.values():
            if answer.mode == mode:
                first, second = answer.pair
                key = (second, first) if (second, first) in pairs else (first, second)
                pairs.setdefault(key, []).append(answer)
        for pair, given in pairs.items():
            what = MODES[mode] if mode == "abx" else f"{pair[1]} {MODES[mode]}"
            results.append(_test(mode, pair, what, given, [_wins(pair, a) for a in given]))
        together = [(pair, answer) for pair, given in pairs.items() for answer in given]
        given = [answer for _, answer in together]
        if len(pairs) > 1:
            what = MODES[mode] if mode == "abx" else f"second of each pair {MODES[mode]}"
            results.append(_test(mode, None, what, given, [_wins(*one) for one in together]))
        if given and mode != "abx":
            flags = [None if a.choice == "none" else a.choice == "a" for a in given]
            results.append(_test(mode, None, "A chosen, whatever it was", given, flags))
    return results


def _require_sense(answer: Answer) -> None:
    if answer.mode not in MODES:
        raise ValueError(f"no test is called '{answer.mode}'")
    if answer.choice not in ("a", "b", "none"):
        raise ValueError(f"'{answer.choice}' is no choice")
    if {answer.a, answer.b} != set(answer.pair):
        raise ValueError("A and B aren't the pair")
    if answer.mode == "abx" and (answer.x not in answer.pair or answer.choice == "none"):
        raise ValueError("X must be A or B, and one of them chosen")


def _wins(pair: tuple[str, str], answer: Answer) -> bool | None:
    """Whether the answer is a success: the second condition, or X, was chosen."""
    if answer.chosen is None:
        return None
    return answer.chosen == (answer.x if answer.mode == "abx" else pair[1])


def _test(
    mode: Mode,
    pair: tuple[str, str] | None,
    what: str,
    answers: Sequence[Answer],
    flags: Sequence[bool | None],
) -> Result:
    from scipy.stats import binomtest  # takes a second, which --help needn't

    n, successes = sum(flag is not None for flag in flags), sum(flag is True for flag in flags)
    n_listeners = len({answer.listener for answer in answers})
    if n == 0:
        return Result(mode, pair, what, 0, 0, len(flags), None, None, None, 1.0, n_listeners)
    alternative = "greater" if mode == "abx" else "two-sided"
    p = float(binomtest(successes, n, alternative=alternative).pvalue)
    ends = binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    low, high = float(ends.low), float(ends.high)
    ties = len(flags) - n
    return Result(mode, pair, what, successes, n, ties, successes / n, low, high, p, n_listeners)
