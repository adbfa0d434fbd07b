"""From a recording to a voice or a mood, by models that are loaded when first needed."""

from __future__ import annotations

import gc
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from indextts.checkpoint import CheckpointFolder
from indextts.frontend.fbank import SAMPLE_RATE, centred_fbank
from indextts.s2mel.campplus import Campplus
from indextts.s2mel.codec import SemanticCodec
from indextts.s2mel.model import S2Mel
from indextts.s2mel.reference import speaker_features, to_16k
from indextts.stored_voice import Voice
from indextts.tensors import digest, read_tensors
from ttscommon import audio
from ttscommon.errors import UserError

log = logging.getLogger(__name__)

Seconds = float
Identity: TypeAlias = tuple[str, int, int]  # path, size, time of change
T = TypeVar("T")
LONGEST: Seconds = 15.0  # the original cuts references here
SHORTEST: Seconds = 0.5
MARGIN: Seconds = 1.0  # read beyond the cut, so that resampling has its neighbours
SILENT = 1e-4  # peak; below it a recording is digital silence or as good as that
LOUDEST = 100.0  # peak; above it a file of floats holds no sound as any program writes it
MAX_KEPT = 32  # recordings whose features are remembered, 7 MB each at most


class FeatureModel(Protocol):
    """Audio (1, S) at 16 kHz -> normalised features (1, L, C), 50 a second."""

    def __call__(self, audio: Tensor) -> Tensor: ...


@dataclass
class ReferenceModels:
    """What only the reading of references needs: 1.8 GB of weights at full size."""

    features: FeatureModel
    codec: SemanticCodec
    campplus: Campplus

    @classmethod
    def load(cls, folder: CheckpointFolder, device: torch.device) -> ReferenceModels:
        """Read them from a checkpoint folder."""
        from indextts.frontend.w2v_bert import W2vBert  # brings transformers
        from indextts.weights import load_campplus, load_codec

        log.info("loading the models that read recordings")
        codec = load_codec(folder.semantic_codec, folder.config.codec, device=device)
        codec.decoder = None  # has no use here
        return cls(
            W2vBert.from_folder(folder.w2v_bert, folder.w2v_stat, device=device),
            codec,
            load_campplus(folder.campplus, device=device),
        )


class ReferenceReader:
    """Reads voices and moods from recordings and remembers the last few.

    A recording is known by its path, size and time of change, so that a file replaced under the
    same name is read again.

    Args:
        folder: of the checkpoint
        s2mel: makes the prompt condition
        device: to compute on
        releases: whether `release` lets go of the models, for cards with little memory

    Attributes:
        models: None until the first reading, and after a release
    """

    def __init__(
        self,
        folder: CheckpointFolder,
        s2mel: S2Mel,
        device: torch.device,
        *,
        releases: bool = False,
    ):
        self.releases = releases
        self.models: ReferenceModels | None = None
        self._folder, self._s2mel, self._device = folder, s2mel, device
        self._voices: OrderedDict[Identity, Voice] = OrderedDict()
        self._moods: OrderedDict[Identity, Tensor] = OrderedDict()

    def voice(self, path: Path | str, *, longest: Seconds = LONGEST) -> Voice:
        """The voice in the first seconds of a recording.

        Args:
            longest: so many of them; 15 at most

        Raises:
            UserError: if it can't be read, is silent or shorter than half a second
        """
        path = Path(path)
        if longest >= LONGEST:
            return _remembered(self._voices, path, self._read_voice)
        return self._read_voice(path, longest)

    @torch.no_grad()
    def style(self, path: Path | str) -> Tensor:
        """The speaker vector (E,) alone, which takes a hundredth of the time.

        Raises:
            UserError: as `voice`
        """
        rate = self._s2mel.config.mel.sample_rate
        sound = torch.from_numpy(load_reference(Path(path), rate))[None].to(self._device)
        campplus = self._loaded().campplus
        return campplus(centred_fbank(to_16k(sound, rate), campplus.config.n_mels))[0]

    def mood(self, path: Path | str) -> Tensor:
        """w2v-bert features (1, L, C) of the first 15 seconds, which the mood is read from.

        Raises:
            UserError: as `voice`
        """
        return _remembered(self._moods, Path(path), self._read_mood)

    def release(self) -> None:
        """Let go of the models, if they may go; readings stay."""
        if not self.releases or self.models is None:
            return
        self.models = None
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def fingerprints(self) -> dict[str, str]:
        """Of what voices are read with, the language model not among it; w2v-bert by its
        statistics."""
        models = self._loaded()
        quantizer, statistics = models.codec.quantizer.state_dict(), self._folder.w2v_stat
        return {
            "length_regulator": digest(self._s2mel.length_regulator.state_dict()),
            "semantic_codec": digest(quantizer),
            "campplus": digest(models.campplus.state_dict()),
            "w2v_bert": digest(read_tensors(statistics)),
        }

    @torch.no_grad()
    def _read_voice(self, path: Path, longest: Seconds = LONGEST) -> Voice:
        rate = self._s2mel.config.mel.sample_rate
        heard = load_reference(path, rate)[: int(longest * rate)]
        sound = torch.from_numpy(heard)[None].to(self._device)
        models = self._loaded()
        features = models.features(to_16k(sound, rate))
        made = speaker_features(sound, features, self._s2mel, models.codec, models.campplus)
        mood = self.mood(path) if longest >= LONGEST else self._read_mood(path, longest)
        return Voice(made, mood)

    @torch.no_grad()
    def _read_mood(self, path: Path, longest: Seconds = LONGEST) -> Tensor:
        # Straight to 16 kHz, where a voice goes through 22.05 kHz first: so does the original.
        heard = load_reference(path, SAMPLE_RATE)[: int(longest * SAMPLE_RATE)]
        return self._loaded().features(torch.from_numpy(heard)[None].to(self._device))

    def _loaded(self) -> ReferenceModels:
        if self.models is None:
            self.models = ReferenceModels.load(self._folder, self._device)
        return self.models


def load_reference(path: Path, sample_rate: int) -> audio.Audio:
    """The first 15 seconds of a recording: (S,), mono, resampled as librosa does it.

    Raises:
        UserError: if it can't be read, is silent, absurdly loud or shorter than half a second
    """
    sound = audio.load(path, sample_rate, end=LONGEST + MARGIN)[: int(LONGEST * sample_rate)]
    if len(sound) < SHORTEST * sample_rate:
        raise UserError(
            f"a reference of {len(sound) / sample_rate:.2f} s is too short to know a voice by",
            where=path,
            fix=f"give {SHORTEST:g} s at least; 5 to 15 s are good",
        )
    peak = float(np.abs(sound).max())
    if peak > LOUDEST:
        raise UserError(
            f"the reference has samples of {peak:.3g}, full scale is 1",
            where=path,
            fix="save it with samples from -1 to 1",
        )
    if peak < SILENT:
        raise UserError("the reference is silent", where=path, fix="give a recording of the voice")
    return sound


def _remembered(kept: OrderedDict[Identity, T], path: Path, read: Callable[[Path], T]) -> T:
    """What was read from a file, read again only if the file has changed."""
    try:
        state = path.stat()
    except OSError as error:
        raise UserError("no such audio file", where=path) from error
    key = (str(path.resolve()), state.st_size, state.st_mtime_ns)
    if key not in kept:
        kept[key] = read(path)
        if len(kept) > MAX_KEPT:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]
