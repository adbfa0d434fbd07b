"""Held-out scores of each stage, and the pictures and sounds that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lewm.alignment import measure_alignment
from lewm.dataset import MelTable, SpeechPlan
from lewm.generation import GenerationSettings, Request, generate
from lewm.model import LeWMTTS
from lewm.vocoder import load_vocoder
from lewm.weights import CheckpointInfo
from ttscommon.batching import BatchKey, move
from ttscommon.metrics import mel_dtw
from ttscommon.pages import LOG_MEL_FLOOR, LOG_MEL_TOP
from ttscommon.progress import Monitor

# A latent dimension is alive if its mean moves at least this much (variance over held-out frames).
ACTIVE_VARIANCE = 0.05
EARLY_STOP = 0.8  # of the recording's length: what is shorter broke off


@dataclass(frozen=True)
class HeldOut:
    """Clips that no stage trains on."""

    mels: MelTable
    items: Sequence[int]
    texts: Sequence[str]

    def log_mel(self, index: int) -> Tensor:
        """(M, T) of the index-th held-out clip."""
        return self.mels.frames(self.items[index]).T


def score_autoencoder(
    model: LeWMTTS, held_out: HeldOut, monitor: Monitor, step: int
) -> dict[str, float]:
    """Copy error and health of the latents.

    Returns:
        mel_l1: mean |copy - original| of log-mels normalised by the training set's std
        active_share: share of latent dimensions that carry something
        effective_rank: exp of the entropy of the latents' covariance spectrum
        latent_std_min: smallest standard deviation of a dimension
    """
    device = model.mel_mean.device
    errors, latents = [], []
    heard = chosen_to_hear(len(held_out.items))
    for index in range(len(held_out.items)):
        log_mel = held_out.log_mel(index)[None].to(device)  # (1, M, T)
        mask = torch.ones(1, log_mel.shape[-1], dtype=torch.bool, device=device)
        mel = model.normalise(log_mel)
        mean, _ = model.audio_encoder(mel, mask)
        copy = model.mel_decoder(mean)[..., : mel.shape[-1]]
        errors.append(float((copy - mel).abs().mean()))
        latents.append(mean[0].float().cpu())
        if index in heard and monitor.active:
            number, text = heard.index(index) + 1, held_out.texts[index]
            show(model, f"recording {number}", log_mel[0], text, monitor, step, is_fixed=True)
            show(model, f"copy {number}", model.denormalise(copy)[0], text, monitor, step)
    flat = torch.cat(latents)  # (n, C)
    variance = flat.var(0)
    return {
        "mel_l1": float(np.mean(errors)),
        "active_share": float((variance > ACTIVE_VARIANCE).float().mean()),
        "effective_rank": effective_rank(flat),
        "latent_std_min": float(variance.min().sqrt()),
    }


def effective_rank(x: Tensor) -> float:
    """exp(entropy of the covariance's normalised eigenvalues) of x (n, C), in 1..C.

    Roy and Vetterli 2007, "The effective rank".
    """
    spectrum = torch.linalg.svdvals(x - x.mean(0)).square()
    share = spectrum / spectrum.sum().clamp(min=1e-12)
    return float(torch.special.entr(share).sum().exp())


def teacher_forced_error(model: LeWMTTS, plan: SpeechPlan, device: torch.device) -> float:
    """Mean prediction loss of held-out clips with their own history; not what to select by."""
    errors, counts = [], []
    for key in plan.epoch(0):
        batch = move(plan.load(BatchKey(0, key.position, key.items)), device)
        target = model.standardise(batch.speech).masked_fill(~batch.speech_mask[..., None], 0)
        text = model.text_encoder(
            batch.text_ids, batch.text_mask, batch.speaker_ids, batch.language_ids
        )
        said = model.predictor(target, text, batch.text_mask)
        error = model.predictor.head.loss(said.hidden, target, batch.speech_mask)
        errors.append(float(error) * batch.n_targets)
        counts.append(batch.n_targets)
    return sum(errors) / sum(counts)


def score_generation(
    model: LeWMTTS,
    info: CheckpointInfo,
    requests: Sequence[Request],
    originals: Sequence[Tensor],
    monitor: Monitor,
    step: int,
) -> dict[str, float]:
    """Free-running synthesis of held-out texts against their recordings.

    Args:
        requests: the texts
        originals: their log-mels, (M, T) each

    Returns:
        mel_dtw: mean L1 of log-mels along the warping path; what checkpoints are selected by
        length_ratio: generated / recorded length
        runaways, early_stops: shares (early: shorter than EARLY_STOP of the recording)
        diagonality, monotonicity, coverage: of the text attention
        latent_std: standard deviation of generated standardised latents, 1 in recordings
    """
    spoken = generate(model, info, requests, GenerationSettings(keep_attention=True))
    mels = [model.decode(g.latents[None])[0].float().cpu() for g in spoken]
    ratios = np.array([m.shape[-1] / o.shape[-1] for m, o in zip(mels, originals, strict=True)])
    distances = [
        mel_dtw(mel.numpy(), original.cpu().numpy())
        for mel, original in zip(mels, originals, strict=True)
    ]
    alignments = [measure_alignment(g.attention) for g in spoken if g.attention is not None]
    for number, index in enumerate(chosen_to_hear(len(spoken)) if monitor.active else (), 1):
        text, attention = requests[index].text, spoken[index].attention
        show(model, f"recording {number}", originals[index], text, monitor, step, is_fixed=True)
        show(model, f"generated {number}", mels[index], text, monitor, step)
        if attention is not None:
            typical = float(attention.max(1).values.median())  # the sharpest would pale the rest
            picture = _array(attention.T)
            monitor.image(f"alignment/generated {number}", step, picture, low=0.0, high=typical)
    return {
        "mel_dtw": float(np.mean(distances)),
        "length_ratio": float(ratios.mean()),
        "runaways": float(np.mean([g.ran_away for g in spoken])),
        "early_stops": float((ratios < EARLY_STOP).mean()),
        "diagonality": float(np.mean([a.diagonality for a in alignments])),
        "monotonicity": float(np.mean([a.monotonicity for a in alignments])),
        "coverage": float(np.mean([a.coverage for a in alignments])),
        "latent_std": float(torch.cat([g.latents for g in spoken]).float().std()),
    }


def chosen_to_hear(n: int) -> list[int]:
    """Which of n held-out clips, sorted by length, are heard: a short and a middling one."""
    return sorted({0, n // 2}) if n else []


def show(
    model: LeWMTTS,
    name: str,
    mel: Tensor,
    text: str,
    monitor: Monitor,
    step: int,
    *,
    is_fixed: bool = False,
) -> None:
    """Let see and hear a log-mel (M, T); Griffin-Lim, so that recordings are no better off.

    Args:
        is_fixed: it is the same at every evaluation, and once is enough
    """
    if is_fixed and monitor.has(name):
        return
    mel = mel.detach().float().cpu()
    monitor.image(f"mel/{name}", step, mel.numpy(), low=LOG_MEL_FLOOR, high=LOG_MEL_TOP)
    vocoder = load_vocoder("griffinlim", model.recipe, "cpu")
    audio = vocoder.synthesize(mel[None])[0].numpy()
    monitor.audio(name, step, audio, model.recipe.sample_rate, text)


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
