"""Count the answers that listeners saved from the blind tests of a listening page.

Example: python tools/score_listening.py answers_ab_anna_1f2e3d.json answers_ab_ben_4c5b6a.json
Example: python tools/score_listening.py answers/ --json listening.json
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, add_json, add_overwrite, run
from ttscommon.errors import UserError
from ttscommon.files import write_json
from ttscommon.listening.answers import Result, read_answers, score_answers
from ttscommon.outputs import require_new

TITLES = {"ab": "Blind A/B", "abx": "ABX", "like": "More like X"}
SIGNIFICANT = 0.05


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, output = map(parser.add_argument_group, ("data", "output"))
    data.add_argument("answers", nargs="+", type=Path, metavar="FILE", help="or a folder of them")
    add_json(output, "counted")
    add_overwrite(output)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    require_new([args.json] if args.json else [], overwrite=args.overwrite)
    answers = [answer for path in _files(args.answers) for answer in read_answers(path)]
    if not answers:
        raise UserError("no comparison was answered", where=args.answers[0])
    listeners = {answer.listener for answer in answers}
    results = score_answers(answers)
    mode = None
    for result in results:
        if result.mode != mode:
            mode = result.mode
            print(f"{TITLES[mode]}")
        print(f"  {_line(result)}")
    print(f"{len(listeners)} listeners. p takes all comparisons as independent.")
    if args.json:
        rows = [result.to_dict() for result in results]
        content = {"format": "voxtune.listening_scores", "version": 1, "results": rows}
        write_json(args.json, {**content, "n_listeners": len(listeners)})


def _files(places: Sequence[Path]) -> list[Path]:
    files = []
    for place in places:
        inside = sorted(place.glob("*.json")) if place.is_dir() else [place]
        if not inside:
            raise UserError("no answers (*.json) in this folder", where=place)
        files += inside
    return files


def _line(result: Result) -> str:
    pair = " / ".join(result.pair) if result.pair else "all"
    counts = f"{result.successes} of {result.n}"
    ties = f", {result.ties} no difference" if result.ties else ""
    if result.share is None or result.low is None or result.high is None:
        return f"{pair}: {result.what}: nothing decided{ties}"
    share = f"{result.share:.0%} [{result.low:.0%}, {result.high:.0%}]"
    verdict = "  not by chance" if result.p < SIGNIFICANT else ""
    return f"{pair}: {result.what}: {counts}{ties}  {share}  p = {result.p:.3g}{verdict}"


if __name__ == "__main__":
    run(main)
