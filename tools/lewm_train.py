"""Train LeWM-TTS on the prepared recordings of one or more speakers.

Two stages run one after the other: first an autoencoder learns to copy the voice, then the
predictor learns to speak from text. Stop with Ctrl-C whenever you like; the same command goes on.

From a voice that can already read (--init-from), a new one takes minutes of speech and of time: the
network is the base's, and the settings are other ones by default, see docs/lewm.md.

Examples:
  python tools/lewm_train.py --speaker ozzy --preset small
  python tools/lewm_train.py --speaker ozzy --init-from examples/embedded_voice/voice
  python tools/lewm_train.py --speaker anna ben --preset base --amp bf16
  python tools/lewm_train.py --data_dir processed --output_dir output --epochs 200 --batch_size 256
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled

from lewm.config import PRESETS, ModelConfig, TrainConfig, speaks
from ttscommon.cli import Parser, add_config_flags, add_training_root, given, run
from ttscommon.config import from_dict, read_mapping, to_dict
from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.workspace import (
    Speaker,
    SystemFolder,
    resolve_checkpoint,
    speaker_flags,
)

STEPS = [
    *("epochs", "autoencoder", "autoencoder_steps", "predictor_steps"),
    *("evaluate_every", "save_every"),
]
BATCHES = ["batch_size", "batch_frames", "grad_accumulation", "crop_frames"]
RATES = ["autoencoder_learning_rate", "learning_rate", "warmup_steps", "weight_decay", "clip_norm"]
LOSSES = [
    *("joint", "kl_weight", "sigreg_weight", "spectral_weight", "reconstruction_weight"),
    *("prediction_weight", "stop_weight", "guide_weight", "guide_share", "input_noise"),
    *("join_two", "join_three", "phoneme_share", "flow_draws", "ema_decay"),
]
TUNING = [
    *("speaker_steps", "speaker_learning_rate", "text_encoder", "patience"),
    *("replay_share", "replay_clips", "replay_texts"),
]
CHECKS = ["eval_texts", "validation_share", "seed"]
MACHINE = ["amp", "compile", "cache_mels", "workers"]


def build_parser() -> Parser:
    parser = Parser(__doc__)
    groups = ("data", "model", "training", "fine-tuning", "losses", "output", "machine")
    data, model, training, tuning, losses, output, machine = map(parser.add_argument_group, groups)
    data.add_argument(
        "--speaker",
        nargs="+",
        metavar="NAME",
        help="folder name under training/; several: one model",
    )
    data.add_argument("--data-dir", type=Path, help="a prepared folder, instead of --speaker")
    add_training_root(data)
    model.add_argument(
        "--preset",
        choices=PRESETS,
        default=argparse.SUPPRESS,
        help="size of the network (default: base, or that of --init-from)",
    )
    add_config_flags(model, ModelConfig, ["head", "regularizer", "text_form", "downsample"])
    model.add_argument("--init-from", type=Path, help="checkpoint folder to fine-tune from")
    training.add_argument("--config", type=Path, help="YAML or JSON with any of these settings")
    add_config_flags(training, TrainConfig, [*STEPS, *BATCHES, *RATES, *CHECKS])
    add_config_flags(tuning, TrainConfig, TUNING)
    add_config_flags(losses, TrainConfig, LOSSES)
    output.add_argument("--output-dir", type=Path, help="instead of training/<speaker>/lewm")
    output.add_argument(
        "--overwrite", action="store_true", help="start stages anew whose settings or data changed"
    )
    output.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        choices=["auto"],
        help="insist on going on with a stopped run (else optional)",
    )
    machine.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to train"
    )
    add_config_flags(machine, TrainConfig, MACHINE)
    return parser


def configs(args: argparse.Namespace) -> tuple[ModelConfig, TrainConfig]:
    """Preset (or base) < file < flags, for the network and for the training."""
    file = read_mapping(args.config) if args.config else {}
    model_part = {k: file.pop(k) for k in list(file) if k in to_dict(ModelConfig())}
    preset = getattr(args, "preset", model_part.pop("preset", None))
    train_settings = {**file, **given(args, TrainConfig)}
    sizes, tuning = ModelConfig.named(preset or "base"), TrainConfig()
    if args.init_from:
        base = read_json(resolve_checkpoint(args.init_from) / "config.json", format="voxtune.lewm")
        if preset is None:
            sizes = from_dict(ModelConfig, base.get("model", {}), where=args.init_from)
        info = base.get("info", {})
        is_voice = speaks(info.get("training", {}), info.get("step", 0))
        if is_voice and not train_settings.get("joint"):
            tuning = TrainConfig.fine_tuning()
    model_settings = {**to_dict(sizes), **model_part, **given(args, ModelConfig)}
    return (
        from_dict(ModelConfig, model_settings, where=args.config),
        from_dict(TrainConfig, {**to_dict(tuning), **train_settings}, where=args.config),
    )


def folders(args: argparse.Namespace) -> tuple[list[Path], SystemFolder]:
    """What to train on and where to put the voice."""
    if not args.speaker and not (args.data_dir and args.output_dir):
        raise UserError(
            "nothing to train on", fix="--speaker NAME, or --data-dir and --output-dir together"
        )
    speakers = [Speaker(name, args.training_root) for name in args.speaker or []]
    processed = [args.data_dir] if args.data_dir else [s.lewm.processed for s in speakers]
    for folder, speaker in zip(processed, speakers or [None], strict=False):
        if not (folder / "features.json").is_file():
            words = speaker_flags([speaker]) if speaker else ["--input", "DIR", "--output", "DIR"]
            raise UserError(
                "no prepared features here",
                where=folder,
                fix=f"python tools/lewm_preprocess.py {shlex.join(words)}",
            )
    output = SystemFolder(args.output_dir) if args.output_dir else speakers[0].lewm
    if args.resume and not output.run("").exists():
        raise UserError(
            "no stopped run to go on with", where=output.folder, fix="leave out --resume"
        )
    if args.resume and args.overwrite:
        raise UserError("--resume and --overwrite contradict each other", fix="give one of them")
    return processed, output


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    model_config, config = configs(args)
    processed, output = folders(args)
    from lewm.train import train  # torch loads here, so --help stays instant
    from ttscommon.machine import processes

    words = list(sys.argv[1:] if argv is None else argv)
    command = shlex.join(
        ["python", "tools/lewm_train.py", *(w for w in words if w != "--overwrite")]
    )
    report = train(
        processed,
        output,
        model_config,
        config,
        device=args.device,
        init_from=resolve_checkpoint(args.init_from) if args.init_from else None,
        overwrite=args.overwrite,
        resume_command=command,
    )
    if not processes(args.device).is_main_process:
        return
    print(f"Best voice: {report.best} (step {report.best_step})")
    print("  " + "  ".join(f"{name} {value:.3f}" for name, value in report.metrics.items()))
    home = Speaker(args.speaker[0], args.training_root) if args.speaker else None
    whose = ["--checkpoint", str(report.best)]
    if home is not None and output == home.lewm:
        whose = speaker_flags([home])
    say = ["--text", "Hello, how are you today?"]
    print("Next:", shlex.join(["python", "tools/lewm_infer.py", *whose, *say]))
    stage = "joint" if config.joint else "predictor"
    print(f"Curves, sounds, alignments: {output.logs / stage / 'report.html'}")


if __name__ == "__main__":
    run(main)
