"""Train IndexTTS2's language model as a whole, or chosen parts of it, from prepared clips.

Stop with Ctrl-C whenever you like; the same command goes on, and ends in the same bits.

Examples:
  python tools/train_gpt_finetune.py --speaker ozzy --amp bf16
  python tools/train_gpt_finetune.py --speaker ozzy --train-parts transformer --ema-decay 0.999
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from indextts.train_config import FullTrainConfig
from indextts.train_flags import (
    add_data,
    add_machine,
    add_output,
    add_training,
    chosen,
    job,
    tell,
)
from ttscommon.cli import Parser, add_config_flags, run


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, model, training, output, machine = map(
        parser.add_argument_group, ("data", "model", "training", "output", "machine")
    )
    add_data(data)
    model.add_argument(
        "--train-parts",
        nargs="+",
        metavar="PART",
        default=argparse.SUPPRESS,
        help="some of transformer, heads, embeddings, speaker, emotion (default: the first three)",
    )
    add_config_flags(model, FullTrainConfig, ["freeze_conditioning", "freeze_embeddings"])
    add_training(training, FullTrainConfig)
    add_config_flags(training, FullTrainConfig, ["ema_decay"])
    add_output(output, "training/<speaker>/finetune, or trained_checkpoints")
    add_machine(machine, FullTrainConfig)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    config = chosen(args, FullTrainConfig)
    from indextts.train import train_full  # torch loads here, so --help stays instant

    work = job(args, "finetune", argv, default_output="trained_checkpoints")
    print(tell(args, work, train_full(work, config)))


if __name__ == "__main__":
    run(main)
