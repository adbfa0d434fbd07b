"""List every speaker: minutes of recordings, what was trained, the best scores, the last run.

Example: python tools/list_speakers.py
Example: python tools/list_speakers.py --speaker ozzy anna --json speakers.json
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, add_json, add_overwrite, add_training_root, run
from ttscommon.errors import UserError
from ttscommon.files import write_json
from ttscommon.outputs import require_new
from ttscommon.survey import Survey, moment, survey
from ttscommon.workspace import Speaker, find_speakers

FORMAT = "voxtune.speakers"
COLUMNS = ("speaker", "minutes", "what", "step", "best score", "saved", "last run")
TOLD = ("fluent_wer", "similarity", "dnsmos")  # of an evaluation
NUMERIC = {"minutes", "step"}


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, output = map(parser.add_argument_group, ("data", "output"))
    data.add_argument(
        "--speaker", nargs="+", metavar="NAME", help="only these (default: everybody)"
    )
    add_training_root(data)
    add_json(output, "found")
    add_overwrite(output)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    require_new([args.json] if args.json else [], overwrite=args.overwrite)
    root: Path = args.training_root
    everybody = find_speakers(root)
    speakers = [Speaker(name, root) for name in args.speaker or []] or everybody
    for speaker in speakers:
        if not speaker.folder.is_dir():
            names = ", ".join(other.name for other in everybody) or "nobody yet"
            raise UserError(f"no speaker '{speaker.name}'", where=root, fix=f"there are: {names}")
    if not speakers:
        where = root / "NAME"
        raise UserError("no speakers yet", where=root, fix=f"put recordings into {where}/dataset")
    surveys = [survey(speaker) for speaker in speakers]
    _print([COLUMNS, *(row for one in surveys for row in _rows(one))])
    if args.json:
        found = [one.to_dict() for one in surveys]
        write_json(args.json, {"format": FORMAT, "version": 1, "speakers": found})


def _rows(one: Survey) -> Iterator[Sequence[str]]:
    """A line for each trained thing; the speaker stands in the first."""
    minutes = f"{one.minutes:.1f}"
    head = [one.speaker, minutes + (f" ({one.unreadable} unreadable)" if one.unreadable else "")]
    last = moment(one.last_run) or "never"
    if not one.trained:
        ready = ", ".join(f"{name} features" for name in one.prepared) or "nothing trained"
        yield (*head, ready, "", "", "", last)
    for number, thing in enumerate(one.trained):
        name, value = thing.best_score or ("", 0.0)
        score = thing.trouble or (f"{name} {value:.3f}" if name else "–")
        step = "" if thing.step is None else f"{thing.step:,}"
        what = f"{thing.system} {thing.what}"
        begin = head if number == 0 else ["", ""]
        yield (*begin, what, step, score, moment(thing.when) or "", last if number == 0 else "")
    for found in one.evaluated:
        told = [f"{name} {found.scores[name]:.3f}" for name in TOLD if name in found.scores]
        told += [f"guard rails {found.guard_rails}"] if found.guard_rails else []
        what = f"evaluated {found.condition}"
        yield ("", "", what, "", ", ".join(told) or "–", moment(found.when) or "", "")
    for path, why in one.unreadable_evaluations:
        yield ("", "", "evaluation", "", f"{path}: {why}", "", "")


def _print(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    for row in rows:
        cells = [
            cell.rjust(width) if name in NUMERIC else cell.ljust(width)
            for cell, width, name in zip(row, widths, COLUMNS, strict=True)
        ]
        print("  ".join(cells).rstrip())


if __name__ == "__main__":
    run(main)
