"""Sizes of the BigVGAN v2 vocoder, named as in its published config.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from ttscommon.config import from_dict
from ttscommon.errors import UserError


@dataclass(frozen=True, kw_only=True)
class BigVGANConfig:
    """The defaults are `nvidia/bigvgan_v2_22khz_80band_256x`, from its published configuration."""

    num_mels: int = field(default=80, metadata={"help": "mel bands"})
    upsample_rates: tuple[int, ...] = field(
        default=(4, 4, 2, 2, 2, 2), metadata={"help": "their product is the hop length"}
    )
    upsample_kernel_sizes: tuple[int, ...] = field(
        default=(8, 8, 4, 4, 4, 4), metadata={"help": "one for each rate"}
    )
    upsample_initial_channel: int = field(
        default=1536, metadata={"help": "channels at first; halved by each upsampling"}
    )
    resblock_kernel_sizes: tuple[int, ...] = field(
        default=(3, 7, 11), metadata={"help": "of the blocks whose mean is taken"}
    )
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = field(
        default=((1, 3, 5), (1, 3, 5), (1, 3, 5)), metadata={"help": "of each block's layers"}
    )
    use_tanh_at_final: bool = field(default=False, metadata={"help": "tanh instead of clipping"})
    use_bias_at_final: bool = field(default=False, metadata={"help": "bias in the last layer"})
    snake_logscale: bool = field(default=True, metadata={"help": "alpha and beta are logarithms"})

    def __post_init__(self) -> None:
        if len(self.upsample_rates) != len(self.upsample_kernel_sizes):
            raise UserError("BigVGAN: one upsample_kernel_size for each upsample_rate is needed")
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilation_sizes):
            raise UserError("BigVGAN: resblock_dilation_sizes for each kernel size are needed")

    @property
    def hop_length(self) -> int:
        """Samples made of each mel frame."""
        return prod(self.upsample_rates)

    @classmethod
    def tiny(cls) -> BigVGANConfig:
        """Eight samples a frame, a few thousand numbers: for tests."""
        return cls(
            num_mels=12,
            upsample_rates=(4, 2),
            upsample_kernel_sizes=(8, 4),
            upsample_initial_channel=16,
            resblock_kernel_sizes=(3, 7),
            resblock_dilation_sizes=((1, 3, 5), (1, 3, 5)),
        )

    @classmethod
    def from_official(cls, data: Mapping[str, Any]) -> BigVGANConfig:
        """Read the published config.json; what is in it for training only is passed over.

        Raises:
            UserError: if it describes a generator that isn't built here
        """
        for key, wanted in {"resblock": "1", "activation": "snakebeta"}.items():
            if str(data.get(key, wanted)) != wanted:
                raise UserError(f"BigVGAN: {key} is {data[key]}, but only {wanted} is known")
        known = {f.name for f in dataclasses.fields(cls)}
        chosen = {key: value for key, value in data.items() if key in known}
        if "resblock_dilation_sizes" in chosen:
            dilations = chosen["resblock_dilation_sizes"]
            chosen["resblock_dilation_sizes"] = tuple(tuple(row) for row in dilations)
        # Absent from configurations written before version 2; these were their values.
        older = {"use_tanh_at_final": True, "use_bias_at_final": True}
        return from_dict(cls, {**older, **chosen}, where="BigVGAN config.json")
