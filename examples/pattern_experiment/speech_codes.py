"""Codes of speech: the nearest of some hundred means of a speech encoder's features, 50 a second.

The encoder is the first blocks of Whisper's, read from the CTranslate2 folder that recognises the
words in the end. A voice's own mean is taken away before, so that codes say what is said rather
than who says it.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ttscommon.errors import UserError
from ttscommon.files import atomic

N_BLOCKS = 4  # of base's six: words are told apart best in the middle
N_CODES = 384
N_KEPT = 64  # directions of the features that codes are told apart by
PROMPT_DIM = 24  # directions that a prompt is heard by
N_ITERATIONS = 15
# CTranslate2's numbers of data types.
_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
_VERSION = 6
Hears = Callable[[NDArray[np.float32]], Tensor]  # (S,) at 16 kHz -> (T, D), 50 a second
FIX = "see step 2 of examples/closed_grammar/README.md"


class Encoder(nn.Module):
    """The first blocks of Whisper's encoder; positions go as far as the sound, not to 30 s."""

    def __init__(self, variables: Mapping[str, NDArray], n_blocks: int = N_BLOCKS):
        super().__init__()
        from whisper.model import AudioEncoder

        n_mels, width = variables["encoder/conv1/weight"].shape[1::-1]
        n_heads = width // 64
        self.network = AudioEncoder(n_mels, 1500, width, n_heads, n_blocks)
        self.network.load_state_dict(_state(variables, n_blocks))
        self.n_mels, self.positions = n_mels, self.network.get_buffer("positional_embedding")
        self.requires_grad_(False).eval()

    def forward(self, audio: NDArray[np.float32]) -> Tensor:
        """(S,) at 16 kHz -> (T, D), T = S // 320"""
        from whisper.audio import log_mel_spectrogram

        net = self.network
        mel = log_mel_spectrogram(audio[: len(audio) // 320 * 320], self.n_mels)  # (M, 2 T)
        x = F.gelu(net.conv2(F.gelu(net.conv1(mel[None])))).transpose(1, 2)  # (1, T, D)
        x = x + self.positions[: x.shape[1]]
        for block in net.blocks:
            x = block(x)
        return x[0]


@dataclass(frozen=True)
class Quantiser:
    """Features to codes, and to what a prompt is heard by.

    Attributes:
        voices: (voices, D), the mean features of each
        directions: (D, N_KEPT), principal ones divided by their spread
        centroids: (V, N_KEPT)
        prompt_mean: (D,); prompt_directions: (D, PROMPT_DIM)
    """

    voices: Tensor
    directions: Tensor
    centroids: Tensor
    prompt_mean: Tensor
    prompt_directions: Tensor

    @classmethod
    def learned(cls, features: Sequence[Tensor], voices: Sequence[int], seed: int) -> Quantiser:
        """From clips (T, D) of which the voices are known."""
        frames, owners = torch.cat(list(features)), torch.tensor(voices)
        owners = owners.repeat_interleave(torch.tensor([len(one) for one in features]))
        means = torch.stack([frames[owners == v].mean(0) for v in range(int(owners.max()) + 1)])
        centred = frames - means[owners]
        directions = _directions(centred, N_KEPT, whiten=0.5)
        centroids = _means(centred @ directions, N_CODES, seed)
        overall = frames.mean(0)
        return cls(
            means,
            directions,
            centroids,
            overall,
            _directions(frames - overall, PROMPT_DIM, whiten=1.0),
        )

    def codes(self, features: Tensor, voice: int) -> NDArray[np.int32]:
        """(T, D) -> (T,)"""
        apart = torch.cdist((features - self.voices[voice]) @ self.directions, self.centroids)
        return apart.argmin(1).numpy().astype(np.int32)

    def heard(self, features: Tensor) -> NDArray[np.float16]:
        """(T, D) -> (T, PROMPT_DIM), as a prompt."""
        found = (features - self.prompt_mean) @ self.prompt_directions
        return found.numpy().astype(np.float16)

    def save(self, path: Path) -> None:
        from safetensors.torch import save_file

        with atomic(path) as draft:
            save_file({name: value.contiguous() for name, value in vars(self).items()}, draft)

    @classmethod
    def load(cls, path: Path) -> Quantiser:
        from safetensors.torch import load_file

        return cls(**load_file(path))


@functools.cache
def load_encoder(whisper: Path) -> Encoder:
    """The encoder of a CTranslate2 folder.

    Raises:
        UserError: if it isn't there, or isn't a Whisper model of the known version
    """
    path = whisper / "model.bin"
    if not path.is_file():
        raise UserError("no Whisper model", where=path, fix=FIX)
    try:
        return Encoder(dict(_variables(path.read_bytes())))
    except (KeyError, ValueError, struct.error, RuntimeError) as error:
        raise UserError(f"not a Whisper model: {error}", where=path, fix=FIX) from error


def _variables(data: bytes) -> Iterator[tuple[str, NDArray]]:
    """The variables of the encoder in a model file of CTranslate2 4."""
    place = 0

    def number(kind: str) -> int:
        nonlocal place
        (found,) = struct.unpack_from(f"<{kind}", data, place)
        place += struct.calcsize(f"<{kind}")
        return found

    def text() -> str:
        nonlocal place
        size = number("H")
        place += size
        return data[place - size : place - 1].decode()

    version, name, _, n = number("I"), text(), number("I"), number("I")
    if version != _VERSION or name != "WhisperSpec":
        raise ValueError(f"{name} of version {version}")
    for _ in range(n):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, size = _TYPES[number("B")], number("I")
        if name.startswith("encoder/"):
            found = np.frombuffer(data, kind, size // np.dtype(kind).itemsize, place)
            yield name, found.reshape(shape)
        place += size


def _state(variables: Mapping[str, NDArray], n_blocks: int) -> dict[str, Tensor]:
    """The names of openai-whisper."""
    found: dict[str, Tensor] = {}

    def put(ours: str, theirs: str, names: Mapping[str, str]) -> None:
        for one, other in names.items():
            key = f"encoder/{theirs}/{other}"
            if key in variables:
                found[f"{ours}.{one}"] = torch.from_numpy(variables[key].astype(np.float32))

    plain, norm = {"weight": "weight", "bias": "bias"}, {"weight": "gamma", "bias": "beta"}
    for conv in ("conv1", "conv2"):
        put(conv, conv, plain)
    put("ln_post", "layer_norm", norm)
    found["positional_embedding"] = torch.from_numpy(
        variables["encoder/position_encodings/encodings"].astype(np.float32)
    )
    for i in range(n_blocks):
        block, layer = f"blocks.{i}", f"layer_{i}"
        put(f"{block}.attn_ln", f"{layer}/self_attention/layer_norm", norm)
        put(f"{block}.attn.out", f"{layer}/self_attention/linear_1", plain)
        put(f"{block}.mlp_ln", f"{layer}/ffn/layer_norm", norm)
        put(f"{block}.mlp.0", f"{layer}/ffn/linear_0", plain)
        put(f"{block}.mlp.2", f"{layer}/ffn/linear_1", plain)
        put("joined", f"{layer}/self_attention/linear_0", plain)
        weights, biases = found.pop("joined.weight"), found.pop("joined.bias")
        for j, name in enumerate(("query", "key", "value")):
            found[f"{block}.attn.{name}.weight"] = weights.chunk(3)[j]
            if name != "key":
                found[f"{block}.attn.{name}.bias"] = biases.chunk(3)[j]
    return found


def _directions(centred: Tensor, n: int, *, whiten: float) -> Tensor:
    """(N, D) -> (D, n) principal directions; `whiten` 1 makes all equally wide, 0 leaves them."""
    variances, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    spread = variances[-n:].clamp(min=1e-8).sqrt()
    return vectors[:, -n:] / spread**whiten


def _means(points: Tensor, n: int, seed: int) -> Tensor:
    """k-means: (N, D) -> (n, D); a mean that nothing is near to begins anew at a point."""
    generator = torch.Generator().manual_seed(seed)

    def some(n: int) -> Tensor:
        return points[torch.randint(len(points), (n,), generator=generator)]

    found = some(n)
    for _ in range(N_ITERATIONS):
        nearest = torch.cat([torch.cdist(part, found).argmin(1) for part in points.split(4096)])
        counts = torch.bincount(nearest, minlength=n)
        sums = torch.zeros_like(found).index_add_(0, nearest, points)
        empty = counts == 0
        found = sums / counts.clamp(min=1)[:, None]
        found[empty] = some(int(empty.sum()))
    return found
