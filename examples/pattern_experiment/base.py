"""Train the language model that reads the made-up language, with nobody's habits in particular.

Stopped, it goes on where it was. `experiment.py` reads what it writes.

Example: python examples/pattern_experiment/base.py --output training/pattern_experiment/base
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, run

SEED = 0


def build_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("training/pattern_experiment/base"), help="folder"
    )
    parser.add_argument("--steps", type=int, default=4000, help="optimizer steps")
    parser.add_argument("--pack", type=Path, metavar="FILE", help="also write it in half precision")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    from examples.pattern_experiment.trials import packed  # torch loads here
    from examples.pattern_experiment.world import World, train_base

    world = World.made(SEED)
    checkpoint, mark = train_base(world, args.output, args.steps)
    print(f"Base: {checkpoint.gpt} ({mark[:12]})")
    if args.pack:
        print(f"In half precision: {packed(world, checkpoint.gpt, args.pack)}")


if __name__ == "__main__":
    run(main)
