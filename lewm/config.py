"""What can be set in LeWM-TTS: the network, the data, the two training stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ttscommon.errors import UserError

PRESETS = ("tiny", "small", "base")
# Digital silence sits at log 1e-7 = -16.1 and would rule an L1 over mels; below this
# value a log-mel holds only noise and silence.
LOG_MEL_FLOOR = -9.5
AT_LEAST_ONE = (
    *("epochs", "autoencoder_steps", "predictor_steps", "batch_size", "grad_accumulation"),
    *("crop_frames", "flow_draws", "evaluate_every", "save_every", "eval_texts", "replay_clips"),
)
# A zero here would leave tensors without any gradient.
ABOVE_ZERO = (
    *("autoencoder_learning_rate", "learning_rate", "speaker_learning_rate"),
    *("reconstruction_weight", "prediction_weight", "stop_weight"),
)
NOT_NEGATIVE = (
    *("batch_frames", "warmup_steps", "weight_decay", "clip_norm", "ema_decay", "kl_weight"),
    *("sigreg_weight", "spectral_weight", "guide_weight", "guide_share", "input_noise"),
    *("join_two", "join_three", "workers", "speaker_steps", "patience"),
)
# Settings of fine-tuning; where they are off, resume points don't speak of them.
FINE_TUNING = (
    *("speaker_steps", "speaker_learning_rate", "text_encoder", "patience"),
    *("replay_share", "replay_clips", "replay_texts"),
)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and forms of the network; a checkpoint carries it and can't be loaded with another.

    Defaults are the `base` preset: the sizes the guide gives (24 M parameters) with the latent
    cut to 32, because small latents proved easier to predict.
    """

    preset: str = field(default="base", metadata={"help": "name this config goes by"})
    width: int = field(default=256, metadata={"help": "width of text encoder and predictor"})
    ff_dim: int = field(default=1024, metadata={"help": "feed-forward width"})
    n_heads: int = field(default=4, metadata={"help": "attention heads"})
    n_text_layers: int = field(default=4, metadata={"help": "text encoder layers"})
    n_text_convs: int = field(default=2, metadata={"help": "residual convolutions before them"})
    n_predictor_layers: int = field(default=6, metadata={"help": "predictor layers"})
    latent_dim: int = field(default=32, metadata={"help": "numbers per latent frame"})
    encoder_dim: int = field(default=256, metadata={"help": "width of the audio encoder"})
    encoder_ff_dim: int = field(default=1024, metadata={"help": "its feed-forward width"})
    n_encoder_layers: int = field(default=4, metadata={"help": "audio encoder layers"})
    decoder_dim: int = field(default=512, metadata={"help": "channels of the mel decoder"})
    n_res_blocks: int = field(default=2, metadata={"help": "ResConvBlocks after each upsampling"})
    n_refine: int = field(default=1, metadata={"help": "refinement convolutions at the end"})
    downsample: Literal[2, 4] = field(default=4, metadata={"help": "mel frames per latent frame"})
    n_mels: int = field(default=100, metadata={"help": "mel bands"})
    head: Literal["mse", "flow"] = field(
        default="mse", metadata={"help": "predict the mean, or sample by flow matching"}
    )
    regularizer: Literal["kl", "sigreg"] = field(
        default="kl", metadata={"help": "what keeps the latents near a standard normal"}
    )
    text_form: Literal["bytes", "ipa", "mixed"] = field(
        default="bytes", metadata={"help": "read letters, phonemes (espeak-ng), or either"}
    )
    speakers: tuple[str, ...] = field(default=(), metadata={"help": "voices; a table from two on"})
    languages: tuple[str, ...] = field(default=(), metadata={"help": "a table from two on"})
    dropout: float = field(default=0.1, metadata={"help": "dropout in text encoder and predictor"})

    def __post_init__(self) -> None:
        if self.width % (2 * self.n_heads):
            raise UserError(f"width {self.width} must divide by twice n_heads ({self.n_heads})")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout must be in [0, 1), got {self.dropout}")

    @classmethod
    def base(cls) -> ModelConfig:
        """23.4 M parameters, the guide's sizes."""
        return cls()

    @classmethod
    def small(cls) -> ModelConfig:
        """7.6 M parameters: a voice that can be trained on a laptop overnight."""
        return cls(
            preset="small",
            ff_dim=768,
            n_text_layers=2,
            n_predictor_layers=4,
            encoder_dim=128,
            encoder_ff_dim=512,
            n_encoder_layers=2,
            decoder_dim=224,
            n_res_blocks=1,
        )

    @classmethod
    def tiny(cls) -> ModelConfig:
        """2.6 M parameters: trains in minutes on two CPU cores; used by the demo."""
        return cls(
            preset="tiny",
            width=128,
            ff_dim=256,
            n_text_layers=2,
            n_predictor_layers=4,
            encoder_dim=128,
            encoder_ff_dim=256,
            n_encoder_layers=2,
            decoder_dim=192,
            n_res_blocks=1,
            dropout=0.0,  # a fifth of its time on a CPU; the input noise regularises already
        )

    @classmethod
    def named(cls, preset: str) -> ModelConfig:
        """The preset of that name."""
        if preset not in PRESETS:
            raise UserError(f"no preset '{preset}'", fix=f"choose one of {', '.join(PRESETS)}")
        return {"tiny": cls.tiny, "small": cls.small, "base": cls.base}[preset]()


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """From recordings to features."""

    min_seconds: float = field(default=3.0, metadata={"help": "shortest clip cut from long audio"})
    max_seconds: float = field(default=12.0, metadata={"help": "longest clip that is kept"})
    language: str = field(default="en", metadata={"help": "language of the recordings"})
    whisper_model: str = field(
        default="base", metadata={"help": "Whisper name, .pt file or CTranslate2 folder"}
    )
    transcribe: Literal["auto", "always", "never"] = field(
        default="auto", metadata={"help": "auto: transcribe what has no transcript"}
    )
    trim_db: float = field(default=-42.0, metadata={"help": "silence below this is trimmed"})
    loudness: float = field(default=-23.0, metadata={"help": "LUFS every clip is brought to"})
    clips_per_shard: int = field(default=256, metadata={"help": "clips in one feature file"})
    workers: int = field(default=2, metadata={"help": "processes"})

    def __post_init__(self) -> None:
        if not 0 < self.min_seconds < self.max_seconds:
            raise UserError(
                f"min_seconds {self.min_seconds} must be above 0 and below "
                f"max_seconds {self.max_seconds}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The two stages of one training run (or the guide's single graph with `joint`)."""

    epochs: int | None = field(
        default=None, metadata={"help": "passes over the clips in stage B; sets predictor_steps"}
    )
    autoencoder_steps: int = field(default=6000, metadata={"help": "stage A steps"})
    predictor_steps: int = field(default=20000, metadata={"help": "stage B (or joint) steps"})
    batch_size: int = field(default=16, metadata={"help": "clips per step in each stage"})
    batch_frames: int = field(
        default=0,
        metadata={"help": "padded mel frames a batch may hold; 0: batch_size rules alone"},
    )
    grad_accumulation: int = field(default=1, metadata={"help": "batches per optimizer step"})
    crop_frames: int = field(default=96, metadata={"help": "mel frames per crop in stage A"})
    autoencoder_learning_rate: float = field(default=2e-3, metadata={"help": "peak, stage A"})
    learning_rate: float = field(default=2e-3, metadata={"help": "peak, stage B or joint"})
    warmup_steps: int = field(default=60, metadata={"help": "linear warm-up of stage B"})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW weight decay"})
    clip_norm: float = field(default=1.0, metadata={"help": "gradient norm limit"})
    ema_decay: float = field(default=0.995, metadata={"help": "0 turns weight averaging off"})
    autoencoder: Literal["train", "decoder", "keep"] = field(
        default="train",
        metadata={"help": "stage A of fine-tuning: all, its decoder alone, or nothing"},
    )
    speaker_steps: int = field(
        default=0, metadata={"help": "steps of a new voice's row in the speaker table alone"}
    )
    speaker_learning_rate: float = field(default=1e-2, metadata={"help": "peak, that row alone"})
    text_encoder: Literal["train", "keep"] = field(
        default="train", metadata={"help": "in stage B; keep trains its speaker table alone"}
    )
    replay_share: float = field(
        default=0.0, metadata={"help": "share of stage B's batches in the base's own voices"}
    )
    replay_clips: int = field(
        default=240, metadata={"help": "sentences the base says for them, if no clips are given"}
    )
    replay_texts: str | None = field(
        default=None, metadata={"help": "file of these sentences (texts.txt of the base, or yours)"}
    )
    patience: int = field(
        default=0, metadata={"help": "evaluations without a better one that end stage B; 0: never"}
    )
    joint: bool = field(default=False, metadata={"help": "the guide's single graph, all losses"})
    kl_weight: float = field(default=5e-4, metadata={"help": "per dimension; ramped over 20 %%"})
    sigreg_weight: float = field(default=0.09, metadata={"help": "with regularizer sigreg"})
    spectral_weight: float = field(
        default=0.05, metadata={"help": "multi-resolution spectral loss (the guide: 0.5)"}
    )
    reconstruction_weight: float = field(default=1.0, metadata={"help": "L1 on the mel"})
    prediction_weight: float = field(default=1.0, metadata={"help": "next-latent prediction"})
    stop_weight: float = field(default=0.2, metadata={"help": "end-of-speech head"})
    guide_weight: float = field(default=2.0, metadata={"help": "guided attention at the start"})
    guide_share: float = field(
        default=0.35, metadata={"help": "share of the steps after which the guide is gone"}
    )
    input_noise: float = field(
        default=0.6, metadata={"help": "noise on the predictor's inputs, U(0, this) per clip"}
    )
    join_two: float = field(default=0.25, metadata={"help": "share of clips joined in twos"})
    join_three: float = field(default=0.20, metadata={"help": "share of clips joined in threes"})
    phoneme_share: float = field(
        default=0.5, metadata={"help": "rows read as phonemes, with text form mixed"}
    )
    flow_draws: int = field(default=4, metadata={"help": "noise draws per state, head flow"})
    evaluate_every: int = field(default=500, metadata={"help": "steps between evaluations"})
    save_every: int = field(default=200, metadata={"help": "steps between resume points"})
    eval_texts: int = field(default=8, metadata={"help": "held-out texts spoken at evaluation"})
    validation_share: float = field(default=0.05, metadata={"help": "recordings held out"})
    amp: Literal["no", "bf16"] = field(default="no", metadata={"help": "mixed precision"})
    compile: bool = field(
        default=False, metadata={"help": "torch.compile the losses; minutes before the first steps"}
    )
    cache_mels: Literal["auto", "device", "disk"] = field(
        default="auto", metadata={"help": "features on the GPU when they fit, else memory-mapped"}
    )
    workers: int = field(default=0, metadata={"help": "loader processes"})
    seed: int = field(default=0, metadata={"help": "names every random event of the run"})

    def __post_init__(self) -> None:
        for name in AT_LEAST_ONE:
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ABOVE_ZERO:
            if getattr(self, name) <= 0:
                raise UserError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise UserError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not 0 < self.validation_share < 1:
            raise UserError(f"validation_share must be in (0, 1), got {self.validation_share}")
        if self.ema_decay >= 1:
            raise UserError(f"ema_decay must be below 1, got {self.ema_decay}")
        if not 0 <= self.replay_share < 1:
            raise UserError(f"replay_share must be in [0, 1), got {self.replay_share}")
        if not 0 <= self.phoneme_share <= 1:
            raise UserError(f"phoneme_share must be in [0, 1], got {self.phoneme_share}")
        if self.joint and self.autoencoder != "train":
            raise UserError(f"joint trains the autoencoder; autoencoder is '{self.autoencoder}'")
        if self.replay_share and self.autoencoder == "train":
            raise UserError(
                "replay needs latents that keep their meaning, and so a frozen encoder",
                fix="--autoencoder decoder, or --replay-share 0",
            )
        if self.join_two + self.join_three > 1:
            raise UserError("join_two and join_three must not sum to more than 1")
        if self.cache_mels == "device" and self.workers:
            raise UserError(
                "loader processes can't read features on the GPU",
                fix="--workers 0, or --cache-mels disk",
            )

    @classmethod
    def fine_tuning(cls) -> TrainConfig:
        """From a voice of many speakers to a new one in minutes, with its words kept.

        The encoder stays frozen, so that latents keep their meaning. The decoder learns the new
        timbre, then the speaker table its place among the voices, then text encoder and predictor
        the rest, among the base's own voices and with guided attention, without which it loses its
        place in the text. Steps are for about 130 s of speech and five CPU-minutes with the
        embedded voice; see docs/lewm.md.
        """
        return cls(
            autoencoder="decoder",
            autoencoder_steps=300,
            autoencoder_learning_rate=5e-4,
            speaker_steps=50,
            predictor_steps=250,
            learning_rate=6e-4,
            warmup_steps=20,
            text_encoder="train",
            replay_share=0.5,
            batch_size=8,
            guide_weight=1.0,
            guide_share=4.0,
            evaluate_every=125,
            eval_texts=4,
            validation_share=0.1,
        )


def speaks(training: Mapping[str, Any], step: int) -> bool:
    """Whether a checkpoint's predictor was trained: one step of it comes with a mere autoencoder.

    Args:
        training: the settings that the checkpoint keeps
        step: optimizer steps behind it
    """
    return training.get("stage") != "autoencoder" and step > 1
