"""Tune the embedded voice on speakers it never heard, whole and with each part left out.

Three speakers say the bundled person's 40 prompts: that person, Kokoro's voice kumo (a man's, from
another engine) and flite's diphone voice kal16 (a man's). Every fourth prompt is held out, the rest
is about 130 seconds. Each result is written as soon as it's there; stopped, the same command goes
on.

Example: python examples/embedded_voice/finetune.py --whisper-model checkpoints/whisper-base
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a clone, uninstalled
from examples.embedded_voice.corpus import PACKAGES
from examples.embedded_voice.texts import ROOT
from lewm.config import TrainConfig
from lewm.embedded_voice import EMBEDDED_VOICE
from ttscommon.cli import Parser, add_device, run
from ttscommon.config import from_dict, read_mapping, to_dict
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json

FORMAT, VERSION = "voxtune.embedded_voice.finetune", 1
MEASURED = Path(__file__).with_name("measured") / "finetune.json"
HUMAN = Path(__file__).parents[1] / "sample_speaker"
# Who says the prompts: a command, given a text and the file to write; a voice of `voices`; none:
# recorded.
COMMANDS = {
    "human": (),
    "kumo": (),
    "kal": ("flite", "-voice", "kal16", "-t", "{text}", "-o", "{path}"),
    "formant": ("espeak-ng", "-v", "en-us+f2", "-w", "{path}", "{text}"),
}
STRANGERS = ("human", "kumo", "kal")
BASE, ALONE, FREE = "the base", "speaker table alone", "free attention"
# What differs from the recipe. The last is how the reference did it, and lost half of the words.
VARIANTS: dict[str, dict[str, Any]] = {
    "recipe": {},
    ALONE: {},  # what the recipe's speaker phase leaves
    FREE: {},  # the recipe's voice without a window while decoding
    "no replay": {"replay_share": 0.0},
    "no speaker phase": {"speaker_steps": 0},
    "decoder kept": {"autoencoder": "keep"},
    "text encoder kept": {"text_encoder": "keep"},
    "no guide": {"guide_weight": 0.0},
    "low rate": {"learning_rate": 3e-4},
    "high rate": {"learning_rate": 1e-3, "predictor_steps": 600},
    "everything": {"autoencoder": "train", "replay_share": 0.0, "speaker_steps": 0},
}
COLUMNS = ("speaker", "variant", "similarity", "own WER", "plain WER", "length", "CPU s", "step")


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, training, machine, output = map(
        parser.add_argument_group, ("data", "training", "machine", "output")
    )
    data.add_argument("--init-from", type=Path, default=EMBEDDED_VOICE, help="voice to tune")
    data.add_argument("--speaker", nargs="+", default=STRANGERS, help=f"who: {' '.join(COMMANDS)}")
    data.add_argument("--variants", nargs="+", default=list(VARIANTS), help="which, by name")
    data.add_argument(
        "--texts", type=Path, default=ROOT / "texts/plain.csv", help="plain sentences to read"
    )
    data.add_argument("--limit", type=int, default=50, help="of these, only the first so many")
    data.add_argument("--folder", type=Path, default=ROOT / "finetune", help="to work in")
    training.add_argument("--config", type=Path, help="settings laid over the recipe's")
    machine.add_argument(
        "--whisper-model", "-w", default="base", help="name, .pt or CTranslate2 folder"
    )
    data.add_argument(
        "--packages", type=Path, default=PACKAGES, help="folder with the engines' packages"
    )
    machine.add_argument("--vocoder", default="griffinlim", help="griffinlim or vocos:FOLDER")
    add_device(machine)
    output.add_argument("--json", type=Path, default=MEASURED, help="where the numbers are kept")
    return parser


def configs(args: Any) -> dict[str, TrainConfig]:
    """The settings of each variant."""
    unknown = [name for name in args.variants if name not in VARIANTS]
    unknown += [name for name in args.speaker if name not in COMMANDS]
    if unknown:
        raise UserError(f"nothing is called '{unknown[0]}'", fix=f"known: {', '.join(VARIANTS)}")
    own = to_dict(TrainConfig.fine_tuning())
    own |= read_mapping(args.config) if args.config else {}
    return {
        name: from_dict(TrainConfig, {**own, **VARIANTS[name]}, where=args.config)
        for name in args.variants
    }


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    chosen = configs(args)
    rows: list[dict[str, Any]] = []
    if args.json.exists():
        rows = read_json(args.json, format=FORMAT)["rows"]
    from examples.embedded_voice.tuning import Tuning  # torch loads here, so --help stays instant

    tuning = Tuning(args)
    for speaker in args.speaker:
        for variant in (BASE, *chosen):
            if any((row["speaker"], row["variant"]) == (speaker, variant) for row in rows):
                continue
            row = tuning.base(speaker) if variant == BASE else None
            rows.append(row or tuning.tuned(speaker, variant, chosen[variant]))
            write_json(args.json, {"format": FORMAT, "version": VERSION, "rows": rows})
    print(table(rows))
    print(f"Numbers: {args.json}")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [COLUMNS, ["---"] * len(COLUMNS)]
    for row in rows:
        wers = [f"{100 * row[kind]['wer']['value']:.1f} %" for kind in ("own", "plain")]
        lines.append(
            [
                *(row["speaker"], row["variant"], f"{row['similarity']:.3f}", *wers),
                *(f"{row['length_ratio']:.2f}", f"{row['cpu_seconds']:.0f}", str(row["step"])),
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    run(main)
