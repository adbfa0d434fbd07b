"""The stages from recordings to a tuned voice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from indextts import chains
from indextts.checkpoint import CheckpointFolder
from indextts.clips import TRAIN_MANIFEST, VALIDATION_MANIFEST
from indextts.train_config import LoraTrainConfig
from indextts.tuned import adapters
from ttscommon.evaluation import EXIT_WORSE
from ttscommon.stages import Stage
from ttscommon.train_settings import default
from ttscommon.workspace import Speaker, speaker_flags

NAMES = ("segment", "transcribe", "validate", "prepare", "train", "embeddings", "compare")
OPTIONAL = ("segment", "transcribe", "validate", "compare")
TRAINING = ("epochs", "max_steps", "batch_size", "grad_accumulation", "learning_rate", "patience",
            "seed")  # fmt: skip
LORA = ("lora_rank", "lora_alpha")


@dataclass(frozen=True, kw_only=True)
class EveningConfig(LoraTrainConfig):
    """For some 40 recordings, one GPU and one evening: an epoch of 40 clips has ten steps then."""

    batch_size: int = default("batch_size", 4)
    grad_accumulation: int = default("grad_accumulation", 1)
    patience: int = default("patience", 5)


def chain(args: Any, speaker: Speaker) -> list[Stage]:
    """The stages with their commands, and what each of them reads and leaves."""
    folder = CheckpointFolder.open(args.model_dir)
    flags = [*speaker_flags([speaker]), *chains.model_dir(args)]
    return [
        *chains.data_stages(args, speaker),
        *_training_stages(args, speaker, folder, flags),
        chains.embeddings_stage(args, speaker, folder),
        _comparison_stage(args, speaker, folder, flags),
    ]


def _training_stages(
    args: Any, speaker: Speaker, folder: CheckpointFolder, flags: list[str]
) -> list[Stage]:
    """From clips with texts to an adapter."""
    base = chains.base(folder)
    manifests = [speaker.processed / name for name in (TRAIN_MANIFEST, VALIDATION_MANIFEST)]
    clips = [chains.sounds(args, speaker), speaker.clips_manifest, *chains.texts_of(speaker)]
    return [
        Stage(
            name="prepare",
            script="tools/prepare_lora_dataset.py",
            flags=flags,
            machine_flags=chains.device(args),
            inputs=[*clips, *base],
            weights=chains.features(folder),
            outputs=manifests,
        ),
        Stage(
            name="train",
            script="tools/train_gpt_lora.py",
            flags=[*flags, *_training(args)],
            machine_flags=chains.device(args),
            inputs=[*manifests, *base],
            outputs=[speaker.lora.final_checkpoint],
            again=["--overwrite"],
            own=[speaker.lora.final_checkpoint],
        ),
    ]


def _comparison_stage(
    args: Any, speaker: Speaker, folder: CheckpointFolder, flags: list[str]
) -> Stage:
    """What was trained beside the base."""
    manifests = [speaker.processed / name for name in (TRAIN_MANIFEST, VALIDATION_MANIFEST)]
    patterns = speaker.pattern_training
    trained = [*adapters(speaker), patterns.best_checkpoint, patterns.final_checkpoint,
               speaker.speaker_embeddings]  # fmt: skip
    return Stage(
        name="compare",
        script="tools/compare_models.py",
        flags=[*flags, *chains.recogniser(args), *_comparison(args)],
        machine_flags=chains.device(args),
        inputs=[*trained, *manifests, *chains.base(folder)],
        weights=chains.voices(folder),
        outputs=[speaker.comparison],
        good_exits=(0, EXIT_WORSE),
    )


def _training(args: Any) -> list[str]:
    config = chains.settings(args, EveningConfig)
    return chains.flags_for({name: getattr(config, name) for name in (*TRAINING, *LORA, "amp")})


def _comparison(args: Any) -> list[str]:
    speech = ["--diffusion-steps", str(args.diffusion_steps), "--num-beams", str(args.num_beams)]
    if args.test_texts:
        return [*speech, *(word for text in args.test_texts for word in ("--text", text))]
    return [*speech, "--n-texts", str(args.n_texts)]
