"""From a folder of recordings to a tuned IndexTTS2 voice, in one command.

Put recordings into training/<speaker>/dataset/audio. If you have texts, put them into
dataset/transcripts.csv (audio_path,text); Whisper writes the others down. The stages are tools of
their own: segment, transcribe, validate, prepare, train, embeddings, compare. A stage whose inputs
and settings haven't changed is skipped. Stop whenever you like; the same command goes on.

Example: python tools/train_speaker.py --speaker ozzy
Example: python tools/train_speaker.py --speaker ozzy --epochs 40 --dry-run
Example: python tools/train_speaker.py --speaker ozzy --from train
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from indextts.checkpoint import CheckpointFolder
from indextts.train_config import LoraTrainConfig, setting
from indextts.tuned import adapters, trained
from ttscommon.cli import Parser, add_config_flags, add_device, add_training_root, given, run
from ttscommon.errors import UserError
from ttscommon.sound_progress import clock
from ttscommon.stages import Chain, Done, Stage
from ttscommon.transcripts import text_sources
from ttscommon.workspace import Speaker, speaker_flags

EXIT_WORSE = 3
NAMES = ("segment", "transcribe", "validate", "prepare", "train", "embeddings", "compare")
OPTIONAL = ("segment", "transcribe", "validate", "compare")
TRAINING = ("epochs", "max_steps", "batch_size", "grad_accumulation", "learning_rate", "patience",
            "seed")  # fmt: skip
LORA = ("lora_rank", "lora_alpha")


@dataclass(frozen=True, kw_only=True)
class EveningConfig(LoraTrainConfig):
    """For some 40 recordings, one GPU and one evening: an epoch of 40 clips has ten steps then."""

    batch_size: int = setting(4, "most clips in a batch")
    grad_accumulation: int = setting(1, "batches of one optimizer step")
    patience: int = setting(5, "evaluations without a better one before it ends; 0: any number")


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, training, lora, comparison, stages, machine = map(
        parser.add_argument_group,
        ("data", "training", "lora", "comparison", "stages", "machine"),
    )
    data.add_argument("--speaker", "-s", required=True, help="folder name under training/")
    add_training_root(data)
    data.add_argument(
        "--whisper-model", "-w", default="medium", help="name, .pt or CTranslate2 folder"
    )
    data.add_argument(
        "--language", "-l", help="spoken in the recordings (default: Whisper finds out)"
    )
    add_config_flags(training, EveningConfig, TRAINING)
    add_config_flags(lora, EveningConfig, LORA)
    comparison.add_argument("--test-texts", nargs="+", metavar="TEXT", help="what is compared")
    comparison.add_argument("--n-texts", type=int, default=8, help="or so many texts are chosen")
    comparison.add_argument("--diffusion-steps", type=int, default=25, help="of the flow")
    comparison.add_argument("--num-beams", type=int, default=3, help="1 is faster")
    stages.add_argument(
        "--from", dest="start", choices=NAMES, help="begin with this stage, even if it is finished"
    )
    stages.add_argument("--skip", nargs="+", choices=OPTIONAL, default=[], help="leave these out")
    stages.add_argument("--dry-run", action="store_true", help="show what would be done, and why")
    machine.add_argument(
        "--model-dir", type=Path, help="checkpoint folder (default: checkpoints/ or below it)"
    )
    add_device(machine)
    machine.add_argument(
        "--amp",
        nargs="?",
        const="bf16",
        choices=("no", "bf16"),
        default=argparse.SUPPRESS,
        help="precision of the computations; --amp alone is bf16 (default: no)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse(argv)
    speaker = Speaker(args.speaker, args.training_root)
    if not speaker.audio.is_dir():
        fix = f"put recordings of {speaker.name} into it"
        raise UserError("no folder of recordings", where=speaker.audio, fix=fix)
    words = list(sys.argv[1:] if argv is None else argv)
    stages = [stage for stage in chain(args, speaker) if stage.name not in args.skip]
    steps = Chain(stages, speaker.pipeline, resume=resume_command(words))
    if args.dry_run:
        for step in steps.plan(args.start):
            print(f"# {step.stage.name}: {step.why or 'finished'}")
            print(step.command if step.why else f"# {step.command}")
        return 0
    done = steps.run(args.start)
    _conclude(speaker, done)
    return EXIT_WORSE if done[-1].exit_code == EXIT_WORSE else 0


def resume_command(words: Sequence[str]) -> str:
    """The same command, without what was meant for once."""
    kept, skips = [], 0
    for word in words:
        if word == "--from":
            skips = 1
        elif skips:
            skips -= 1
        elif not word.startswith("--from="):
            kept.append(word)
    return shlex.join(["python", "tools/train_speaker.py", *kept])


def chain(args: argparse.Namespace, speaker: Speaker) -> list[Stage]:
    """The stages with their commands, and what each of them reads and leaves."""
    folder = CheckpointFolder.open(args.model_dir)
    base = [folder.gpt, folder.tokenizer, folder.root / "config.yaml"]
    model_dir = ["--model-dir", str(args.model_dir)] if args.model_dir else []
    flags = [*speaker_flags([speaker]), *model_dir]
    voice = _voice_stages(args, speaker, base, flags)
    features = (folder.w2v_bert / "model.safetensors", folder.w2v_stat, folder.semantic_codec)
    reads = {
        "prepare": features,
        "embeddings": (*features, folder.campplus, folder.s2mel),
        "compare": (folder.s2mel, folder.bigvgan / "bigvgan_generator.pt"),
    }
    return [
        *_data_stages(args, speaker),
        *(replace(stage, weights=reads.get(stage.name, ())) for stage in voice),
    ]


def _data_stages(args: argparse.Namespace, speaker: Speaker) -> list[Stage]:
    """From recordings to clips with texts: nothing here asks for the model."""
    whose = speaker_flags([speaker])
    texts = text_sources(speaker)
    return [
        Stage(
            name="segment",
            script="tools/segment_recordings.py",
            flags=whose,
            inputs=[speaker.audio],
            outputs=[speaker.clips_manifest],
        ),
        Stage(
            name="transcribe",
            script="tools/transcribe_dataset.py",
            flags=[*whose, *_recogniser(args)],
            machine_flags=_device(args),
            inputs=[_sounds(args, speaker), *texts],
            outputs=[speaker.transcripts_verbatim],
        ),
        Stage(
            name="validate",
            script="tools/validate_dataset.py",
            flags=whose,
            inputs=[
                *(_sounds(args, speaker), speaker.clips_manifest, *texts),
                speaker.transcripts_verbatim,
            ],
            outputs=[speaker.validation],
        ),
    ]


def _voice_stages(
    args: argparse.Namespace, speaker: Speaker, base: list[Path], flags: list[str]
) -> list[Stage]:
    """From clips with texts to a tuned voice, compared with the base."""
    sounds = _sounds(args, speaker)
    texts = [*text_sources(speaker), speaker.transcripts_verbatim]
    manifests = [speaker.processed / name for name in _manifests()]
    return [
        Stage(
            name="prepare",
            script="tools/prepare_lora_dataset.py",
            flags=flags,
            machine_flags=_device(args),
            inputs=[sounds, speaker.clips_manifest, *texts, *base],
            outputs=manifests,
        ),
        Stage(
            name="train",
            script="tools/train_gpt_lora.py",
            flags=[*flags, *_training(args)],
            machine_flags=_device(args),
            inputs=[*manifests, *base],
            outputs=[speaker.lora.final_checkpoint],
            again=["--overwrite"],
            own=[speaker.lora.final_checkpoint],
        ),
        Stage(
            name="embeddings",
            script="tools/extract_embeddings.py",
            flags=flags,
            machine_flags=_device(args),
            inputs=[sounds, *base],
            outputs=[speaker.speaker_embeddings],
            again=["--overwrite"],
            own=[speaker.speaker_embeddings],
        ),
        Stage(
            name="compare",
            script="tools/compare_models.py",
            flags=[*flags, *_recogniser(args), *_comparison(args)],
            machine_flags=_device(args),
            inputs=[*adapters(speaker), speaker.speaker_embeddings, *manifests, *base],
            outputs=[speaker.comparison],
            good_exits=(0, EXIT_WORSE),
        ),
    ]


def _sounds(args: argparse.Namespace, speaker: Speaker) -> Path:
    return speaker.clips_folder if "segment" in args.skip else speaker.clips


def _recogniser(args: argparse.Namespace) -> list[str]:
    language = ["--language", args.language] if args.language else []
    return ["--whisper-model", args.whisper_model, *language]


def _device(args: argparse.Namespace) -> list[str]:
    return ["--device", args.device] if args.device != "auto" else []


def _manifests() -> tuple[str, str]:
    from indextts.clips import TRAIN_MANIFEST, VALIDATION_MANIFEST

    return TRAIN_MANIFEST, VALIDATION_MANIFEST


def _training(args: argparse.Namespace) -> list[str]:
    """All of them, also those that are as ever: a stage is repeated when they change."""
    config = EveningConfig(**given(args, EveningConfig))
    values = {name: getattr(config, name) for name in (*TRAINING, *LORA, "amp")}
    shown = {n: f"{v:g}" if isinstance(v, float) else str(v) for n, v in values.items()}
    return [word for name, value in shown.items() for word in (_flag(name), value)]


def _comparison(args: argparse.Namespace) -> list[str]:
    speech = ["--diffusion-steps", str(args.diffusion_steps), "--num-beams", str(args.num_beams)]
    if args.test_texts:
        return [*speech, *(word for text in args.test_texts for word in ("--text", text))]
    return [*speech, "--n-texts", str(args.n_texts)]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _conclude(speaker: Speaker, done: Sequence[Done]) -> None:
    """Times, where things are, and the line to type next."""
    print()
    for one in done:
        how = "" if one.was_run else "  (finished before)"
        print(f"{one.name:12} {clock(one.seconds):>8}{how}")
    print(f"{'all':12} {clock(sum(one.seconds for one in done)):>8}")
    for tuned in trained(speaker).values():
        print(f"Tuned: {tuned}")
    if any(one.name == "compare" for one in done):
        print(f"Listen: {speaker.comparison}")
    flags = shlex.join(speaker_flags([speaker]))
    print(f'Next: python tools/infer.py {flags} --text "Good morning. Did you sleep well?"')


if __name__ == "__main__":
    run(main)
