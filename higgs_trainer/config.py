"""What can be set, and how audio and text are written as tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from higgs_trainer.text import TextConfig
from ttscommon.errors import UserError
from ttscommon.train_settings import LoraSettings, SampleSettings, TrainSettings, setting


@dataclass(frozen=True, kw_only=True)
class Streams:
    """The codebooks of a model.

    Attributes:
        n_codes: of each codebook; codes are below
        begin_id, end_id: of a stream; they follow the codes in embeddings and head
    """

    n_codebooks: int = 8
    n_codes: int = 1024
    begin_id: int = 1024
    end_id: int = 1025

    def __post_init__(self) -> None:
        if self.n_codebooks < 1 or {self.begin_id, self.end_id} != {self.n_codes, self.n_codes + 1}:
            raise UserError(f"these aren't the codebooks of a Higgs Audio model: {self}")

    @property
    def n_rows(self) -> int:
        """Of a codebook in embeddings and head."""
        return self.n_codes + 2

    def n_frames(self, n_steps: int) -> int:
        """Of a clip of so many codes."""
        return n_steps + self.n_codebooks + 1


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Which audio is taken, what is held out of it, and how its texts are written."""

    min_duration: float = setting(0.5, "leave out shorter audio, seconds")
    max_duration: float = setting(30.0, "leave out longer audio, seconds")
    validation_share: float = setting(0.1, "share of the recordings to measure with")
    seed: int = setting(42, "chooses the recordings that are held out")
    strict: bool = setting(False, "end if anything was found that is of no use")
    text: TextConfig = field(default_factory=TextConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.min_duration < self.max_duration:
            raise UserError(
                f"min_duration {self.min_duration:g} must be 0 or more, and below max_duration "
                f"{self.max_duration:g}",
                fix="--min-duration 0.5 --max-duration 30",
            )
        if not 0 < self.validation_share < 1:
            raise UserError(
                f"validation_share must be between 0 and 1, got {self.validation_share:g}"
            )


LAYERS = "re:model\\.layers\\.\\d+\\."
ATTENTION = LAYERS + "self_attn\\.(q|k|v|o)_proj"
AUDIO_MLP = LAYERS + "audio_mlp\\.(gate|up|down)_proj"
TEXT_MLP = LAYERS + "mlp\\.(gate|up|down)_proj"
AUDIO_HEAD, TEXT_HEAD = "audio_lm_head", "text_lm_head"


@dataclass(frozen=True, kw_only=True)
class HiggsTrainConfig(LoraSettings, SampleSettings, TrainSettings):
    """How adapters are trained."""

    text_loss_weight: float = setting(
        0.1, "of the text's cross-entropy; at 0 its head isn't trained"
    )
    audio_loss_weight: float = setting(1.0, "of the codes' cross-entropy, a mean over codebooks")
    codebook_weights: tuple[float, ...] = setting((), "one for each codebook; by default 1 each")
    reference_share: float = setting(
        0.7, "of a speaker's clips, how many are learned with another clip as the reference"
    )
    lora_attention: bool = setting(True, "on the attention, which text and audio share")
    lora_audio_mlp: bool = setting(True, "on the feed-forward layers of audio")
    lora_text_mlp: bool = setting(False, "on the feed-forward layers of text")
    lora_heads: bool = setting(False, "on the heads")
    lora_target_modules: tuple[str, ...] = setting(
        (), 'instead of these: names of layers, such as "model.layers.*.self_attn.q_proj"'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_adapters()
        self.require_samples()
        self.require("reference_share", 0 <= self.reference_share <= 1, "from 0 to 1")
        self.require("audio_loss_weight", self.audio_loss_weight > 0, "above 0")
        self.require("text_loss_weight", self.text_loss_weight >= 0, "0 or more")
        weights = self.codebook_weights
        self.require("codebook_weights", not weights or min(weights) > 0, "above 0 each")
        if not self.targets:
            raise UserError("no layer is adapted", fix="leave out --no-lora-attention or the like")

    @property
    def targets(self) -> tuple[str, ...]:
        """Patterns of the layers that are adapted."""
        if self.lora_target_modules:
            return self.lora_target_modules
        heads = (AUDIO_HEAD, TEXT_HEAD) if self.text_loss_weight else (AUDIO_HEAD,)
        chosen = [
            (self.lora_attention, (ATTENTION,)),
            (self.lora_audio_mlp, (AUDIO_MLP,)),
            (self.lora_text_mlp, (TEXT_MLP,)),
            (self.lora_heads, heads),
        ]
        return tuple(pattern for wanted, patterns in chosen if wanted for pattern in patterns)

    @classmethod
    def tiny(cls, **changes: Any) -> HiggsTrainConfig:
        """For tests and trials: a few steps."""
        small = {"lora_rank": 4, "lora_alpha": 8.0, "batch_size": 2, "grad_accumulation": 1}
        return cls(**{**small, "max_steps": 4, "save_interval": 2, "log_interval": 1, **changes})
