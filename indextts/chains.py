"""What the tools that do everything in one command share: flags, and the stages up to texts.

The first stages know nothing of a model; a tool that finds them finished by another goes on from
there, since all keep their state in the same file.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from indextts.checkpoint import CheckpointFolder
from ttscommon.cli import add_device, add_training_root, given
from ttscommon.errors import UserError
from ttscommon.sound_progress import clock
from ttscommon.stages import Chain, Done, Stage, Step
from ttscommon.transcripts import text_sources
from ttscommon.workspace import Speaker, speaker_flags

C = TypeVar("C")
# What most stages need, and take seconds to import.
IMPORTS = ("torch", "torchaudio", "transformers.modeling_utils", "soundfile", "scipy.signal")


def add_recordings(group: Any) -> None:
    """Whose recordings, and what understands them."""
    group.add_argument("--speaker", "-s", required=True, help="folder name under training/")
    add_training_root(group)
    group.add_argument(
        "--whisper-model", "-w", default="medium", help="name, .pt or CTranslate2 folder"
    )
    group.add_argument(
        "--language", "-l", help="spoken in the recordings (default: Whisper finds out)"
    )


def add_stages(group: Any, names: Sequence[str], optional: Sequence[str]) -> None:
    """Which stages run, and whether they do."""
    group.add_argument(
        "--from", dest="start", choices=names, help="begin with this stage, even if it is finished"
    )
    group.add_argument("--skip", nargs="+", choices=optional, default=[], help="leave these out")
    group.add_argument("--dry-run", action="store_true", help="show what would be done, and why")


def add_machine(group: Any) -> None:
    group.add_argument(
        "--model-dir", type=Path, help="checkpoint folder (default: checkpoints/ or below it)"
    )
    add_device(group)
    group.add_argument(
        "--amp",
        nargs="?",
        const="bf16",
        choices=("no", "bf16"),
        help="precision of the computations; --amp alone is bf16 (default: no)",
    )


def chain_of(stages: Sequence[Stage], args: Any, speaker: Speaker, resume: str) -> Chain:
    """The stages that aren't to be skipped, with the state of the speaker's chain."""
    wanted = [stage for stage in stages if stage.name not in args.skip]
    return Chain(wanted, speaker.pipeline, resume=resume, imports=IMPORTS)


def require_recordings(speaker: Speaker) -> None:
    """Refuse a speaker without any.

    Raises:
        UserError: saying where they belong
    """
    if not speaker.audio.is_dir():
        fix = f"put recordings of {speaker.name} into it"
        raise UserError("no folder of recordings", where=speaker.audio, fix=fix)


def resume_command(script: str, words: Sequence[str]) -> str:
    """The same command, without what was meant for once."""
    kept, skips = [], 0
    for word in words:
        if word == "--from":
            skips = 1
        elif skips:
            skips -= 1
        elif not word.startswith("--from="):
            kept.append(word)
    return shlex.join(["python", script, *kept])


def planned(steps: Sequence[Step]) -> list[str]:
    """Two lines a step: why it would run, and its command; that of a finished one is a comment."""
    lines = []
    for step in steps:
        lines.append(f"# {step.stage.name}: {step.why or 'finished'}")
        lines.append(step.command if step.why else f"# {step.command}")
    return lines


def times(done: Sequence[Done]) -> list[str]:
    """A line a stage, and one for all."""
    width = max(12, *(len(one.name) for one in done))
    lines = []
    for one in done:
        how = "" if one.was_run else "  (finished before)"
        lines.append(f"{one.name:{width}} {clock(one.seconds):>8}{how}")
    return [*lines, f"{'all':{width}} {clock(sum(one.seconds for one in done)):>8}"]


def data_stages(args: Any, speaker: Speaker) -> list[Stage]:
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
            flags=[*whose, *recogniser(args)],
            machine_flags=device(args),
            inputs=[sounds(args, speaker), *texts],
            outputs=[speaker.transcripts_verbatim],
        ),
        Stage(
            name="validate",
            script="tools/validate_dataset.py",
            flags=whose,
            inputs=[
                *(sounds(args, speaker), speaker.clips_manifest, *texts),
                speaker.transcripts_verbatim,
            ],
            outputs=[speaker.validation],
        ),
    ]


def embeddings_stage(args: Any, speaker: Speaker, folder: CheckpointFolder) -> Stage:
    """The voice, stored."""
    return Stage(
        name="embeddings",
        script="tools/extract_embeddings.py",
        flags=[*speaker_flags([speaker]), *model_dir(args)],
        machine_flags=device(args),
        inputs=[sounds(args, speaker), speaker.excluded, *base(folder)],
        weights=(*features(folder), folder.campplus, folder.s2mel),
        outputs=[speaker.speaker_embeddings],
        again=["--overwrite"],
        own=[speaker.speaker_embeddings],
    )


def base(folder: CheckpointFolder) -> list[Path]:
    """The language model, and what reads for it."""
    return [folder.gpt, folder.tokenizer, folder.root / "config.yaml"]


def features(folder: CheckpointFolder) -> tuple[Path, ...]:
    """What recordings are read with."""
    return folder.w2v_bert / "model.safetensors", folder.w2v_stat, folder.semantic_codec


def voices(folder: CheckpointFolder) -> tuple[Path, ...]:
    """What makes sound of codes."""
    return folder.s2mel, folder.bigvgan / "bigvgan_generator.pt"


def texts_of(speaker: Speaker) -> list[Path]:
    """Every file that may say what is spoken in the clips."""
    return [*text_sources(speaker), speaker.transcripts_verbatim]


def sounds(args: Any, speaker: Speaker) -> Path:
    return speaker.clips_folder if "segment" in args.skip else speaker.clips


def recogniser(args: Any) -> list[str]:
    language = ["--language", args.language] if args.language else []
    return ["--whisper-model", args.whisper_model, *language]


def device(args: Any) -> list[str]:
    return ["--device", args.device] if args.device != "auto" else []


def model_dir(args: Any) -> list[str]:
    return ["--model-dir", str(args.model_dir)] if args.model_dir else []


def settings(args: Any, cls: type[C]) -> C:
    """A config with whatever was given by a flag."""
    return cls(**{name: value for name, value in given(args, cls).items() if value is not None})


def flags_for(values: Mapping[str, Any]) -> list[str]:
    """Settings as they are typed, also those that are as ever: a stage repeats when one changes."""
    words: list[str] = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", f"{value:g}" if isinstance(value, float) else str(value)]
    return words
