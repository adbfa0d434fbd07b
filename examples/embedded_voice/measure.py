"""Measure the embedded voice: how well it copies strangers, and how well it reads.

`copies` lets the frozen autoencoder repeat recordings of voices it never heard. `reading` says the
held-out sentences from the text alone, as letters and as phonemes, beside their recordings; plain
sentences are also joined to texts three and six times as long, said in one piece. What Whisper
heard is kept, so a stopped measurement goes on.

Examples:
  python examples/embedded_voice/measure.py copies --whisper-model checkpoints/whisper-base
  python examples/embedded_voice/measure.py reading --whisper-model checkpoints/whisper-base
"""

from __future__ import annotations

import platform
import sys
from argparse import BooleanOptionalAction
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a clone, uninstalled
from examples.embedded_voice.subset import UNHEARD
from examples.embedded_voice.texts import ROOT
from examples.embedded_voice.voices import HELD_OUT_VOICES
from ttscommon.cli import Parser, add_device, run
from ttscommon.files import write_json

FORMAT, VERSION = "voxtune.embedded_voice", 1
READINGS = ("letters", "phonemes")
MEASURED = Path(__file__).with_name("measured")
HUMAN = Path(__file__).parents[1] / "sample_speaker"
STRANGERS = tuple(name for name in UNHEARD if name in ("kumo", "alpha", "nezumi", "tebukuro"))


def build_parser() -> Parser:
    parser = Parser(__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    copies = commands.add_parser("copies", doc="Copy voices through the autoencoder.")
    data = copies.add_argument_group("data")
    data.add_argument("--checkpoint", type=Path, default=ROOT / "autoencoder", help="to copy with")
    data.add_argument("--voices", nargs="*", default=STRANGERS, help="folders under --root")
    data.add_argument("--human", type=Path, default=HUMAN, help="recordings of a person")
    data.add_argument("--limit", type=int, default=24, help="clips of each voice")
    _add_rest(copies, data)
    reading = commands.add_parser("reading", doc="Read texts the voice never saw.")
    data = reading.add_argument_group("data")
    data.add_argument("--checkpoint", type=Path, default=ROOT / "predictor", help="to speak with")
    data.add_argument("--voices", nargs="+", default=HELD_OUT_VOICES, help="who speaks")
    data.add_argument("--readings", nargs="*", default=READINGS, choices=READINGS, help="as what")
    data.add_argument("--limit", type=int, help="only the first so many texts of each kind")
    data.add_argument("--long", action=BooleanOptionalAction, default=True, help="long texts too")
    data.add_argument(
        "--copies", action=BooleanOptionalAction, default=True, help="copies of the recordings too"
    )
    _add_rest(reading, data)
    return parser


def _add_rest(parser: Any, data: Any) -> None:
    data.add_argument("--root", type=Path, default=ROOT, help="holds the voices and heldout/")
    data.add_argument("--seed", type=int, default=0, help="names the noise of the flow head")
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--whisper-model", "-w", default="base", help="name, .pt or CTranslate2 folder"
    )
    machine.add_argument("--vocoder", default="auto", help="auto, griffinlim or vocos:FOLDER")
    add_device(machine)
    output = parser.add_argument_group("output")
    output.add_argument("--kept", type=Path, help="what was heard (default: in --root)")
    output.add_argument("--json", type=Path, help=f"numbers (default: in {MEASURED.name}/)")
    output.add_argument("--output-dir", type=Path, help="also write what was said here")


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    args.kept = args.kept or args.root / "heard.jsonl"
    args.json = args.json or MEASURED / f"{args.what}.json"
    from examples.embedded_voice.trial import Trial  # torch loads here, so --help stays instant

    trial = Trial(args)
    rows = trial.copies() if args.what == "copies" else trial.readings()
    result = {**describe(args, trial.engine), "rows": rows}
    write_json(args.json, result)
    print(table(result))
    print(f"Numbers: {args.json}")


def describe(args: Any, engine: Any) -> dict[str, Any]:
    """What was measured, with what, and where."""
    import torch

    model = engine.model
    return {
        "format": FORMAT,
        "version": VERSION,
        "what": args.what,
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "step": engine.info.step,
        "vocoder": engine.vocoder.name,
        "whisper": Path(args.whisper_model).name,
        "machine": {
            "device": str(engine.device),
            "processor": platform.machine(),
            "torch": torch.__version__,
        },
    }


def table(result: dict[str, Any]) -> str:
    """All rows as Markdown, those columns that some row has."""
    present = [c for c in COLUMNS if any(c[0] in row for row in result["rows"])]
    lines = [[label for _, label, _ in present], ["---"] * len(present)]
    for row in result["rows"]:
        lines.append([shape(row[key]) if key in row else "" for key, _, shape in present])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(score: dict[str, Any]) -> str:
    """A share and its interval."""
    low, high = (_hundredths(score[end]) for end in ("low", "high"))
    return f"{100 * score['value']:.1f} % [{low}, {high}]"


def number(score: dict[str, Any]) -> str:
    """A value alone."""
    return f"{score['value']:.3f}"


def _hundredths(bound: float | None) -> str:
    return "?" if bound is None else f"{100 * bound:.1f}"


COLUMNS = (
    ("voice", "voice", str),
    ("texts", "texts", str),
    ("said", "what is heard", str),
    ("n", "n", str),
    ("wer", "word error rate", percent),
    ("wer_excess", "above the recordings", percent),
    ("length_ratio", "length ratio", number),
    ("early_stops", "early stops", percent),
    ("runaways", "runaways", percent),
    ("read_to_the_end", "read to the end", percent),
    ("mel_dtw", "mel-DTW, nats", "{:.3f}".format),
    ("own", "like its recording", "{:.3f}".format),
    ("others", "like the voice", "{:.3f}".format),
    ("recordings", "recordings like the voice", "{:.3f}".format),
)


if __name__ == "__main__":
    run(main)
