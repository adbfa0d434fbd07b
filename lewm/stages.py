"""What is trained in each stage: networks and losses in one module per stage.

Stage A trains the autoencoder on crops. Stage B trains text encoder and predictor on the frozen
autoencoder's latents. The joint graph trains everything at once, as the guide has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lewm.config import TrainConfig
from lewm.dataset import CropBatch, SpeechBatch
from lewm.loss import (
    MultiResolutionSpectralLoss,
    guided_attention,
    kl_to_standard_normal,
    reconstruction_l1,
    sigreg,
    stop_loss,
)
from lewm.model import LeWMTTS, Prediction
from ttscommon.losses import Losses

# Stage A's regulariser grows over this share of the steps (the guide's KL annealing).
ANNEALING_SHARE = 0.2
# How fast the joint graph's latent statistics follow the moving encoder.
STATISTICS_MOMENTUM = 0.02


class Stage(nn.Module):
    """What is trained: `parts` makes the losses of a batch, `forward` weighs them.

    Args:
        trained: networks of the model, or parts of one by their dotted name; the rest is frozen
    """

    def __init__(self, model: LeWMTTS, config: TrainConfig, trained: Sequence[str]):
        super().__init__()
        self.model, self.config, self.trained = model, config, tuple(trained)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(tuple(f"{part}." for part in trained)))

    @property
    def plan(self) -> str:
        """Which networks are trained and which are frozen, in a line."""
        frozen = [name for name, _ in self.model.named_children() if name not in self.trained]
        return f"trains {', '.join(self.trained)}; frozen: {', '.join(frozen) or 'nothing'}"

    def train(self, mode: bool = True) -> Stage:
        """Dropout is for the networks that are trained as a whole."""
        super().train(mode)
        for name, network in self.model.named_children():
            if name not in self.trained:
                network.eval()
        return self

    def parts(self, batch: Any, is_guided: bool) -> dict[str, Tensor]:
        """Each loss by name; the guide's only if `is_guided`."""
        raise NotImplementedError

    def forward(self, batch: Any, progress: float) -> Losses:
        """The batch's losses at this share of the steps."""
        parts = self.parts(batch, guide_weight(self.config, progress) > 0)
        return weighed(parts, self.config, progress)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile `parts` alone: with `progress` inside, every step would be compiled anew."""
        self.parts = torch.compile(self.parts, *args, **kwargs)


class AutoencoderStage(Stage):
    """Audio encoder and mel decoder: regulariser + L1 + spectral loss on crops.

    With `autoencoder="decoder"` the encoder is frozen and nothing needs regularising.
    """

    def __init__(self, model: LeWMTTS, config: TrainConfig):
        self.is_encoder_frozen = config.autoencoder == "decoder"
        encoder = () if self.is_encoder_frozen else ("audio_encoder",)
        super().__init__(model, config, (*encoder, "mel_decoder"))
        self.spectral = MultiResolutionSpectralLoss()

    def parts(self, batch: CropBatch, is_guided: bool) -> dict[str, Tensor]:  # noqa: ARG002
        """batch.log_mel: (B, M, T)"""
        mel = self.model.normalise(batch.log_mel)
        mean, log_variance = self.model.audio_encoder(mel, batch.mask)
        latents = sampled(mean, log_variance)
        parts = autoencoder_losses(
            self.model, self.spectral, mel, batch.mask, mean, log_variance, latents
        )
        if self.is_encoder_frozen:
            return {name: parts[name] for name in ("reconstruction", "spectral")}
        return parts


class PredictorStage(Stage):
    """Text encoder and predictor: next-latent prediction + stop + guided attention.

    Inputs and targets are the frozen encoder's means, standardised per dimension; the inputs get
    noise, so that the predictor learns to recover from its own errors.
    """

    def __init__(self, model: LeWMTTS, config: TrainConfig):
        super().__init__(model, config, self.networks(model, config))

    def networks(self, model: LeWMTTS, config: TrainConfig) -> tuple[str, ...]:
        """What is trained."""
        whole = config.text_encoder == "train"
        return (*(("text_encoder",) if whole else _speaker_table(model)), "predictor")

    def parts(self, batch: SpeechBatch, is_guided: bool) -> dict[str, Tensor]:
        """batch.speech: (B, T, C) raw latents"""
        target = self.model.standardise(batch.speech)
        target = target.masked_fill(~batch.speech_mask[..., None], 0)
        return prediction_losses(
            self.model, self.config, batch, target, batch.speech_mask, is_guided
        )


class SpeakerStage(PredictorStage):
    """The same losses move the speaker table alone: where among its voices the base puts a new one.

    Rows of voices that aren't in the batches get no gradient and stay as they are.
    """

    def networks(self, model: LeWMTTS, config: TrainConfig) -> tuple[str, ...]:  # noqa: ARG002
        return _speaker_table(model)


class JointStage(Stage):
    """All four networks in one graph, with the guide's four losses and the stop and guide added.

    The prediction target is detached: without that the encoder shrinks its latents to make them
    predictable (measured in the reference: 3 of 32 dimensions stay alive).
    """

    def __init__(self, model: LeWMTTS, config: TrainConfig):
        super().__init__(model, config, [name for name, _ in model.named_children()])
        self.spectral = MultiResolutionSpectralLoss()

    def parts(self, batch: SpeechBatch, is_guided: bool) -> dict[str, Tensor]:
        """batch.speech: (B, T, M) log-mel frames"""
        model = self.model
        mel = model.normalise(batch.speech.transpose(1, 2))  # (B, M, T)
        mean, log_variance = model.audio_encoder(mel, batch.speech_mask)
        latents, mask = sampled(mean, log_variance), model.latent_mask(batch.speech_mask)
        if self.training:
            self._follow_statistics(mean.detach().float(), mask)
        parts = autoencoder_losses(
            model, self.spectral, mel, batch.speech_mask, mean, log_variance, latents
        )
        target = model.standardise(mean).masked_fill(~mask[..., None], 0)
        return parts | prediction_losses(model, self.config, batch, target, mask, is_guided)

    @torch.no_grad()
    def _follow_statistics(self, mean: Tensor, mask: Tensor) -> None:
        real = mean[mask]  # (n, C)
        sums = torch.stack([real.sum(0), real.square().sum(0), torch.full_like(real[0], len(real))])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)  # or the processes' models would drift apart
        average = sums[0] / sums[2]  # (C,)
        std = (sums[1] / sums[2] - average.square()).clamp(min=0).sqrt()
        model, momentum = self.model, STATISTICS_MOMENTUM
        model.set_latent_statistics(
            torch.lerp(model.latent_mean, average, momentum),
            torch.lerp(model.latent_std, std, momentum),
        )


def sampled(mean: Tensor, log_variance: Tensor) -> Tensor:
    """z = mean + eps exp(log_variance / 2): (B, T, C)"""
    return mean + torch.randn_like(mean) * (0.5 * log_variance).exp()


def autoencoder_losses(
    model: LeWMTTS,
    spectral: MultiResolutionSpectralLoss,
    mel: Tensor,
    mask: Tensor,
    mean: Tensor,
    log_variance: Tensor,
    latents: Tensor,
) -> dict[str, Tensor]:
    """Regulariser, L1 and spectral loss of one batch.

    Args:
        mel: (B, M, T) normalised; mask: (B, T)
        mean, log_variance, latents: (B, T', C)
    """
    latent_mask = model.latent_mask(mask)
    decoded = model.mel_decoder(latents, latent_mask)[..., : mel.shape[-1]]
    parts = {
        "reconstruction": reconstruction_l1(decoded, mel, mask),
        "spectral": spectral(decoded, mel, mask),
    }
    if model.config.regularizer == "sigreg":
        return parts | {"sigreg": sigreg(mean, latent_mask)}
    return parts | {"kl": kl_to_standard_normal(mean, log_variance, latent_mask)}


def prediction_losses(
    model: LeWMTTS,
    config: TrainConfig,
    batch: SpeechBatch,
    target: Tensor,
    mask: Tensor,
    is_guided: bool,
) -> dict[str, Tensor]:
    """Prediction, stop and, if asked for, guided-attention loss.

    Args:
        target: (B, T, C) standardised latents, zero on padding; the loss sees them detached
        mask: (B, T) bool
    """
    text = model.text_encoder(
        batch.text_ids, batch.text_mask, batch.speaker_ids, batch.language_ids
    )
    inputs = target
    if model.training and config.input_noise:
        sigma = torch.rand(len(target), 1, 1, device=target.device) * config.input_noise
        inputs = target + sigma * torch.randn_like(target)
    said: Prediction = model.predictor(inputs, text, batch.text_mask, need_attention=is_guided)
    head = model.predictor.head
    parts = {
        "prediction": head.loss(said.hidden, target.detach(), mask, n_draws=config.flow_draws),
        "stop": stop_loss(said.stop_logits, mask),
    }
    if is_guided and said.attention is not None:
        parts["guide"] = guided_attention(
            said.attention, batch.text_mask.sum(1), mask.sum(1), n_joined=batch.n_joined
        )
    return parts


def guide_weight(config: TrainConfig, progress: float) -> float:
    """Linear from `guide_weight` to 0 at `guide_share` of the steps: a warm-up, not a habit."""
    if not config.guide_share:
        return 0.0
    return config.guide_weight * max(0.0, 1 - progress / config.guide_share)


def weighed(parts: dict[str, Tensor], config: TrainConfig, progress: float) -> Losses:
    """Sum of the parts by their configured weights."""
    annealed = min(1.0, progress / ANNEALING_SHARE)
    weights = {
        "reconstruction": config.reconstruction_weight,
        "spectral": config.spectral_weight,
        "kl": config.kl_weight * annealed,
        "sigreg": config.sigreg_weight * annealed,
        "prediction": config.prediction_weight,
        "stop": config.stop_weight,
        "guide": guide_weight(config, progress),
    }
    total = torch.stack([weights[name] * part.float() for name, part in parts.items()]).sum()
    return Losses(total, parts)


def _speaker_table(model: LeWMTTS) -> tuple[str, ...]:
    """Its dotted name, where there is one."""
    return ("text_encoder.speakers",) if model.text_encoder.speakers is not None else ()
