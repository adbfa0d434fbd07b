"""The stages from recordings to a measured manner of speaking."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indextts import chains
from indextts.checkpoint import CheckpointFolder
from indextts.clips import TRAIN_MANIFEST, VALIDATION_MANIFEST
from indextts.pattern_config import PatternTrainConfig
from indextts.pattern_ways import REAL, ways_to_speak
from indextts.prepare_config import PrepareConfig
from indextts.strangers import prompts_of
from indextts.tuned import adapter_of
from ttscommon.evaluation import EXIT_WORSE
from ttscommon.outputs import speech_paths
from ttscommon.stages import Stage
from ttscommon.train_settings import setting
from ttscommon.workspace import Speaker, speaker_flags

NAMES = ("segment", "transcribe", "validate", "conditioning", "prepare_v3", "strangers",
         "train_patterns", "embeddings", "test", "speak", "evaluate")  # fmt: skip
OPTIONAL = ("segment", "transcribe", "validate", "conditioning", "strangers", "test", "speak",
            "evaluate")  # fmt: skip
# Recordings that come with VoxTune.
BUNDLED = Path(__file__).resolve().parents[1] / "examples" / "sample_speaker"
PREPARATION = ("train_split",)
PATTERN = ("pattern_tokens", "pattern_lr", "injection_mode", "pause_weight")
LORA = ("lora_rank", "lora_alpha", "joint")
TRAINING = ("epochs", "max_steps", "batch_size", "grad_accumulation", "learning_rate", "seed")
TEST_TEXTS = (
    "Life finds a way, you know what I mean?",
    "We wanted to leave early, but then the car wouldn't start, so we stayed for another night.",
)
PAGE, INFO = "patterns.html", "pattern_info.json"


@dataclass(frozen=True, kw_only=True)
class PatternEveningConfig(PatternTrainConfig):
    """For some 40 recordings: an epoch of 40 clips has ten steps then, not three."""

    grad_accumulation: int = setting(1, "batches of one optimizer step")


@dataclass(frozen=True, kw_only=True)
class HeldOutConfig(PrepareConfig):
    """More is held out than for a LoRA: it is what the manner is measured by."""

    train_split: float = setting(0.85, "share of the sound to train on; the rest is measured by")


def chain(args: Any, speaker: Speaker) -> list[Stage]:
    """The stages with their commands, and what each of them reads and leaves."""
    folder = CheckpointFolder.open(args.model_dir)
    flags = [*speaker_flags([speaker]), *chains.model_dir(args)]
    return [
        *chains.data_stages(args, speaker),
        *_preparation(args, speaker, folder, flags),
        *_strangers(args, speaker, folder),
        _training(args, speaker, folder, flags),
        chains.embeddings_stage(args, speaker, folder),
        *_speaking(args, speaker, folder, flags),
        _evaluation(args, speaker),
    ]


def condition_names(args: Any, speaker: Speaker) -> list[str]:
    """What is compared with the base, in the protocol's words."""
    ways = ways_to_speak(
        has_adapter=_config(args).has_adapter,
        strengths=args.strengths,
        has_other=args.other_pattern is not None,
        has_lora=adapter_of(speaker) is not None,
    )
    return [*(way.name for way in ways), REAL]


def _preparation(
    args: Any, speaker: Speaker, folder: CheckpointFolder, flags: list[str]
) -> list[Stage]:
    """From clips with texts to what a manner is learned from."""
    clips = [chains.sounds(args, speaker), speaker.clips_manifest, speaker.excluded]
    base = chains.base(folder)
    asked = {name: value for name, value in vars(args).items() if name in PREPARATION}
    config = HeldOutConfig(**asked)
    held_out = {name: getattr(config, name) for name in PREPARATION}
    return [
        Stage(
            name="conditioning",
            script="tools/extract_pattern_conditioning.py",
            flags=flags,
            machine_flags=chains.device(args),
            inputs=[*clips, *base],
            weights=chains.features(folder),
            outputs=[speaker.pattern_conditioning],
            again=["--overwrite"],
            own=[speaker.pattern_conditioning],
        ),
        Stage(
            name="prepare_v3",
            script="tools/prepare_pattern_dataset_v3.py",
            flags=[*flags, *chains.flags_for(held_out)],
            machine_flags=chains.device(args),
            inputs=[*clips, speaker.words, *chains.texts_of(speaker), speaker.pattern_conditioning,
                    *base],
            weights=chains.features(folder),
            outputs=_manifests(speaker),
        ),
    ]  # fmt: skip


def _strangers(args: Any, speaker: Speaker, folder: CheckpointFolder) -> list[Stage]:
    """Somebody to prompt with who isn't the speaker; nobody if others were named."""
    if args.prompt_speakers is not None or _is_bundled(speaker) or not BUNDLED.is_dir():
        return []
    audio, texts = BUNDLED / "audio", BUNDLED / "transcripts.csv"
    flags = ["--audio-dir", str(audio), "--transcripts", str(texts)]
    flags += ["--output-dir", str(speaker.strangers), *chains.model_dir(args)]
    return [
        Stage(
            name="strangers",
            script="tools/prepare_lora_dataset.py",
            flags=flags,
            machine_flags=chains.device(args),
            inputs=[audio, texts, *chains.base(folder)],
            weights=chains.features(folder),
            outputs=[speaker.strangers / TRAIN_MANIFEST],
        )
    ]


def _is_bundled(speaker: Speaker) -> bool:
    """Whether it is the speaker who comes with VoxTune."""
    sounds = {path.stat().st_size: path for path in BUNDLED.glob("audio/*")}
    return any(
        path.stat().st_size in sounds
        and path.read_bytes() == sounds[path.stat().st_size].read_bytes()
        for path in speaker.audio.rglob("*")
        if path.is_file()
    )


def _prompts(args: Any, speaker: Speaker, folder: CheckpointFolder) -> tuple[list[str], list[Path]]:
    """Flags of the training for other people's prompts, and what it reads then.

    Raises:
        UserError: if somebody who is named was never prepared
    """
    if args.prompt_speakers is not None:
        others = [Speaker(name, speaker.root) for name in args.prompt_speakers]
        return ["--prompt-speakers", *args.prompt_speakers], prompts_of(others)
    found = [] if "strangers" in args.skip else _strangers(args, speaker, folder)
    manifests = [path for stage in found for path in stage.outputs]
    flags = [word for path in manifests for word in ("--prompt-manifest", str(path))]
    return [*flags, "--prompt-speakers"], manifests  # nobody else, who would be no input


def _training(args: Any, speaker: Speaker, folder: CheckpointFolder, flags: list[str]) -> Stage:
    config, home = _config(args), speaker.pattern_training
    values = {n: getattr(config, n) for n in (*PATTERN, *LORA, *TRAINING, "amp")}
    if not config.has_adapter:
        del values["joint"]
    prompts, others = _prompts(args, speaker, folder)
    return Stage(
        name="train_patterns",
        script="tools/train_pattern_embeddings.py",
        flags=[*flags, *chains.flags_for(values), *prompts],
        machine_flags=chains.device(args),
        inputs=[*_manifests(speaker), *others, speaker.processed_v3 / INFO,
                speaker.processed_v3 / "features", *chains.base(folder)],
        outputs=[home.best_checkpoint, home.final_checkpoint],
        again=["--overwrite"],
        own=[home.final_checkpoint],
    )  # fmt: skip


def _speaking(
    args: Any, speaker: Speaker, folder: CheckpointFolder, flags: list[str]
) -> list[Stage]:
    """To listen to, and to be measured."""
    home = speaker.pattern_training
    reads = [home.best_checkpoint, speaker.speaker_embeddings, *chains.base(folder)]
    texts = args.test_texts or TEST_TEXTS
    decoding = {"diffusion_steps": args.diffusion_steps, "num_beams": args.num_beams}
    speech = [*flags, *chains.flags_for(decoding)]
    heard = [*chains.recogniser(args)]
    words = [word for text in texts for word in ("--text", text)]
    words += ["--pattern-scale", f"{args.pattern_scale:g}", "--seed", "0"]
    asked = [*_given("--text-file", args.text_file), "--n-texts", str(args.n_texts)]
    asked += ["--seeds", *map(str, args.seeds), "--strengths", *(f"{x:g}" for x in args.strengths)]
    asked += _given("--other-pattern", args.other_pattern)
    asked += ["--language", args.language] if args.language else []
    lora = adapter_of(speaker)  # that of train_speaker, if it has been run
    asked += _given("--lora", lora)
    others = [path for path in (args.text_file, args.other_pattern, lora) if path]
    return [
        Stage(
            name="test",
            script="tools/infer_with_patterns.py",
            flags=[*speech, *heard, *words, "--output-dir", str(speaker.test_outputs)],
            machine_flags=chains.device(args),
            inputs=reads,
            weights=chains.voices(folder),
            outputs=speech_paths(texts, speaker.test_outputs, "patterns"),
            again=["--overwrite"],
        ),
        Stage(
            name="speak",
            script="tools/speak_conditions.py",
            flags=[*speech, *asked],
            machine_flags=chains.device(args),
            inputs=[*reads, *others, *_manifests(speaker)],
            weights=chains.voices(folder),
            outputs=[speaker.pattern_speech / name for name in condition_names(args, speaker)],
        ),
    ]


def _evaluation(args: Any, speaker: Speaker) -> Stage:
    """The report."""
    folders = {name: speaker.pattern_speech / name for name in condition_names(args, speaker)}
    return Stage(
        name="evaluate",
        script="tools/evaluate_patterns.py",
        flags=[
            *(f"{name}={folder}" for name, folder in folders.items()),
            *chains.recogniser(args),
            *("--output-dir", str(speaker.pattern_evaluation)),
        ],
        machine_flags=chains.device(args),
        inputs=list(folders.values()),
        outputs=[speaker.pattern_evaluation / PAGE],
        again=["--overwrite"],
        good_exits=(0, EXIT_WORSE),
    )


def _config(args: Any) -> PatternEveningConfig:
    return chains.settings(args, PatternEveningConfig)


def _manifests(speaker: Speaker) -> list[Path]:
    return [speaker.processed_v3 / name for name in (TRAIN_MANIFEST, VALIDATION_MANIFEST)]


def _given(flag: str, path: Path | None) -> list[str]:
    return [flag, str(path)] if path else []
