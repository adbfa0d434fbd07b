"""What the tools for Higgs Audio share: flags, and what they stand for. No torch in here."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from higgs_trainer.config import HiggsTrainConfig, PrepareConfig
from higgs_trainer.text import TextConfig
from ttscommon.cli import add_config_flags, add_training_root, given
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker, SystemFolder

if TYPE_CHECKING:
    from higgs_trainer.jobs import Models, Sources

# Where tools/download_checkpoints.py puts them.
MODEL = Path("checkpoints/higgs/higgs-audio-v2-generation-3B-base")
CODEC = Path("checkpoints/higgs/higgs-audio-v2-tokenizer")
WRITING = [field.name for field in dataclasses.fields(TextConfig)]
LENGTHS = ("min_duration", "max_duration")
FETCH = "python tools/download_checkpoints.py higgs"


def add_data(group: Any) -> None:
    group.add_argument("--speaker", help="folder name under training/")
    add_training_root(group)
    group.add_argument(
        "--train-data", type=Path, metavar="FILE", help="ChatML samples, instead of a speaker"
    )
    group.add_argument(
        "--val-data", type=Path, metavar="FILE", help="samples to measure with, of the same kind"
    )
    group.add_argument(
        "--audio-base-path", type=Path, metavar="DIR", help="what the samples' paths begin at"
    )
    add_config_flags(group, PrepareConfig, [*LENGTHS, "validation_share", "strict"])
    add_writing(group)


def add_writing(group: Any) -> None:
    """How texts are written for the model."""
    add_config_flags(group, TextConfig, WRITING)


def add_models(group: Any) -> None:
    group.add_argument("--model-path", type=Path, default=MODEL, help="checkpoint, in any format")
    group.add_argument("--audio-tokenizer-path", type=Path, default=CODEC, help="its codec")
    group.add_argument(
        "--force-whisper", action="store_true", help="refuse a checkpoint without an audio tower"
    )


def add_precision(group: Any) -> None:
    add_config_flags(group, HiggsTrainConfig, ["amp"])


def writing(args: Any) -> TextConfig | None:
    """What was asked of texts; None: nothing."""
    asked = given(args, TextConfig)
    return TextConfig(**asked) if asked else None


def preparation(args: Any, adapter: Path | None = None) -> PrepareConfig:
    """How the data is prepared; for an adapter, with texts as it learned them.

    Raises:
        UserError: if something else is asked for
    """
    from higgs_trainer.statistics import followed

    return PrepareConfig(**given(args, PrepareConfig), text=followed(adapter, writing(args)).text)


def sources(args: Any) -> Sources:
    """What is to be learned.

    Raises:
        UserError: if neither samples nor a speaker are given, or both
    """
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    if (args.train_data is None) == (speaker is None):
        raise UserError(
            "give either a speaker or samples", fix="--speaker NAME, or --train-data FILE.json"
        )
    if args.train_data is None and (args.val_data or args.audio_base_path):
        raise UserError("--val-data and --audio-base-path go with --train-data")
    from higgs_trainer.jobs import Sources

    return Sources(
        train=args.train_data,
        validation=args.val_data,
        audio_base=args.audio_base_path,
        speaker=speaker,
    )


def models(args: Any) -> Models:
    """Where the networks are.

    Raises:
        UserError: if there is nothing
    """
    for path in (args.model_path, args.audio_tokenizer_path):
        if not path.is_dir():
            raise UserError("no such folder", where=path, fix=FETCH)
    from higgs_trainer.checkpoint import Wishes
    from higgs_trainer.jobs import Models

    wishes = Wishes(whisper=True if args.force_whisper else None)
    return Models(checkpoint=args.model_path, codec=args.audio_tokenizer_path, wishes=wishes)


def output(args: Any) -> SystemFolder:
    """Where everything goes."""
    if args.output_dir:
        return SystemFolder(args.output_dir)
    if args.speaker:
        return Speaker(args.speaker, args.training_root).higgs
    return SystemFolder(Path("trained_higgs"))
