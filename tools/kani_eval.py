"""Let the base and every experiment of KaniTTS speak the same sentences, and rank them.

What is spoken stands in eval_set.yaml, how in inference_config.yaml, where it goes in
eval_config.yaml. Models that aren't trained, or can't be read, are told; the others are ranked, and
the exit code is 1 then. A run that was stopped goes on where it was.

Example: python tools/kani_eval.py
Example: python tools/kani_eval.py --config-dir configs/kani --whisper-model tiny.en
Example: python tools/kani_eval.py --recordings held_out --rank-by similarity
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from kani.config_files import CONFIG_DIR
from ttscommon.cli import Parser, add_device, add_measuring, add_overwrite, run
from ttscommon.errors import UserError
from ttscommon.outputs import require_writable

CODEC = Path("checkpoints/kani/nemo-nano-codec-22khz-0.6kbps-12.5fps")  # where it is downloaded to


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, model, measuring, output, machine = map(
        parser.add_argument_group, ("data", "model", "measuring", "output", "machine")
    )
    data.add_argument(
        "--recordings", type=Path, help="real speech to be like (default: held-out clips)"
    )
    model.add_argument(
        "--config-dir", type=Path, default=CONFIG_DIR, help="folder of the six YAML files"
    )
    model.add_argument(
        "--codec", type=Path, default=CODEC, help="weights of NanoCodec: .nemo or .safetensors"
    )
    add_measuring(measuring)
    measuring.add_argument(
        "--rank-by", metavar="METRIC", default="overall", help="such as cer, similarity or overall"
    )
    output.add_argument(
        "--output-dir", type=Path, help="default: paths.audio_output_dir of eval_config.yaml"
    )
    output.add_argument("--max-clips", type=int, default=60, help="on the page; 0 writes none")
    add_overwrite(output)
    add_device(machine)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse(argv)
    from kani.evaluate import Judging  # brings torch
    from kani.evaluation_outputs import DATASET, PAGE, RANKING
    from kani.hub import upload
    from ttscommon.evaluation.measuring import load_instruments

    judging = Judging(
        args.config_dir,
        args.codec,
        output=args.output_dir,
        recordings=args.recordings,
        device=args.device,
        rank_by=args.rank_by,
        overwrite=args.overwrite,
    )
    require_writable(judging.folder / RANKING)
    language = args.language or "en"
    # A recogniser that is missing is told before hours of speech.
    instruments = load_instruments(
        args.whisper_model,
        language=language,
        device=args.device,
        speaker_encoder=args.speaker_encoder,
    )
    try:
        ranked = judging.run(instruments, language=language, most_clips=args.max_clips)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("stopped; the same command goes on from here") from stop
    for line in told(ranked):
        print(line)
    if args.max_clips:
        print(f"Listen: {judging.folder / PAGE}")
    print(f"Saved {judging.folder / RANKING}, and a data set in {judging.folder / DATASET}")
    hub = judging.config.huggingface
    if hub.upload_dataset:
        upload(judging.folder / DATASET, hub)
        print(f"Sent to {hub.repo_name}, {'private' if hub.private else 'public'}")
    if ranked.troubles:
        n = len(ranked.troubles)
        raise UserError(f"{n} of {n + len(ranked.settings)} models couldn't be judged")
    return 0


def told(ranked: Any) -> list[str]:
    """The table, and what it doesn't show."""
    rows = [{name: str(value) for name, value in row.items()} for row in ranked.rows()]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([row.get(name, "-") for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    lines += ranked.ranking.sentences()
    lines += [f"not measured: {metric}: {why}" for metric, why in ranked.absent.items()]
    return lines + [f"not judged: {name}: {why}" for name, why in ranked.troubles.items()]


if __name__ == "__main__":
    run(main)
