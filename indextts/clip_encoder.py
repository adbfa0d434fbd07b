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
from indextts.clips import MAX_PROMPT_FRAMES
from indextts.frontend.text import PAUSE
from indextts.frontend.tokenizer import TextTokenizer
from indextts.gpt.model import UnifiedVoice
from indextts.references import LOUDEST, SILENT, FeatureModel
from indextts.s2mel.codec import SemanticCodec
from indextts.s2mel.reference import to_16k
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.ledger import weights_key

Arrays = dict[str, np.ndarray]  # by the names they have in files
GLOSSARY = "glossary.yaml"
SPEAKING = ("gpt", "text_embedding", "mel_embedding", "text_head", "mel_head")

W2V_BERT_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


class ClipFault(UserError):
    """What makes one clip of no use, whatever machine and weights it is read with."""


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

    @cached_property
    def sound_mark(self) -> str:
        """Changes with the weights that sound is read with."""
        folder = self.folder
        features = [folder.w2v_bert / name for name in W2V_BERT_FILES]
        files = [folder.semantic_codec, folder.w2v_stat, *filter(Path.is_file, features)]
        return repr((self.fingerprint, [(path.name, weights_key(path)) for path in files]))

    def read_text(self, text: str) -> tuple[np.ndarray, Counter[str]]:
        """int32 (L,) ids, and the pieces that the tokenizer doesn't know.

        Raises:
            ClipFault: if nothing is left to say, or more than the model reads
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
            raise ClipFault("the tokenizer knows nothing of the text")
        if len(ids) > (most := self.gpt.config.max_text_tokens):
            raise ClipFault(f"a text of more tokens than the model reads, {most}")
        return np.array(ids, dtype=np.int32), Counter(unknown)

    def load(self, path: Path) -> audio.Audio:
        """(S,) as references are loaded, at the rate of the mels; may run in a thread.

        Raises:
            ClipFault: if it can't be read, is silent or absurdly loud
        """
        try:
            sound = audio.load(path, self.sample_rate)
        except UserError as error:
            raise ClipFault(error.what) from error
        peak = float(np.abs(sound).max())
        if peak < SILENT:
            raise ClipFault("silent")
        if peak > LOUDEST:
            raise ClipFault("samples far beyond full scale")
        return sound

    @torch.no_grad()
    def read_sound(self, sound: audio.Audio) -> Arrays:
        """codes int32 (T,), w2v float16 (T, C), condition float32 (N, D), emo_vec float32 (D,).

        One clip at a time, without padding, so that the codes are those that inference finds.

        Raises:
            ClipFault: if it is shorter than a feature, or has more codes than the model writes
            UserError: if the models can't be read, or the memory doesn't suffice
        """
        w2v_bert, codec = self._models
        try:
            with self.timed("features"):
                samples = to_16k(torch.from_numpy(sound)[None].to(self.device), self.sample_rate)
                try:
                    features = w2v_bert(samples)
                except UserError as error:
                    raise ClipFault(error.what) from error
                w2v = _numbers(features[0]).astype(np.float16)
            with self.timed("codes"):
                codes, _ = codec.quantize(features)
                codes = _numbers(codes[0]).astype(np.int32)
            with self.timed("conditions"):
                prompt = features[:, :MAX_PROMPT_FRAMES]
                condition = _numbers(self.gpt.speaker_latent(prompt)[0])
                emotion = _numbers(self.gpt.emotion_vector(prompt)[0])
        except torch.OutOfMemoryError as error:
            fix = "--device cpu, or shorter clips: --max-duration 10"
            raise UserError("out of GPU memory", fix=fix) from error
        if len(codes) > (most := self.gpt.config.max_mel_tokens):
            raise ClipFault(f"more codes than the model writes, {most}")
        return {"codes": codes, "w2v": w2v, "condition": condition, "emo_vec": emotion}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time of a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - began

    def load_models(self) -> None:
        """Read now what sound is read with, so that a broken file is told before any clip.

        Raises:
            UserError: if a file is broken
        """
        _ = self._models

    @cached_property
    def _models(self) -> tuple[FeatureModel, SemanticCodec]:
        from indextts.frontend.w2v_bert import W2vBert  # brings transformers

        folder = self.folder
        with self.timed("loading"):
            codec = weights.load_codec(
                folder.semantic_codec, folder.config.codec, device=self.device
            )
            codec.decoder = None  # has no use here
            return W2vBert.from_folder(folder.w2v_bert, folder.w2v_stat, device=self.device), codec


def _without_speech(gpt: UnifiedVoice) -> UnifiedVoice:
    """The same without what is only for speaking, nine tenths of its weights."""
    for name in SPEAKING:
        delattr(gpt, name)
    return gpt


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
