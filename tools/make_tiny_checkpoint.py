"""Write a miniature IndexTTS2 checkpoint, to try every program out without the real one.

Example: python tools/make_tiny_checkpoint.py --output checkpoints/tiny

It has the layout of the official checkpoint, random weights and 6 MB. What it speaks is noise, of
about the length of the text.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, run


def build_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument("--output", type=Path, default=Path("checkpoints/tiny"), help="new folder")
    parser.add_argument("--seed", type=int, default=0, help="names the weights")
    parser.add_argument("--overwrite", action="store_true", help="replace what exists")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    from indextts.miniature import write_miniature  # torch loads here

    write_miniature(args.output, args.seed, overwrite=args.overwrite)
    files = [path for path in args.output.rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    print(f"{args.output}  {len(files)} files, {megabytes:.1f} MB, seed {args.seed}")
    print("Its weights are random: whatever it speaks is noise.")


if __name__ == "__main__":
    run(main)
