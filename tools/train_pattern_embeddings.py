"""Train a person's manner of speaking: a pattern embedding, and a LoRA adapter around it.

The pattern learns alone first, with the model frozen; then an adapter learns the voice, with the
pattern frozen. Held-out losses are told with the pattern on, off and shuffled. Stop with Ctrl-C
whenever you like; the same command goes on, and ends in the same bits.

Examples:
  python tools/train_pattern_embeddings.py --speaker ozzy
  python tools/train_pattern_embeddings.py --speaker ozzy --pattern-tokens 16 --no-lora
  python tools/train_pattern_embeddings.py --speaker ozzy --prompt-speakers anna ben --amp
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from indextts.checkpoint import CheckpointFolder
from indextts.pattern_config import PatternTrainConfig
from indextts.strangers import bundled_command, find_strangers, kept_prompts, prompts_of
from indextts.train_flags import (
    TRAIN_MANIFEST,
    VALIDATION_MANIFEST,
    add_machine,
    add_output,
    add_prompt_speakers,
    add_training,
    chosen,
    is_of_checkpoint,
)
from ttscommon.cli import Parser, add_config_flags, add_training_root, run
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker, SystemFolder, speaker_flags

if TYPE_CHECKING:
    from indextts.pattern_train import PatternJob
    from indextts.train import TrainReport

PREPARE = "python tools/prepare_pattern_dataset_v3.py"
SAMPLE = Path("examples/sample_speaker")
NOBODY = (
    "Prompts: own clips only. The manner will hardly carry over to other voices' prompts "
    "(docs/patterns.md). One other speaker helps; the bundled one:\n  "
)
PATTERN = ("pattern_tokens", "pattern_lr", "injection_mode", "initialization")
LOSSES = ("loss", "pause_weight", "silence_weight", "rate_weight", "event_weight")
PROMPTS = ("other_share", "strange_timbre", "off_share", "off_weight")
LORA = ("lora_rank", "lora_alpha", "lora_dropout", "lora_gpt", "lora_mlp", "lora_heads", "joint")


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, pattern, lora, training, output, machine = map(
        parser.add_argument_group, ("data", "pattern", "lora", "training", "output", "machine")
    )
    data.add_argument("--speaker", "-s", help="folder name under training/")
    add_training_root(data)
    for kind in ("train", "val", "prompt"):
        whose = "other speakers' clips" if kind == "prompt" else "instead of the speaker's"
        data.add_argument(f"--{kind}-manifest", action="append", type=Path, metavar="FILE",
                          help=f"{whose}; may be given several times")  # fmt: skip
    add_prompt_speakers(data, "everybody's")
    data.add_argument("--model-dir", type=Path, help="checkpoint folder (default: checkpoints)")
    data.add_argument("--base-checkpoint", type=Path, help="another gpt.pth than the folder's")
    data.add_argument(
        "--config", type=Path, help="YAML or JSON with any of these settings, or a config.yaml"
    )
    add_config_flags(pattern, PatternTrainConfig, [*PATTERN, *LOSSES, *PROMPTS])
    add_config_flags(lora, PatternTrainConfig, LORA)
    lora.add_argument("--no-lora", dest="lora_rank", action="store_const", const=0,
                      default=argparse.SUPPRESS,
                      help="train the pattern only, as --lora-rank 0")  # fmt: skip
    add_training(training, PatternTrainConfig)
    add_output(output, "training/<speaker>/pattern_training", PatternTrainConfig)
    add_machine(machine, PatternTrainConfig)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    config = chosen(args, PatternTrainConfig)
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    train, validation = _manifests(args, speaker)
    default = speaker.pattern_training if speaker else SystemFolder(Path("pattern_training"))
    output = SystemFolder(args.output_dir) if args.output_dir else default
    others = _others(args, speaker, [*train, *validation], output.run(config.first_stage))
    from indextts.pattern_train import PatternJob, train_patterns  # torch loads here

    words = [w for w in (sys.argv[1:] if argv is None else argv) if w != "--overwrite"]
    if args.prompt_speakers is None:  # whoever is prepared meanwhile doesn't prompt
        words += ["--prompt-speakers", *(_name(path) for path in others)]
    work = PatternJob(
        train=train,
        validation=validation,
        others=[*(args.prompt_manifest or []), *others],
        chosen=others,
        output=output,
        folder=CheckpointFolder.open(
            args.model_dir, cfg_path=args.config if is_of_checkpoint(args.config) else None
        ),
        base=args.base_checkpoint,
        device=args.device,
        overwrite=args.overwrite,
        resume_command=shlex.join(["python", "tools/train_pattern_embeddings.py", *words]),
    )
    _tell(work, train_patterns(work, config), speaker)


def _manifests(args: argparse.Namespace, speaker: Speaker | None) -> tuple[list[Path], list[Path]]:
    """To train on, and to validate with."""
    own = [speaker.processed_v3] if speaker else []
    train = args.train_manifest or [folder / TRAIN_MANIFEST for folder in own]
    validation = args.val_manifest or [folder / VALIDATION_MANIFEST for folder in own]
    if not train or not validation:
        raise UserError(
            "nothing to train on", fix="--speaker NAME, or --train-manifest and --val-manifest"
        )
    whose = shlex.join(speaker_flags([speaker])) if speaker else "--speaker NAME"
    for path in (*train, *validation):
        if not path.is_file():
            raise UserError("no prepared clips here", where=path, fix=f"{PREPARE} {whose}")
    return train, validation


def _others(
    args: argparse.Namespace, speaker: Speaker | None, learned: Sequence[Path], run: Path
) -> list[Path]:
    """Manifests of everybody who prompts besides the speaker.

    Args:
        run: folder of a run that may have begun, and goes on with who prompts in it
    """
    root, since = args.training_root, ""
    if args.prompt_speakers is not None:
        found = prompts_of([Speaker(name, root) for name in args.prompt_speakers])
    else:
        found = find_strangers(root, speaker, learned)
        began = None if args.overwrite else kept_prompts(run, root)
        if began is not None:
            found, since = began, _since(found, began)
    if found or since:
        whose = ", and those of " + ", ".join(map(_name, found)) if found else " only"
        print(f"Prompts: own clips{whose}{since}")
    elif not args.prompt_manifest:
        print(NOBODY + bundled_command(Speaker("stranger", root), SAMPLE, args.model_dir))
    return found


def _since(everybody: Sequence[Path], began: Sequence[Path]) -> str:
    """Who was prepared after a run had begun, and doesn't prompt in it."""
    late = sorted({*map(_name, everybody)} - {*map(_name, began)})
    if not late:
        return ""
    return (
        f", as when this run began; not {', '.join(late)}, prepared since "
        "(--overwrite begins anew with everybody)"
    )


def _name(manifest: Path) -> str:
    """Whose clips these are: training/NAME/dataset/processed/..."""
    return manifest.parents[2].name


def _tell(work: PatternJob, report: TrainReport, speaker: Speaker | None) -> None:
    """Where the pattern is, what it does to held-out clips, and what to do next."""
    print(f"Best pattern: {report.best} (step {report.best_step})")
    rows = ("with the pattern", ""), ("without it", "off/"), ("shuffled", "shuffled/")
    names = [name for name in report.metrics if "/" not in name and name != "norm_ratio"]
    for title, prefix in rows:
        numbers = [f"{name} {report.metrics[prefix + name]:.3f}" for name in names]
        print(f"  {title:17} {'  '.join(numbers)}")
    if report.best_audio is not None:
        print(f"Best by ear: {report.best_audio}")
    whose = ["--pattern-embedding", f"{report.best}/pattern_embedding.pt", "-r", "VOICE.wav"]
    if speaker is not None and work.output == speaker.pattern_training:
        whose = speaker_flags([speaker])
    say = [*whose, "--text", "Life finds a way, you know?"]
    print(f"Next: {shlex.join(['python', 'tools/infer_with_patterns.py', *say])}")
    print(f"Curves: tensorboard --logdir {work.output.logs}")


if __name__ == "__main__":
    run(main)
