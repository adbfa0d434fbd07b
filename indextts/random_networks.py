"""All networks of IndexTTS2, read from a checkpoint or with random weights of full size.

Speed and memory depend on the sizes of a network and not on its weights, so random ones are as good
for measuring, and are there without any download.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from indextts import weights
from indextts.checkpoint import CheckpointFolder
from indextts.config import GptConfig
from indextts.frontend.w2v_bert import N_LAYERS, W2vBert
from indextts.gpt.model import UnifiedVoice
from indextts.s2mel.campplus import Campplus
from indextts.s2mel.codec import SemanticCodec
from indextts.s2mel.config import CampplusConfig, CodecConfig, S2MelConfig
from indextts.s2mel.model import S2Mel
from indextts.vocoder.bigvgan import BigVGAN
from indextts.vocoder.config import BigVGANConfig
from ttscommon.errors import UserError

Network = TypeVar("Network", bound=nn.Module)
LOUDNESS = 0.1  # root mean square of the sound
QUIET = -4.0  # log-mel
BLOCK = 1_000_003  # random numbers that are repeated; a prime, so that no two rows are the same
NEVER = -1e4  # logit of what isn't a code: every row then writes as many as are asked for


@dataclass(frozen=True)
class Sizes:
    """What the networks are built from; the defaults are those of the official checkpoint."""

    gpt: GptConfig = dataclasses.field(default_factory=GptConfig)
    s2mel: S2MelConfig = dataclasses.field(default_factory=S2MelConfig)
    codec: CodecConfig = dataclasses.field(default_factory=CodecConfig)
    campplus: CampplusConfig = dataclasses.field(default_factory=CampplusConfig)
    bigvgan: BigVGANConfig = dataclasses.field(default_factory=BigVGANConfig)
    w2v_bert: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def named(cls, preset: str) -> Sizes:
        """ "full", or "tiny" for trying the programs out."""
        if preset == "full":
            return cls()
        if preset != "tiny":
            raise UserError(f"no preset '{preset}'", fix="--preset full or --preset tiny")
        gpt = dataclasses.replace(GptConfig.tiny(), max_mel_tokens=1815, max_text_tokens=600)
        small = {"num_attention_heads": 2, "intermediate_size": 32, "conv_depthwise_kernel_size": 7}
        return cls(
            gpt=gpt,
            s2mel=S2MelConfig.tiny(),
            codec=CodecConfig.tiny(),
            campplus=CampplusConfig.tiny(),
            bigvgan=BigVGANConfig.tiny(),
            w2v_bert={"hidden_size": gpt.cond_input_dim, **small},
        )


@dataclass
class Networks:
    """What turns a recording and a text into speech.

    Attributes:
        features, campplus: read recordings only; None where a voice is stored
        codec: without its encoder, too, where a voice is stored
    """

    gpt: UnifiedVoice
    s2mel: S2Mel
    codec: SemanticCodec
    vocoder: BigVGAN
    features: W2vBert | None
    campplus: Campplus | None

    @property
    def device(self) -> torch.device:
        return self.gpt.mel_head.weight.device

    @classmethod
    def random(
        cls,
        sizes: Sizes,
        *,
        device: torch.device | str = "cpu",
        gpt_dtype: torch.dtype = torch.float32,
        seed: int = 0,
        reads_recordings: bool = True,
    ) -> Networks:
        """Random weights, the same for the same seed and kind of device."""

        def made(kind: Callable[[Any], Network], config: Any) -> Network:
            return random_network(lambda: kind(config), torch.device(device), seed)

        codec = made(SemanticCodec, sizes.codec)
        codec.decoder = None
        if not reads_recordings:
            codec.encoder = None
        return cls(
            gpt=_endless(made(UnifiedVoice, sizes.gpt).to(gpt_dtype)),
            s2mel=made(S2Mel, sizes.s2mel),
            codec=codec,
            vocoder=_random_vocoder(sizes.bigvgan, made),
            features=_random_w2v_bert(sizes, made) if reads_recordings else None,
            campplus=made(Campplus, sizes.campplus) if reads_recordings else None,
        )

    @classmethod
    def chosen(
        cls, folder: Path | None, preset: str, *, seed: int, device: torch.device, **dtypes: Any
    ) -> Networks:
        """Of a checkpoint, or random ones where there is none."""
        if folder is not None:
            return cls.load(CheckpointFolder.open(folder), device=device, **dtypes)
        return cls.random(Sizes.named(preset), seed=seed, device=device, **dtypes)

    @classmethod
    def load(
        cls,
        folder: CheckpointFolder,
        *,
        device: torch.device | str = "cpu",
        gpt_dtype: torch.dtype = torch.float32,
    ) -> Networks:
        """Those of a checkpoint; only its language model is kept from ending a text by itself.

        Raises:
            UserError: if a file is broken or of another version
        """
        config = folder.config
        codec = weights.load_codec(folder.semantic_codec, config.codec, device=device)
        codec.decoder = None
        return cls(
            gpt=_endless(weights.load_gpt(folder.gpt, config.gpt, dtype=gpt_dtype, device=device)),
            s2mel=weights.load_s2mel(folder.s2mel, config.s2mel, device=device),
            codec=codec,
            vocoder=weights.load_bigvgan(folder.bigvgan, device=device),
            features=W2vBert.from_folder(folder.w2v_bert, folder.w2v_stat, device=device),
            campplus=weights.load_campplus(folder.campplus, device=device),
        )

    def n_parameters(self) -> dict[str, int]:
        """Numbers in each network."""
        parts: dict[str, nn.Module | None] = {
            "gpt": self.gpt,
            "s2mel": self.s2mel,
            "codec": self.codec,
            "vocoder": self.vocoder,
            "w2v_bert": self.features.model if self.features else None,
            "campplus": self.campplus,
        }
        return {
            name: sum(p.numel() for p in part.parameters())
            for name, part in parts.items()
            if part is not None
        }


def random_network(make: Callable[[], Network], device: torch.device, seed: int) -> Network:
    """A network with random weights that keep signals at their size, in eval mode."""
    with torch.random.fork_rng(devices=[]), torch.device(device), _NoInitialisation():
        network = make()
    chance = torch.Generator().manual_seed(seed)
    block = torch.rand(BLOCK, generator=chance).sub(0.5).mul(12**0.5).to(device)  # of variance 1
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            _fill(name, parameter, block)
    return network.eval().requires_grad_(False)


def _fill(name: str, parameter: Tensor, block: Tensor) -> None:
    if parameter.dim() > 1:
        scaled = block / parameter[0].numel() ** 0.5  # of variance 1 / inputs
        for piece in parameter.view(-1).split(len(block)):
            piece.copy_(scaled[: len(piece)])
    else:
        is_scale = name.endswith("weight") or "gamma" in name
        parameter.fill_(1.0 if is_scale else 0.0)


def _random_vocoder(config: BigVGANConfig, made: Callable[[Callable, Any], Any]) -> BigVGAN:
    vocoder = made(BigVGAN, config)
    with torch.no_grad():
        last, mel = vocoder.conv_post.weight, vocoder.conv_post.weight.new_zeros(1)
        mel = mel.expand(1, config.num_mels, 2 * vocoder.context)
        last.mul_(1e-6)  # far from where the sound is clipped
        last.mul_(LOUDNESS / vocoder(mel + QUIET).std())
    return vocoder


class _NoInitialisation(TorchFunctionMode):
    """Leaves out the usual filling of new weights, which takes as long as ours."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def _endless(gpt: UnifiedVoice) -> UnifiedVoice:
    with torch.no_grad():
        gpt.mel_head.bias[[gpt.config.start_mel_token, gpt.config.stop_mel_token]] = NEVER
    return gpt


def _random_w2v_bert(sizes: Sizes, made: Callable[[Callable, Any], Any]) -> W2vBert:
    from transformers import (  # takes a moment to import
        SeamlessM4TFeatureExtractor,
        Wav2Vec2BertConfig,
        Wav2Vec2BertModel,
    )

    # transformers' own defaults are the sizes of facebook/w2v-bert-2.0.
    config = Wav2Vec2BertConfig(num_hidden_layers=N_LAYERS, **sizes.w2v_bert)
    width = config.hidden_size
    extractor = SeamlessM4TFeatureExtractor(padding_value=1)
    model = made(Wav2Vec2BertModel, config)
    return W2vBert(model, extractor, torch.zeros(width), torch.ones(width))
