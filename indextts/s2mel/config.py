"""Sizes of the networks between semantic codes and mel, and how the official files name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ttscommon.config import from_dict
from ttscommon.errors import UserError

# What the official config could ask for and nobody has published weights of.
_ONLY: dict[str, dict[str, Any]] = {
    "DiT": {
        "style_condition": True,
        "final_layer_type": "wavenet",
        "long_skip_connection": True,
        "uvit_skip_connection": True,
        "is_causal": False,
        "f0_condition": False,
        "time_as_token": False,
        "style_as_token": False,
        "zero_prompt_speech_token": False,
        "add_resblock_in_transformer": False,
    },
    "length_regulator": {
        "is_discrete": False,
        "vector_quantize": False,
        "f0_condition": False,
        "sampling_ratios": [1, 1, 1, 1],
    },
    "wavenet": {"style_condition": True},
}


@dataclass(frozen=True, kw_only=True)
class MelConfig:
    """How a mel is computed; the defaults are those of the official checkpoint."""

    sample_rate: int = field(default=22_050, metadata={"help": "Hz"})
    n_fft: int = field(default=1024, metadata={"help": "samples of a window"})
    hop_length: int = field(default=256, metadata={"help": "samples between frames"})
    n_mels: int = field(default=80, metadata={"help": "mel bands"})
    f_min: float = field(default=0.0, metadata={"help": "lowest frequency in Hz"})
    f_max: float | None = field(default=None, metadata={"help": "highest; half the rate if unset"})

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length


@dataclass(frozen=True, kw_only=True)
class LengthRegulatorConfig:
    """From semantic features at 50 Hz to conditions at the mel's frame rate."""

    channels: int = field(default=512, metadata={"help": "width of the conditions"})
    in_channels: int = field(default=1024, metadata={"help": "width of the semantic features"})
    content_codebook_size: int = field(default=2048, metadata={"help": "rows of an unused table"})


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """The diffusion transformer with its WaveNet head that estimates the flow's velocity."""

    hidden_dim: int = field(default=512, metadata={"help": "width of transformer and WaveNet"})
    n_heads: int = field(default=8, metadata={"help": "attention heads"})
    depth: int = field(default=13, metadata={"help": "transformer layers"})
    n_mels: int = field(default=80, metadata={"help": "mel bands"})
    content_dim: int = field(default=512, metadata={"help": "width of the conditions"})
    content_codebook_size: int = field(default=1024, metadata={"help": "rows of an unused table"})
    style_dim: int = field(default=192, metadata={"help": "width of the speaker vector"})
    n_wavenet_layers: int = field(default=8, metadata={"help": "WaveNet layers"})
    wavenet_kernel_size: int = field(default=5, metadata={"help": "frames each of them sees"})
    wavenet_dilation_rate: int = field(
        default=1, metadata={"help": "dilation of layer i is rate^i"}
    )
    wavenet_dropout: float = field(default=0.2, metadata={"help": "dropout in training"})

    def __post_init__(self) -> None:
        if self.hidden_dim % (2 * self.n_heads):
            raise UserError(f"hidden_dim {self.hidden_dim} must divide by 2 x {self.n_heads} heads")


@dataclass(frozen=True, kw_only=True)
class S2MelConfig:
    """Everything in s2mel.pth; the defaults are the official checkpoint's."""

    mel: MelConfig = field(default_factory=MelConfig)
    length_regulator: LengthRegulatorConfig = field(default_factory=LengthRegulatorConfig)
    dit: DiTConfig = field(default_factory=DiTConfig)
    gpt_layer_dims: tuple[int, ...] = field(
        default=(1280, 256, 128, 1024), metadata={"help": "from the GPT's width to the codec's"}
    )

    def __post_init__(self) -> None:
        pairs = {
            "mel bands": (self.mel.n_mels, self.dit.n_mels),
            "condition width": (self.length_regulator.channels, self.dit.content_dim),
            "semantic width": (self.gpt_layer_dims[-1], self.length_regulator.in_channels),
        }
        for name, (one, other) in pairs.items():
            if one != other:
                raise UserError(f"the parts of s2mel disagree on the {name}: {one} and {other}")

    @classmethod
    def tiny(cls) -> S2MelConfig:
        """Every part in miniature, for tests; fits `GptConfig.tiny()`."""
        return cls(
            mel=MelConfig(n_mels=12),
            length_regulator=LengthRegulatorConfig(
                channels=20, in_channels=24, content_codebook_size=8
            ),
            dit=DiTConfig(
                hidden_dim=32,
                n_heads=4,
                depth=5,
                n_mels=12,
                content_dim=20,
                content_codebook_size=8,
                style_dim=10,
                n_wavenet_layers=3,
            ),
            gpt_layer_dims=(48, 12, 10, 24),
        )

    @classmethod
    def from_official(
        cls, section: Mapping[str, Any], gpt_layer_dims: tuple[int, ...] | None = None
    ) -> S2MelConfig:
        """Read the `s2mel` section of the official config.yaml.

        Args:
            gpt_layer_dims: not in that file; the official ones by default

        Raises:
            UserError: if it asks for a network that isn't built here, or lacks a setting
        """
        try:
            _refuse_other_networks(section)
            return _official_s2mel(section, gpt_layer_dims or cls().gpt_layer_dims)
        except (KeyError, TypeError) as error:
            raise UserError(f"the s2mel configuration is incomplete: {error}") from error


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """The semantic codec (MaskGCT's RepCodec); named as in the official config.yaml."""

    codebook_size: int = field(default=8192, metadata={"help": "semantic codes"})
    hidden_size: int = field(default=1024, metadata={"help": "width of the semantic features"})
    codebook_dim: int = field(default=8, metadata={"help": "width in which codes are compared"})
    vocos_dim: int = field(default=384, metadata={"help": "width of the convolutional backbone"})
    vocos_intermediate_dim: int = field(default=2048, metadata={"help": "its feed-forward width"})
    vocos_num_layers: int = field(default=12, metadata={"help": "its layers"})

    @classmethod
    def tiny(cls) -> CodecConfig:
        """Fits `S2MelConfig.tiny()`."""
        return cls(
            codebook_size=40,
            hidden_size=24,
            vocos_dim=16,
            vocos_intermediate_dim=24,
            vocos_num_layers=2,
        )

    @classmethod
    def from_official(cls, section: Mapping[str, Any]) -> CodecConfig:
        """Read the `semantic_codec` section of the official config.yaml."""
        return from_dict(cls, section, where="semantic_codec")


@dataclass(frozen=True, kw_only=True)
class CampplusConfig:
    """The speaker encoder; no official file states these numbers."""

    n_mels: int = field(default=80, metadata={"help": "bands of the filter bank"})
    embedding_size: int = field(default=192, metadata={"help": "width of the speaker vector"})
    growth_rate: int = field(default=32, metadata={"help": "channels each dense layer adds"})
    bottleneck_size: int = field(default=4, metadata={"help": "bottleneck, in growth rates"})
    init_channels: int = field(default=128, metadata={"help": "channels before the dense layers"})

    @classmethod
    def tiny(cls) -> CampplusConfig:
        """Fits `S2MelConfig.tiny()`."""
        return cls(embedding_size=10, growth_rate=4, bottleneck_size=2, init_channels=16)


def _refuse_other_networks(section: Mapping[str, Any]) -> None:
    if section["dit_type"] != "DiT":
        raise UserError(f"s2mel.dit_type is {section['dit_type']}, but only DiT is known")
    for part, settings in _ONLY.items():
        for key, wanted in settings.items():
            if section[part].get(key, wanted) != wanted:
                raise UserError(
                    f"s2mel.{part}.{key} is {section[part][key]}, but only {wanted} is known"
                )
    if section["wavenet"]["hidden_dim"] != section["DiT"]["hidden_dim"]:
        raise UserError("s2mel.wavenet.hidden_dim and s2mel.DiT.hidden_dim must be equal")


def _official_s2mel(section: Mapping[str, Any], gpt_layer_dims: tuple[int, ...]) -> S2MelConfig:
    audio, dit, wavenet = section["preprocess_params"], section["DiT"], section["wavenet"]
    mel, regulator = audio["spect_params"], section["length_regulator"]
    if mel["win_length"] != mel["n_fft"]:
        raise UserError("s2mel: win_length and n_fft must be equal")
    return S2MelConfig(
        mel=MelConfig(
            sample_rate=audio["sr"],
            n_fft=mel["n_fft"],
            hop_length=mel["hop_length"],
            n_mels=mel["n_mels"],
            f_min=float(mel["fmin"]),
            # As the original reads it: the text "None", or else 8 kHz whatever stands there.
            f_max=None if mel["fmax"] in ("None", None) else 8000.0,
        ),
        length_regulator=LengthRegulatorConfig(
            channels=regulator["channels"],
            in_channels=regulator["in_channels"],
            content_codebook_size=regulator["content_codebook_size"],
        ),
        dit=DiTConfig(
            hidden_dim=dit["hidden_dim"],
            n_heads=dit["num_heads"],
            depth=dit["depth"],
            n_mels=dit["in_channels"],
            content_dim=dit["content_dim"],
            content_codebook_size=dit["content_codebook_size"],
            style_dim=section["style_encoder"]["dim"],
            n_wavenet_layers=wavenet["num_layers"],
            wavenet_kernel_size=wavenet["kernel_size"],
            wavenet_dilation_rate=wavenet["dilation_rate"],
            wavenet_dropout=wavenet["p_dropout"],
        ),
        gpt_layer_dims=gpt_layer_dims,
    )
