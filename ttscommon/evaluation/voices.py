"""Whose voice is it? Speaker embeddings and how near two of them are.

Two encoders that know nothing of each other: GE2E (Wan et al. 2018, arXiv 1710.10467), whose
weights come inside the package Resemblyzer (Apache-2.0), and WavLM with an x-vector head, read by
transformers from a folder. Of Resemblyzer only the file of weights is read: its code imports a
voice detector that needs a compiler. Cosines of one encoder can't be compared with another's.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ttscommon.errors import UserError
from ttscommon.ledger import weights_key
from ttscommon.segment import Span, speech_spans

VOICE_RATE = 16_000
# GE2E's analysis: 40 mel bands of power, 25 ms windows every 10 ms, seen in stretches of 1.6 s.
N_FFT, HOP_LENGTH, N_MELS = 400, 160, 40
STRETCH, STRIDE, LEAST_FILLED = 160, 77, 0.75  # frames; share of the last stretch that is sound
HIDDEN_DIM, N_LAYERS = 256, 3
LEVEL_DB = -30.0  # quieter speech is raised to it
MARGIN = 0.1  # seconds kept around a stretch of speech
SHORTEST_SPEECH = 0.5  # seconds; less says nothing of a voice
GET_WEIGHTS = "make setup, or with pip: pip install --no-deps Resemblyzer==0.1.4"
BROKEN = (LookupError, EOFError, pickle.PickleError)  # raised by pickles that aren't whole
GET_WAVLM = "python tools/download_checkpoints.py wavlm --overwrite"
Embedding = NDArray[np.float32]


class SpeakerEncoder(Protocol):
    """Anything that turns speech into a point on the unit sphere, near others of the same voice.

    Its name stands for its weights, too: points of two encoders can't be compared.
    """

    @property
    def name(self) -> str: ...

    def embed(self, speech: NDArray[np.float32]) -> Embedding:
        """The voice in `speech` (S,) at 16 kHz: (D,) of length 1."""
        ...


def similarity(a: Embedding, b: Embedding) -> float:
    """The cosine of two embeddings of one encoder."""
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def mean_voice(embeddings: Sequence[Embedding]) -> Embedding:
    """The voice that several utterances have in common: their mean, of length 1.

    Raises:
        ValueError: if there are none
    """
    if not len(embeddings):
        raise ValueError("no utterances")
    mean = np.mean(embeddings, axis=0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)


def speech_only(
    audio: NDArray[np.float32], sample_rate: int, speech: Sequence[Span] | None = None
) -> NDArray[np.float32]:
    """`audio` (S,) without its long silences, at the same rate.

    Args:
        speech: where speech is, if that is known already

    Raises:
        ValueError: if less than half a second of speech is left
    """
    spans = speech_spans(audio, sample_rate) if speech is None else speech
    if sum(span.duration for span in spans) < SHORTEST_SPEECH:
        raise ValueError("less than half a second of speech")
    keep = np.zeros(len(audio), bool)
    for span in spans:
        first = max(0, round((span.start - MARGIN) * sample_rate))
        keep[first : round((span.end + MARGIN) * sample_rate)] = True
    return audio[keep]


class GE2E(nn.Module):
    """Three LSTM layers over mel frames; the last state is projected, rectified and normalised."""

    name = "ge2e"

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(N_MELS, HIDDEN_DIM, N_LAYERS, batch_first=True)
        self.linear = nn.Linear(HIDDEN_DIM, HIDDEN_DIM)

    def forward(self, mels: Tensor) -> Tensor:
        """(B, T, M) power mels -> (B, D) of length 1."""
        _, (hidden, _) = self.lstm(mels)
        return nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)

    @torch.inference_mode()
    def embed(self, speech: NDArray[np.float32]) -> Embedding:
        """The mean over overlapping stretches of 1.6 s: (D,) of length 1.

        Args:
            speech: (S,) at 16 kHz, without long silences (`speech_only`)

        Raises:
            ValueError: if it is silent
        """
        stretches = _stretches(_raised(speech))  # (B, T, M)
        device = self.linear.weight.device
        return mean_voice(self(torch.from_numpy(stretches).to(device)).cpu().numpy())


def load_ge2e(device: str = "cpu") -> GE2E:
    """The encoder with Resemblyzer's weights.

    Raises:
        UserError: if the package that holds them isn't installed or they are broken
    """
    return _load_ge2e(device)


@dataclass(frozen=True)
class XVector:
    """WavLM with a speaker head, as `microsoft/wavlm-base-plus-sv` is published."""

    folder: Path
    device: str = "cpu"

    @functools.cached_property
    def name(self) -> str:
        weights = sorted(p for p in self.folder.iterdir() if p.suffix in (".safetensors", ".bin"))
        marks = [weights_key(path) for path in weights]
        return f"wavlm-{hashlib.sha256(repr(marks).encode()).hexdigest()[:12]}"

    def embed(self, speech: NDArray[np.float32]) -> Embedding:
        """(D,) of length 1 from (S,) at 16 kHz."""
        network, extractor = _load_xvector(self.folder, self.device)
        inputs = extractor(speech, sampling_rate=VOICE_RATE, return_tensors="pt")
        with torch.inference_mode():
            found = network(**{key: value.to(self.device) for key, value in inputs.items()})
        return mean_voice(found.embeddings.cpu().numpy())


def load_xvector(folder: Path, device: str = "cpu") -> XVector:
    """A second encoder from a folder in transformers' format.

    Raises:
        UserError: if the folder isn't one, or holds another model
    """
    _load_xvector(folder, device)
    return XVector(folder, device)


def _raised(speech: NDArray[np.float32]) -> NDArray[np.float32]:
    power = float(np.square(speech, dtype=np.float64).mean()) if len(speech) else 0.0
    if power <= 0:
        raise ValueError("silence has no voice")
    return speech * np.float32(max(1.0, 10 ** (LEVEL_DB / 20) / np.sqrt(power)))


def _stretches(speech: NDArray[np.float32]) -> NDArray[np.float32]:
    """(B, STRETCH, M) power mels of overlapping stretches; the last is filled up with silence."""
    import librosa  # seconds to import

    n_frames = -(-(len(speech) + 1) // HOP_LENGTH)
    starts = list(range(0, max(1, n_frames - STRETCH + STRIDE + 1), STRIDE))
    filled = (len(speech) - starts[-1] * HOP_LENGTH) / (STRETCH * HOP_LENGTH)
    if len(starts) > 1 and filled < LEAST_FILLED:
        starts.pop()
    missing = (starts[-1] + STRETCH) * HOP_LENGTH - len(speech)
    mel = librosa.feature.melspectrogram(
        y=np.pad(speech, (0, max(0, missing))),
        sr=VOICE_RATE,
        n_fft=N_FFT,
        hop_length=HOP_LENGTH,
        n_mels=N_MELS,
    ).T.astype(np.float32)  # (T, M)
    return np.stack([mel[start : start + STRETCH] for start in starts])


@functools.lru_cache(maxsize=2)
def _load_ge2e(device: str) -> GE2E:
    found = importlib.util.find_spec("resemblyzer")  # looks for the package, doesn't import it
    places = list(found.submodule_search_locations or []) if found else []
    path = next(
        (p for p in (Path(place, "pretrained.pt") for place in places) if p.is_file()), None
    )
    if path is None:
        raise UserError("speaker similarity needs the weights in Resemblyzer", fix=GET_WEIGHTS)
    network = GE2E()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        network.load_state_dict({k: v for k, v in state.items() if not k.startswith("similarity")})
    except (*BROKEN, OSError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"broken weights: {reason}", where=path, fix=GET_WEIGHTS) from error
    return network.eval().to(device)


@functools.lru_cache(maxsize=2)
def _load_xvector(folder: Path, device: str) -> tuple[Any, Any]:
    from safetensors import SafetensorError
    from transformers import AutoFeatureExtractor, WavLMForXVector

    needed = ("config.json", "preprocessor_config.json")
    if missing := [name for name in needed if not (folder / name).is_file()]:
        what = f"not a speaker encoder: no {' and no '.join(missing)}"
        raise UserError(what, where=folder, fix=GET_WAVLM)
    try:
        extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        loaded: Any = WavLMForXVector.from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
        network, report = loaded
    except (*BROKEN, OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        what = f"cannot load the speaker encoder: {reason}"
        raise UserError(what, where=folder, fix=GET_WAVLM) from error
    if absent := sorted(report["missing_keys"]):
        what = f"not a WavLM speaker encoder: {len(absent)} weights are missing, first {absent[0]}"
        raise UserError(what, where=folder)
    return network.eval().to(device), extractor
