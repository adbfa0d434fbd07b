"""What can be set in IndexTTS2: the language model, the way it decodes, the way a text is spoken.

Field names are those of the official `config.yaml` and of the original's `infer(...)`, so that the
same thing has the same name everywhere.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ttscommon.config import from_dict, nearest
from ttscommon.errors import UserError

# In the official file, but without a choice: only these values exist as a released model.
FIXED = {
    "use_mel_codes_as_input": True,
    "train_solo_embeddings": False,
    "condition_type": "conformer_perceiver",
}
UNUSED = ("mel_length_compression",)


@dataclass(frozen=True, kw_only=True)
class ConditionConfig:
    """A conformer that reads reference features and the perceiver that sums them up."""

    output_size: int = field(metadata={"help": "width of the conformer"})
    linear_units: int = field(metadata={"help": "feed-forward width of the conformer"})
    attention_heads: int = field(metadata={"help": "heads of conformer and perceiver"})
    num_blocks: int = field(metadata={"help": "conformer layers"})
    perceiver_mult: int = field(default=2, metadata={"help": "feed-forward width of the perceiver"})
    input_layer: str = field(default="conv2d2", metadata={"help": "subsampling; one form exists"})

    def __post_init__(self) -> None:
        if self.output_size % self.attention_heads:
            raise UserError(
                f"output_size {self.output_size} must divide by attention_heads "
                f"({self.attention_heads})"
            )
        if self.input_layer != "conv2d2":
            raise UserError(f"input_layer must be conv2d2, got {self.input_layer}")


SPEAKER = ConditionConfig(output_size=512, linear_units=2048, attention_heads=8, num_blocks=6)
EMOTION = ConditionConfig(output_size=512, linear_units=1024, attention_heads=4, num_blocks=4)


@dataclass(frozen=True, kw_only=True)
class GptConfig:
    """Sizes of UnifiedVoice; defaults are the official version 2.0 (866 M parameters)."""

    model_dim: int = field(default=1280, metadata={"help": "width"})
    layers: int = field(default=24, metadata={"help": "transformer blocks"})
    heads: int = field(default=20, metadata={"help": "attention heads"})
    max_mel_tokens: int = field(default=1815, metadata={"help": "most codes of an utterance"})
    max_text_tokens: int = field(default=600, metadata={"help": "most text tokens"})
    number_text_tokens: int = field(default=12000, metadata={"help": "pieces of the tokenizer"})
    number_mel_codes: int = field(default=8194, metadata={"help": "codes, start and stop too"})
    start_mel_token: int = field(default=8192, metadata={"help": "id before the first code"})
    stop_mel_token: int = field(default=8193, metadata={"help": "id after the last code"})
    start_text_token: int = field(default=0, metadata={"help": "id before the text"})
    stop_text_token: int = field(default=1, metadata={"help": "id after the text"})
    condition_num_latent: int = field(default=32, metadata={"help": "vectors of a speaker"})
    cond_input_dim: int = field(default=1024, metadata={"help": "width of the features"})
    emo_latent_dim: int = field(default=1024, metadata={"help": "width of the emotion perceiver"})
    condition_module: ConditionConfig = field(default=SPEAKER, metadata={"help": "for the speaker"})
    emo_condition_module: ConditionConfig = field(
        default=EMOTION, metadata={"help": "for the emotion"}
    )
    dropout: float = field(default=0.1, metadata={"help": "in the transformer, while training"})

    def __post_init__(self) -> None:
        if self.model_dim % self.heads:
            raise UserError(f"model_dim {self.model_dim} must divide by heads ({self.heads})")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout must be in [0, 1), got {self.dropout}")
        highest = max(self.start_mel_token, self.stop_mel_token)
        if highest >= self.number_mel_codes:
            raise UserError(f"mel token {highest}, but only {self.number_mel_codes} mel codes")

    @classmethod
    def from_official(cls, section: Mapping[str, Any], *, where: str | None = None) -> GptConfig:
        """Read the `gpt` section of an official `config.yaml`.

        Raises:
            UserError: for an unknown key, or a value that no released 2.0 model has
        """
        section = dict(section)
        for key, value in FIXED.items():
            if (given := section.pop(key, value)) != value:
                raise UserError(f"{key}: {given} is not IndexTTS 2.0's {value}", where=where)
        for key in UNUSED:
            section.pop(key, None)
        return from_dict(cls, section, where=where)

    @classmethod
    def tiny(cls) -> GptConfig:
        """126 k parameters, for tests and miniature checkpoints."""
        return cls(
            model_dim=48,
            layers=2,
            heads=4,
            max_mel_tokens=40,
            max_text_tokens=30,
            number_text_tokens=50,
            number_mel_codes=42,
            start_mel_token=40,
            stop_mel_token=41,
            condition_num_latent=6,
            cond_input_dim=24,
            emo_latent_dim=40,
            condition_module=ConditionConfig(
                output_size=24, linear_units=40, attention_heads=3, num_blocks=2
            ),
            emo_condition_module=ConditionConfig(
                output_size=16, linear_units=32, attention_heads=2, num_blocks=2
            ),
        )


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """How codes are chosen; defaults are the original's."""

    do_sample: bool = field(default=True, metadata={"help": "draw, instead of taking the best"})
    temperature: float = field(default=0.8, metadata={"help": "below 1: closer to the best"})
    top_k: int = field(default=30, metadata={"help": "draw from so many codes; 0: from all"})
    top_p: float = field(
        default=0.8, metadata={"help": "draw from the likeliest codes that sum up to this"}
    )
    repetition_penalty: float = field(
        default=10.0, metadata={"help": "above 1: codes already used become less likely"}
    )
    num_beams: int = field(default=3, metadata={"help": "beams; 1 follows a single one"})
    length_penalty: float = field(
        default=0.0, metadata={"help": "exponent of the length a beam's score is divided by"}
    )
    max_mel_tokens: int = field(default=1500, metadata={"help": "most codes of a segment"})
    typical_sampling: bool = field(default=False, metadata={"help": "typical codes only"})
    typical_mass: float = field(default=0.9, metadata={"help": "their share of probability"})
    contiguous_positions: bool = field(
        default=False,
        metadata={"help": "number codes as the base was trained; the original skips position 1"},
    )

    def __post_init__(self) -> None:
        for name in ("temperature", "repetition_penalty", "length_penalty"):
            if not math.isfinite(value := getattr(self, name)):
                raise UserError(f"{name} must be a number, got {value}")
        if self.num_beams < 1 or self.max_mel_tokens < 1:
            raise UserError("num_beams and max_mel_tokens must be 1 or more")
        if self.temperature <= 0 or self.repetition_penalty <= 0:
            raise UserError("temperature and repetition_penalty must be above 0")
        if self.top_k < 0:
            raise UserError(f"top_k must be 0 or more, got {self.top_k}")
        if not 0 < self.top_p <= 1 or not 0 < self.typical_mass <= 1:
            raise UserError("top_p and typical_mass must be in (0, 1]")

    @classmethod
    def greedy(cls, **changes: Any) -> DecodingConfig:
        """The best code at every step, without chance."""
        return cls(**{"do_sample": False, "num_beams": 1, **changes})


@dataclass(frozen=True, kw_only=True)
class SpeechConfig:
    """How a text is cut, rendered and joined; defaults are the original's."""

    max_text_tokens_per_segment: int = field(
        default=120, metadata={"help": "longer texts are cut at sentences and spoken in segments"}
    )
    interval_silence: int = field(
        default=200, metadata={"help": "milliseconds of silence between segments"}
    )
    diffusion_steps: int = field(default=25, metadata={"help": "steps from noise to a mel"})
    cfg_rate: float = field(
        default=0.7, metadata={"help": "how far to exaggerate voice and content; 0 halves the work"}
    )
    duration_factor: float = field(
        default=1.0, metadata={"help": "0.5 speaks twice as fast, 2 twice as slowly"}
    )
    prompt_seconds: float | None = field(
        default=None,
        metadata={"help": "seconds of the reference that the mel goes on from; all, if unset"},
    )
    batch_size: int = field(
        default=4, metadata={"help": "segments spoken together; changes memory and speed only"}
    )

    def __post_init__(self) -> None:
        for name in ("max_text_tokens_per_segment", "diffusion_steps", "batch_size"):
            if (value := getattr(self, name)) < 1:
                raise UserError(f"{name} must be 1 or more, got {value}")
        if not 0 <= self.cfg_rate < 10:
            raise UserError(f"cfg_rate must be 0 or more, and below 10, got {self.cfg_rate}")
        if not 0.5 <= self.duration_factor <= 2:
            raise UserError(f"duration_factor must be from 0.5 to 2, got {self.duration_factor}")
        if self.prompt_seconds is not None and not self.prompt_seconds > 0:
            raise UserError(f"prompt_seconds must be above 0, got {self.prompt_seconds}")


def speech_settings(
    given: Mapping[str, Any], others: Collection[str] = ()
) -> tuple[SpeechConfig, DecodingConfig]:
    """Keyword arguments as the two configurations they belong to.

    Args:
        others: further arguments that exist, for guessing at misspelt ones

    Raises:
        UserError: for an unknown name, with the nearest known one, or a wrong value
    """
    parts = [{f.name for f in dataclasses.fields(cls)} for cls in (SpeechConfig, DecodingConfig)]
    for name in given:
        if not any(name in part for part in parts):
            known = sorted({*others}.union(*parts) - {name})
            guess = nearest(name, known)
            fix = f"did you mean '{guess}'?" if guess else f"known: {', '.join(known)}"
            raise UserError(f"there is no argument '{name}'", fix=fix)
    # The original's web page says None where it means no limit.
    plain = {k: 0 if k == "top_k" and v is None else v for k, v in given.items()}
    mine, theirs = ({k: v for k, v in plain.items() if k in part} for part in parts)
    return from_dict(SpeechConfig, mine), from_dict(DecodingConfig, theirs)
