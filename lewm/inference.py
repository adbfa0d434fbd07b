"""One text or one recording at a time, in the guide's three modes.

`synthesize` speaks a text from nothing but the text, `reconstruct` encodes a recording and decodes
it again (the ceiling that the autoencoder sets), and `predict` lets the predictor say each latent
of a recording from the true ones before it (what is lost between text and latents, without drift).
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lewm.decoding import Row, encode_texts
from lewm.generation import Generation, Request, row_for
from lewm.inference_engine import Engine, Speech
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.mel import MelRecipe, log_mel

MEL_SUFFIXES = (".pt", ".npy", ".safetensors")


def synthesize(engine: Engine, request: Request) -> Speech:
    """Speak a text of any length."""
    return engine.synthesize([request])[0]


@torch.inference_mode()
def reconstruct(engine: Engine, mel: Tensor) -> Speech:
    """Encode a log-mel (M, T) and decode it again, without the predictor."""
    return _render(engine, _encode(engine, mel), n_frames=mel.shape[1])


@torch.inference_mode()
def predict(engine: Engine, mel: Tensor, request: Request) -> Speech:
    """Teacher-forced prediction of a recording's log-mel (M, T), whose words are in `request`."""
    latents = _encode(engine, mel)  # (T', C)
    plain = replace(request, prompt_audio=None, prompt_text=None)
    settings = replace(engine.settings, max_frames=len(latents))
    row = row_for(engine.model, engine.info, plain, settings)
    return _render(engine, _predicted(engine, latents, row), n_frames=mel.shape[1])


def words_beside(path: Path) -> str:
    """What is said in a recording or mel, from the `.txt` file of the same name.

    Raises:
        UserError: if there is none
    """
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        raise UserError(
            "the predictor needs the words of the recording",
            where=path,
            fix=f"give --text 'the words', or write them into {beside.name} beside it",
        )
    return beside.read_text(encoding="utf-8")


def load_mel(path: Path, recipe: MelRecipe) -> Tensor:
    """A log-mel (M, T) from a `.pt`, `.npy` or `.safetensors` file, or made from a recording.

    Raises:
        UserError: if the file is missing or broken, holds anything but one finite mel of the
            recipe's bands, or a recording is too short
    """
    suffix = path.suffix.lower()
    if suffix in audio.AUDIO_SUFFIXES:
        samples = torch.from_numpy(audio.load(path, recipe.sample_rate))
        if len(samples) <= recipe.n_fft:
            raise UserError("the recording is too short", where=path)
        return log_mel(samples, recipe)
    if suffix not in MEL_SUFFIXES:
        known = ", ".join((*MEL_SUFFIXES, *audio.AUDIO_SUFFIXES))
        raise UserError(
            f"don't know how to read '{suffix}'", where=path, fix=f"give one of {known}"
        )
    mel = _read_tensor(path).float().squeeze()
    if mel.ndim != 2 or mel.shape[0] != recipe.n_mels or not mel.shape[1]:
        found = " x ".join(str(n) for n in mel.shape)
        raise UserError(f"expected a mel of {recipe.n_mels} x T, found {found}", where=path)
    if not mel.isfinite().all():
        raise UserError("the mel holds NaN or infinite values", where=path)
    return mel


def _read_tensor(path: Path) -> Tensor:
    if not path.is_file():
        raise UserError("no such mel file", where=path)
    try:
        if path.suffix.lower() == ".npy":
            return torch.from_numpy(np.load(path, allow_pickle=False))
        if path.suffix.lower() == ".safetensors":
            return _only_tensor(load_file(path), path)
        return _only_tensor(torch.load(path, map_location="cpu", weights_only=True), path)
    except pickle.UnpicklingError as error:
        raise UserError(
            "refused: damaged, or more than tensors inside, which could run code",
            where=path,
            fix="save the mel alone: torch.save(mel, path)",
        ) from error
    except (ValueError, TypeError, EOFError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or "the file is empty").splitlines()[0]
        raise UserError(f"cannot read the mel: {reason}", where=path) from error


def _only_tensor(data: object, path: Path) -> Tensor:
    """The one tensor in a file, alone or in a mapping, where it may be called "mel"."""
    if isinstance(data, Tensor):
        return data
    tensors = {}
    if isinstance(data, dict):
        tensors = {key: value for key, value in data.items() if isinstance(value, Tensor)}
    if "mel" in tensors:
        return tensors["mel"]
    if len(tensors) != 1:
        raise UserError(f"expected one tensor or a 'mel', found {len(tensors)}", where=path)
    return next(iter(tensors.values()))


def _encode(engine: Engine, mel: Tensor) -> Tensor:
    """(M, T) log-mel -> (T', C) standardised latents."""
    batch = mel[None].to(engine.device)
    return engine.model.encode(batch, torch.ones_like(batch[:, 0], dtype=torch.bool))[0]


def _predicted(engine: Engine, latents: Tensor, row: Row) -> Tensor:
    """(T', C) each latent said from the true ones before it."""
    model = engine.model
    encoded, mask = encode_texts(model, [row], len(row.ids))
    hidden = model.predictor(latents[None].to(encoded.dtype), encoded, mask).hidden[0]  # (T', D)
    noise = None if row.noise is None else row.noise.to(hidden)
    return model.predictor.head.sample(hidden, noise, engine.settings.temperature).float()


def _render(engine: Engine, latents: Tensor, n_frames: int) -> Speech:
    before = dict(engine.seconds)
    ((mel, wave),) = engine.render([latents])
    return Speech(
        audio=wave[: (n_frames - 1) * engine.recipe.hop_length],
        sample_rate=engine.recipe.sample_rate,
        log_mel=mel[:, :n_frames].cpu(),
        ran_away=False,
        seconds={stage: engine.seconds[stage] - before[stage] for stage in before},
        parts=[Generation(latents, ran_away=False)],
    )


if __name__ == "__main__":
    from ttscommon.cli import run_tool

    run_tool("lewm_infer")
