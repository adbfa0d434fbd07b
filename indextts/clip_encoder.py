"""What the networks make of a clip: its codes, its features, its speaker and emotion."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from indextts import weights
from indextts.checkpoint import CheckpointFolder
from indextts.frontend.text import PAUSE
from indextts.frontend.tokenizer import TextTokenizer
from indextts.gpt.model import UnifiedVoice
from indextts.references import LOUDEST, SILENT, ReferenceModels
from indextts.s2mel.reference import to_16k
from ttscommon import audio
from ttscommon.errors import UserError

Arrays = dict[str, np.ndarray]  # by the names they have in files
GLOSSARY = "glossary.yaml"
MAX_PROMPT_FRAMES = 750  # 15 s at 50 a second, as long as references are when speaking
SPEAKING = ("gpt", "text_embedding", "mel_embedding", "text_head", "mel_head")


class ClipEncoder:
    """Reads texts and sound as inference does.

    The networks are loaded when they are first needed.

    Args:
        folder: the checkpoint
        base: file of the language model, by default the folder's

    Attributes:
        gpt: its speaker and emotion encoders; the rest is dropped
        fingerprint: of the whole language model
        seconds: spent on each stage so far
    """

    def __init__(self, folder: CheckpointFolder, device: torch.device, base: Path | None = None):
        self.folder, self.device = folder, device
        self.sample_rate = folder.config.s2mel.mel.sample_rate
        self.seconds: dict[str, float] = defaultdict(float)
        with self.timed("loading"):
            gpt = weights.load_gpt(base or folder.gpt, folder.config.gpt)
            self.fingerprint = gpt.file_fingerprint or weights.fingerprint(gpt)
        self.gpt = _without_speech(gpt).to(device)
        self.tokenizer = TextTokenizer(folder.tokenizer)
        glossary = folder.root / GLOSSARY
        if glossary.is_file():
            self.tokenizer.normalizer.load_glossary(glossary)
        rules = [path.read_bytes() for path in (folder.tokenizer, glossary) if path.is_file()]
        self.tokenizer_sha256 = hashlib.sha256(b"".join(rules)).hexdigest()

    @property
    def sound_mark(self) -> str:
        """Changes with the weights that sound is read with."""
        others = (self.folder.semantic_codec, self.folder.w2v_bert / "model.safetensors")
        sizes = [path.stat().st_size for path in others]
        statistics = hashlib.sha256(self.folder.w2v_stat.read_bytes()).hexdigest()
        return repr((self.fingerprint, sizes, statistics))

    def read_text(self, text: str) -> tuple[np.ndarray, Counter[str]]:
        """int32 (L,) ids, and the pieces that the tokenizer doesn't know.

        Raises:
            UserError: if nothing is left to say, or more than the model reads
        """
        pieces = self.tokenizer.pieces(PAUSE.sub(" ", text))
        ids = self.tokenizer.ids(pieces)
        unknown = [
            piece
            for piece, number in zip(pieces, ids, strict=True)
            if number == self.tokenizer.unknown_id
        ]
        known = len([piece for piece in pieces if piece.strip("▁")]) - len(unknown)
        if known <= 0:
            raise UserError("the tokenizer knows nothing of the text")
        if len(ids) > (most := self.gpt.config.max_text_tokens):
            raise UserError(f"a text of more tokens than the model reads, {most}")
        return np.array(ids, dtype=np.int32), Counter(unknown)

    def load(self, path: Path) -> audio.Audio:
        """(S,) as references are loaded, at the rate of the mels; may run in a thread.

        Raises:
            UserError: if it can't be read, is silent or absurdly loud
        """
        sound = audio.load(path, self.sample_rate)
        peak = float(np.abs(sound).max())
        if peak < SILENT:
            raise UserError("silent")
        if peak > LOUDEST:
            raise UserError("samples far beyond full scale")
        return sound

    @torch.no_grad()
    def read_sound(self, sound: audio.Audio) -> Arrays:
        """codes int32 (T,), w2v float16 (T, C), condition float32 (N, D), emo_vec float32 (D,).

        One clip at a time, without padding, so that the codes are those that inference finds.

        Raises:
            UserError: if it has more codes than the model writes, or the memory doesn't suffice
        """
        try:
            with self.timed("features"):
                samples = torch.from_numpy(sound)[None].to(self.device)
                features = self._models.features(to_16k(samples, self.sample_rate))
                w2v = _numbers(features[0]).astype(np.float16)
            with self.timed("codes"):
                codes, _ = self._models.codec.quantize(features)
                codes = _numbers(codes[0]).astype(np.int32)
            with self.timed("conditions"):
                prompt = features[:, :MAX_PROMPT_FRAMES]
                condition = _numbers(self.gpt.speaker_latent(prompt)[0])
                emotion = _numbers(self.gpt.emotion_vector(prompt)[0])
        except torch.OutOfMemoryError as error:
            fix = "--device cpu, or shorter clips: --max-duration 10"
            raise UserError("out of GPU memory", fix=fix) from error
        if len(codes) > (most := self.gpt.config.max_mel_tokens):
            raise UserError(f"more codes than the model writes, {most}")
        return {"codes": codes, "w2v": w2v, "condition": condition, "emo_vec": emotion}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time of a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - began

    @cached_property
    def _models(self) -> ReferenceModels:
        with self.timed("loading"):
            return ReferenceModels.load(self.folder, self.device)


def _without_speech(gpt: UnifiedVoice) -> UnifiedVoice:
    """The same without what is only for speaking, nine tenths of its weights."""
    for name in SPEAKING:
        delattr(gpt, name)
    return gpt


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
