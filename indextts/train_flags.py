"""What the two training tools share: flags, and from flags to a `Job` and a config."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from indextts.checkpoint import CheckpointFolder
from indextts.clips import TRAIN_MANIFEST, VALIDATION_MANIFEST
from indextts.train_config import GptTrainConfig, LoraTrainConfig
from ttscommon.cli import add_config_flags, add_device, add_overwrite, add_training_root, given
from ttscommon.config import from_dict, read_mapping, to_dict
from ttscommon.errors import UserError
from ttscommon.launching import same_command
from ttscommon.train_settings import BATCHES, LENGTH, MACHINE, RATES, REPORTS
from ttscommon.workspace import Speaker, SystemFolder, speaker_flags

if TYPE_CHECKING:
    from indextts.train import Job, TrainReport

C = TypeVar("C", bound=GptTrainConfig)

LOSSES = ["text_loss_weight", "mel_loss_weight", "contiguous_positions", "gpt_dropout"]
PROMPTS = ["pairing", "on_the_fly", "crop_prompts"]
SAMPLES = ["sample_interval", "n_samples", "whisper_model"]
TRAINERS = {"lora": "train_gpt_lora", "finetune": "train_gpt_finetune"}


def add_data(group: Any) -> None:
    group.add_argument(
        "--speaker",
        nargs="+",
        metavar="NAME",
        help="folders under training/; several: one model, in --output-dir",
    )
    add_training_root(group)
    for kind in ("train", "val"):
        group.add_argument(
            f"--{kind}-manifest",
            action="append",
            type=Path,
            metavar="FILE",
            help="instead of a speaker's; may be given several times",
        )
    group.add_argument("--model-dir", type=Path, help="checkpoint folder (default: checkpoints)")
    group.add_argument("--base-checkpoint", type=Path, help="another gpt.pth than the folder's")
    group.add_argument(
        "--config", type=Path, help="YAML or JSON with any of these settings, or a config.yaml"
    )


def add_prompt_speakers(group: Any, default: str) -> None:
    """Whose clips prompt where a manner of speaking is learned."""
    group.add_argument(
        "--prompt-speakers",
        nargs="*",
        metavar="NAME",
        help=f"whose prepared clips prompt as well (default: {default}; no name: nobody's)",
    )


def add_training(group: Any, cls: type[GptTrainConfig]) -> None:
    add_config_flags(group, cls, [*LENGTH, *BATCHES, *RATES, *LOSSES, *PROMPTS, "seed"])


def add_output(group: Any, default: str, cls: type[GptTrainConfig] = LoraTrainConfig) -> None:
    group.add_argument("--output-dir", type=Path, help=f"where to save (default: {default})")
    group.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        choices=["auto"],
        default="auto",
        help="go on with a stopped run of this command, if there is one",
    )
    add_overwrite(group)
    add_config_flags(group, cls, [*REPORTS, *SAMPLES])


def add_machine(group: Any, cls: type[GptTrainConfig]) -> None:
    add_device(group)
    group.add_argument(
        "--amp",
        nargs="?",
        const="bf16",
        choices=("no", "bf16"),
        help="precision of the computations; --amp alone is bf16 (default: no)",
    )
    add_config_flags(group, cls, MACHINE)


def chosen(args: Any, cls: type[C]) -> C:
    """Preset < file < flags.

    Raises:
        UserError: for an unknown setting or a wrong value
    """
    path = None if is_of_checkpoint(args.config) else args.config
    file = dict(read_mapping(path)) if path else {}
    flags = {name: value for name, value in given(args, cls).items() if value is not None}
    preset: GptTrainConfig = cls()
    if cls is LoraTrainConfig:
        named = file.pop("preset", "standard")
        preset = LoraTrainConfig.named(getattr(args, "preset", named))
    settings = {**to_dict(preset), **file, **flags}
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    return from_dict(cls, tuples, where=path)


def job(args: Any, kind: str, argv: Sequence[str] | None, *, default_output: str) -> Job:
    """What the flags ask for.

    Args:
        kind: lora or finetune

    Raises:
        UserError: if there is nothing to train on
    """
    from indextts.train import Job  # brings torch

    speakers = [Speaker(name, args.training_root) for name in args.speaker or []]
    train = args.train_manifest or [s.processed / TRAIN_MANIFEST for s in speakers]
    validation = args.val_manifest or [s.processed / VALIDATION_MANIFEST for s in speakers]
    if not train or not validation:
        raise UserError(
            "nothing to train on", fix="--speaker NAME, or --train-manifest and --val-manifest"
        )
    for path in (*train, *validation):
        if not path.is_file():
            whose = shlex.join(speaker_flags(speakers[:1])) if speakers else "--speaker NAME"
            fix = f"python tools/prepare_lora_dataset.py {whose}"
            raise UserError("no prepared clips here", where=path, fix=fix)
    if len(speakers) > 1 and not args.output_dir:
        both = "_and_".join(speaker.name for speaker in speakers)
        raise UserError(
            "one model of several speakers speaks for none of them alone",
            fix=f"--output-dir {shlex.quote(str(args.training_root / both / kind))}",
        )
    home = getattr(speakers[0], kind) if speakers else SystemFolder(Path(default_output))
    is_ours = is_of_checkpoint(args.config)
    return Job(
        train=train,
        validation=validation,
        output=SystemFolder(args.output_dir) if args.output_dir else home,
        folder=CheckpointFolder.open(args.model_dir, cfg_path=args.config if is_ours else None),
        base=args.base_checkpoint,
        device=args.device,
        overwrite=args.overwrite,
        resume_command=same_command(TRAINERS[kind], argv, args.device),
    )


def tell(args: Any, work: Job, report: TrainReport) -> str:
    """Where the voice is, how good it was, and what to do next."""
    lines = [f"Best voice: {report.best} (step {report.best_step})"]
    lines.append("  " + "  ".join(f"{k} {v:.3f}" for k, v in report.metrics.items()))
    if report.best_audio is not None:
        lines.append(f"Best by ear: {report.best_audio}")
    speaker = Speaker(args.speaker[0], args.training_root) if args.speaker else None
    homes = {"lora": speaker.lora, "finetune": speaker.finetune} if speaker else {}
    place = work.output.folder.resolve()
    kind = next((name for name, home in homes.items() if home.folder.resolve() == place), None)
    if speaker and kind:
        whose = [*speaker_flags([speaker]), "--model-type", kind]
    elif report.best.suffix == ".pth":
        whose = ["--gpt-checkpoint", str(report.best), "--reference-audio", "VOICE.wav"]
    else:
        whose = ["--lora-path", str(report.best), "--reference-audio", "VOICE.wav"]
    say = ["--text", "Hello, how are you today?"]
    lines.append(f"Next: {shlex.join(['python', 'tools/infer.py', *whose, *say])}")
    lines.append(f"Curves: tensorboard --logdir {work.output.logs}")
    return "\n".join(lines)


def is_of_checkpoint(path: Path | None) -> bool:
    """Whether it is a checkpoint folder's config.yaml, as the original's trainers take it."""
    return path is not None and "gpt" in read_mapping(path)
