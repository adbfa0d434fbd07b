"""NeMo's own layers with the weights of a codec here, to compare with where NeMo is installed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kani.codec import NanoCodec
from kani.codec_weights import unfold


class NemoCodec(nn.Module):
    """The graph of NanoCodec in NeMo's classes (nemo-toolkit[tts] 3.0.0), on the CPU.

    Raises:
        ImportError: without NeMo
    """

    def __init__(self, codec: NanoCodec):
        super().__init__()
        from nemo.collections.tts.modules import audio_codec_modules as nemo  # type: ignore[import]

        config = codec.config
        self.audio_encoder: Any = nemo.HiFiGANEncoder(
            down_sample_rates=list(config.down_rates),
            encoded_dim=config.latent_dim,
            base_channels=config.encoder_channels,
            activation="lrelu",
            pad_mode="replicate",
        )
        self.audio_decoder: Any = nemo.CausalHiFiGANDecoder(
            up_sample_rates=list(config.up_rates),
            input_dim=config.latent_dim,
            base_channels=config.decoder_channels,
            activation="half_snake",
            output_activation="clamp",
            pad_mode="zeros",
            n_groups_equal_to_out_channels=True,
        )
        self.vector_quantizer: Any = nemo.GroupFiniteScalarQuantizer(
            num_groups=config.n_codebooks, num_levels_per_group=list(config.levels)
        )
        self.load_state_dict(unfold(codec.state_dict()))
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def encode(self, sound: Tensor) -> Tensor:
        """Codes (B, K, T) of (B, T * samples_per_frame)."""
        sizes = torch.tensor([sound.shape[1]] * len(sound))
        latents, sizes = self.audio_encoder(audio=sound, audio_len=sizes)
        return self.vector_quantizer.encode(inputs=latents, input_len=sizes).movedim(0, 1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Sound (B, T * samples_per_frame) of (B, K, T)."""
        sizes = torch.tensor([codes.shape[-1]] * len(codes))
        indices = codes.movedim(1, 0).contiguous()
        latents = self.vector_quantizer.decode(indices=indices, input_len=sizes)
        sound, _ = self.audio_decoder(inputs=latents, input_len=sizes)
        return sound.view(len(codes), -1)
