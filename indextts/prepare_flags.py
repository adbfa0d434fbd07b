"""Flags of the tools that prepare clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from indextts.prepare_config import PrepareConfig
from ttscommon.cli import Parser, add_config_flags, add_device, add_json, add_training_root

CLIPS = ("min_duration", "max_duration", "train_split", "split_by", "seed")


def add_preparation(parser: Parser) -> tuple[Any, Any]:
    """What clips are read, by which model, and where the data set goes.

    Returns:
        the groups "data" and "output", for what else a tool asks
    """
    data, model, output, machine = map(
        parser.add_argument_group, ("data", "model", "output", "machine")
    )
    data.add_argument("--speaker", "-s", help="folder name under training/")
    add_training_root(data)
    data.add_argument("--audio-dir", type=Path, help="folder of clips (default: the speaker's)")
    data.add_argument(
        "--transcripts", type=Path, help="table of texts, or its folder (default: the speaker's)"
    )
    add_config_flags(data, PrepareConfig, CLIPS)
    model.add_argument(
        "--model-dir", type=Path, help="checkpoint folder (default: checkpoints/ or below it)"
    )
    model.add_argument("--config", type=Path, help="another config.yaml than that folder's")
    model.add_argument(
        "--base-checkpoint", type=Path, help="language model to train (default: that folder's)"
    )
    output.add_argument("--output-dir", type=Path, help="folder to fill (default: the speaker's)")
    add_json(output, "done")
    add_device(machine)
    add_config_flags(machine, PrepareConfig, ("workers",))
    return data, output


def require_input(parser: Parser, args: Any) -> None:
    """Complain of wrong usage where it isn't said what to prepare."""
    if args.speaker is None and None in (args.audio_dir, args.transcripts, args.output_dir):
        parser.error("give --speaker NAME, or --audio-dir, --transcripts and --output-dir")
    if args.audio_dir is not None and args.transcripts is None:
        parser.error("--audio-dir needs --transcripts")
