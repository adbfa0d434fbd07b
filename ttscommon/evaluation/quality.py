"""How good does it sound? DNSMOS (Reddy et al. 2022), a network's guess of listeners' opinions.

Its weights come inside the package speechmos (MIT). Good recordings get 3.1 to 3.5 overall; white
noise 6 dB below the speech brings that to 2. It hears noise and distortion, not whose voice it is
nor what it says.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ttscommon.errors import UserError

QUALITY_RATE = 16_000
WINDOW = round(9.01 * QUALITY_RATE)  # samples that the networks look at


@dataclass(frozen=True)
class Quality:
    """Opinions on the scale from 1 (bad) to 5 (excellent).

    Attributes:
        overall, signal, background: of ITU-T P.835: everything, the voice alone, the noise
        p808: of ITU-T P.808: everything, by another network
    """

    overall: float
    signal: float
    background: float
    p808: float


def measure_quality(audio: NDArray[np.float32], sample_rate: int = QUALITY_RATE) -> Quality:
    """DNSMOS of `audio` (S,) at 16 kHz; less than 9 s is repeated to fill its window.

    Raises:
        ValueError: if the audio is empty or at another rate
        UserError: if speechmos isn't installed
    """
    if sample_rate != QUALITY_RATE:
        raise ValueError(f"wants audio at {QUALITY_RATE} Hz, not {sample_rate}")
    if not len(audio):
        raise ValueError("no audio")
    _package()
    # speechmos doubles short audio until it is long enough and then averages up to nine windows of
    # the same; one window says as much (within 0.1) in a fraction of the time.
    filled = audio if len(audio) > WINDOW else np.resize(audio, WINDOW)
    found = _networks(torch.get_num_threads())(np.clip(filled, -1, 1), QUALITY_RATE, False)
    return Quality(
        overall=float(found["ovrl_mos"]),
        signal=float(found["sig_mos"]),
        background=float(found["bak_mos"]),
        p808=float(found["p808_mos"]),
    )


def _package() -> Any:
    try:
        from speechmos import dnsmos  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        fix = "make setup, or with pip: pip install speechmos onnxruntime librosa requests"
        raise UserError(f"DNSMOS needs the package speechmos: {error}", fix=fix) from error
    return dnsmos


@functools.lru_cache(maxsize=1)
def _networks(n_threads: int) -> Any:
    """DNSMOS on so many threads.

    By itself it takes every core in each process: a quarter more work (measured) where several
    files are measured at a time.
    """
    import onnxruntime

    dnsmos = _package()
    folder = Path(dnsmos.__file__).parent / "dnsmos_models"
    paths = [str(folder / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
    networks = dnsmos.DNSMOS(*paths)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    networks.onnx_sess, networks.p808_onnx_sess = (
        onnxruntime.InferenceSession(path, options) for path in paths
    )
    return networks
