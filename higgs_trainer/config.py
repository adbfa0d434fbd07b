"""What can be set, and how audio and text are written as tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ttscommon.errors import UserError


def setting(default: Any, words: str) -> Any:
    return field(default=default, metadata={"help": words})


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
    """Which audio is taken, and what is held out of it."""

    min_duration: float = setting(0.5, "leave out shorter audio, seconds")
    max_duration: float = setting(30.0, "leave out longer audio, seconds")
    validation_share: float = setting(0.1, "share of the recordings to measure with")
    seed: int = setting(42, "chooses the recordings that are held out")

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
class HiggsTrainConfig:
    """How adapters are trained."""

    epochs: int = setting(3, "passes over the clips")
    max_steps: int = setting(0, "most optimizer steps; 0: as the epochs say")
    batch_size: int = setting(1, "most clips in a batch")
    token_budget: int = setting(0, "most tokens in a batch, clips x longest; 0: no limit")
    grad_accumulation: int = setting(8, "batches of one optimizer step")
    learning_rate: float = setting(1e-4, "peak learning rate")
    weight_decay: float = setting(0.01, "AdamW's, on matrices")
    warmup_share: float = setting(0.05, "share of the steps in which the learning rate rises")
    final_share: float = setting(0.1, "of the learning rate, at the end of its half cosine")
    grad_clip: float = setting(1.0, "longest gradient; 0: any")
    text_loss_weight: float = setting(
        0.1, "of the text's cross-entropy; at 0 its head isn't trained"
    )
    audio_loss_weight: float = setting(1.0, "of the codes' cross-entropy, a mean over codebooks")
    codebook_weights: tuple[float, ...] = setting((), "one for each codebook; by default 1 each")
    reference_share: float = setting(
        0.7, "of a speaker's clips, how many are learned with another clip as the reference"
    )
    lora_rank: int = setting(16, "size of the adapters")
    lora_alpha: float = setting(32.0, "their strength; the update is scaled by alpha / rank")
    lora_dropout: float = setting(0.05, "of what goes into them, while training")
    lora_attention: bool = setting(True, "on the attention, which text and audio share")
    lora_audio_mlp: bool = setting(True, "on the feed-forward layers of audio")
    lora_text_mlp: bool = setting(False, "on the feed-forward layers of text")
    lora_heads: bool = setting(False, "on the heads")
    lora_target_modules: tuple[str, ...] = setting(
        (), 'instead of these: names of layers, such as "model.layers.*.self_attn.q_proj"'
    )
    gradient_checkpointing: bool = setting(
        True, "compute activations twice, for a fraction of their memory"
    )
    patience: int = setting(0, "evaluations without a better one before it ends; 0: any number")
    val_interval: int = setting(0, "steps between evaluations; 0: one an epoch")
    save_interval: int = setting(500, "steps between resume points")
    log_interval: int = setting(50, "steps between lines of progress")
    num_workers: int = setting(0, "processes that load clips")
    amp: Literal["no", "bf16"] = setting("no", "precision of the computations")
    seed: int = setting(1234, "names everything random")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "grad_accumulation", "lora_rank"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("save_interval", "log_interval"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("max_steps", "token_budget", "patience", "val_interval", "num_workers"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in ("warmup_share", "final_share", "lora_dropout"):
            self._require(name, 0 <= getattr(self, name) < 1, "from 0 to below 1")
        self._require("reference_share", 0 <= self.reference_share <= 1, "from 0 to 1")
        self._require("learning_rate", self.learning_rate > 0, "above 0")
        self._require("audio_loss_weight", self.audio_loss_weight > 0, "above 0")
        self._require("text_loss_weight", self.text_loss_weight >= 0, "0 or more")
        weights = self.codebook_weights
        self._require("codebook_weights", not weights or min(weights) > 0, "above 0 each")
        if not self.targets:
            raise UserError("no layer is adapted", fix="leave out --no-lora-attention or the like")

    def _require(self, name: str, is_so: bool, what: str) -> None:
        if not is_so:
            raise UserError(f"{name} must be {what}, got {getattr(self, name)}")

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
