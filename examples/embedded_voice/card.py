"""Write the model card: its words from a template, its numbers from what was measured.

Example: python examples/embedded_voice/card.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a clone, uninstalled
from examples.embedded_voice import benchmark, measure
from examples.embedded_voice.export import NOTICE
from lewm.embedded_voice import EMBEDDED_SPEAKER, EMBEDDED_VOICE
from ttscommon.cli import Parser, run
from ttscommon.errors import UserError
from ttscommon.files import atomic, read_json

TEMPLATE = Path(__file__).with_name("card_template.md")
CARD = Path(__file__).with_name("MODEL_CARD.md")
VOCODERS = {"griffinlim": "Griffin-Lim"}
HOW = {
    "reading": "measure.py reading",
    "copies": "measure.py copies",
    "benchmark": "benchmark.py",
}


def card(voice: Path, measured: Path) -> str:
    """The page.

    Args:
        voice: the exported folder
        measured: holds reading.json, copies.json and benchmark.json

    Raises:
        UserError: if one is missing or was measured with another voice
    """
    config = read_json(voice / "config.json", format="voxtune.lewm")
    found = {what: _measured(measured / f"{what}.json", what) for what in HOW}
    reading, rows = found["reading"], found["benchmark"]["rows"]
    step = config["info"]["step"]
    if reading["step"] != step:
        raise UserError(
            f"step {reading['step']} was measured, and step {step} exported",
            where=measured / "reading.json",
            fix=f"python examples/embedded_voice/measure.py reading --checkpoint {voice}",
        )
    speakers = config["model"]["speakers"]
    n_bytes = sum(path.stat().st_size for path in voice.iterdir())
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        n_parameters=f"{reading['n_parameters'] / 1e6:.1f} million",
        megabytes=f"{n_bytes / 1e6:.1f}",
        step=f"{step:,}",
        n_speakers=len(speakers),
        speakers=", ".join(speakers),
        speaker=EMBEDDED_SPEAKER,
        vocoder=VOCODERS.get(reading["vocoder"], reading["vocoder"]),
        whisper=reading["whisper"],
        reading_table=measure.table(reading),
        copies_table=measure.table(found["copies"]),
        benchmark_table=benchmark.table(rows),
        n_texts=found["benchmark"]["n_texts"],
        wordnet=NOTICE.read_text(encoding="utf-8").strip(),
    )


def _measured(path: Path, what: str) -> Any:
    if not path.is_file():
        fix = f"python examples/embedded_voice/{HOW[what]}"
        raise UserError("this hasn't been measured", where=path, fix=fix)
    return read_json(path, format=measure.FORMAT)


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--voice", type=Path, default=EMBEDDED_VOICE, help="the exported folder")
    data.add_argument("--measured", type=Path, default=measure.MEASURED, help="folder of numbers")
    output = parser.add_argument_group("output")
    output.add_argument("--output", type=Path, default=CARD, help="page to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    page = card(args.voice, args.measured)
    with atomic(args.output) as draft:
        draft.write_text(page, encoding="utf-8")
    print(f"Card: {args.output}")


if __name__ == "__main__":
    run(main)
