"""Train a LoRA adapter on IndexTTS2's language model, from prepared clips of a voice.

Stop with Ctrl-C whenever you like; the same command goes on, and ends in the same bits.

Examples:
  python tools/train_gpt_lora.py --speaker ozzy
  python tools/train_gpt_lora.py --speaker ozzy --preset light --amp bf16 --sample-interval 200
  python tools/train_gpt_lora.py --speaker ozzy --lora-target-modules "gpt.h.*.attn.c_attn" mel_head
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from indextts.train_config import LoraTrainConfig
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

SWITCHES = ["lora_gpt", "lora_mlp", "lora_heads", "lora_include_embeddings", "lora_conditioning"]


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, lora, training, output, machine = map(
        parser.add_argument_group, ("data", "lora", "training", "output", "machine")
    )
    add_data(data)
    lora.add_argument(
        "--preset",
        default=argparse.SUPPRESS,
        help="light (attention, rank 8), standard (rank 16) or heavy (rank 32) (default: standard)",
    )
    add_config_flags(lora, LoraTrainConfig, ["lora_rank", "lora_alpha", "lora_dropout", *SWITCHES])
    lora.add_argument(
        "--lora-target-modules",
        nargs="+",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help='instead of these switches: names of layers, "gpt.h.*.attn.c_attn", or "re:..."',
    )
    add_training(training, LoraTrainConfig)
    add_output(output, "training/<speaker>/lora, or trained_lora")
    add_machine(machine, LoraTrainConfig)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    config = chosen(args, LoraTrainConfig)
    from indextts.train import train_lora  # torch loads here, so --help stays instant

    work = job(args, "lora", argv, default_output="trained_lora")
    print(tell(args, work, train_lora(work, config)))


if __name__ == "__main__":
    run(main)
