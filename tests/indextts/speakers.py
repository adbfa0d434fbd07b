"""Speakers as training leaves them: adapters and fine-tuned weights on the miniature checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import soundfile
import torch

from indextts import lora
from indextts.checkpoint import CheckpointFolder
from indextts.gpt.model import UnifiedVoice
from indextts.infer_v2 import IndexTTS2
from indextts.pattern_embeddings import PatternEmbedding, PatternOrigin
from indextts.speaker_embeddings import SpeakerEmbeddingStore
from indextts.weights import load_gpt, save_gpt
from ttscommon.lora import find_targets, inject, save_adapter
from ttscommon.workspace import Speaker


def language_model(checkpoint: Path) -> UnifiedVoice:
    folder = CheckpointFolder.open(checkpoint)
    return load_gpt(folder.gpt, folder.config.gpt)


def write_adapter(checkpoint: Path, folder: Path, *, seed: int = 0, strength: float = 0.1) -> None:
    """An adapter of random numbers; with strength 0 it changes nothing."""
    gpt = language_model(checkpoint)
    torch.manual_seed(seed)
    base = gpt.file_fingerprint
    inject(gpt, find_targets(gpt, ["gpt.h.*.attn.c_attn", "mel_head"]), rank=2, alpha=4)
    for name, parameter in gpt.named_parameters():
        if ".lora_B" in name:
            torch.nn.init.normal_(parameter, std=strength)
    assert base is not None
    save_adapter(gpt, folder, beside=lambda draft: lora.write_base(draft, base))


def write_finetuned(checkpoint: Path, path: Path) -> None:
    gpt = language_model(checkpoint)
    torch.manual_seed(1)
    with torch.no_grad():
        gpt.text_embedding.weight.add_(0.3 * torch.randn_like(gpt.text_embedding.weight))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_gpt(path, gpt)


def write_pattern(checkpoint: Path, path: Path, *, strength: float = 3.0) -> None:
    """A pattern of random numbers; with strength 0 it changes nothing."""
    gpt = language_model(checkpoint)
    torch.manual_seed(2)
    assert gpt.file_fingerprint is not None
    origin = PatternOrigin(base=gpt.file_fingerprint, rates={"pauses_per_minute": 12.5})
    pattern = PatternEmbedding(gpt.config.model_dim, 2, initialization="reference", origin=origin)
    pattern.pattern_scale.data.fill_(strength)
    path.parent.mkdir(parents=True, exist_ok=True)
    pattern.save(path)


def write_recording(path: Path, seconds: float = 1.0, seed: int = 0) -> Path:
    sound = 0.1 * np.random.default_rng(seed).standard_normal(int(22_050 * seconds))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, 22_050)
    return path


def write_voice(checkpoint: Path, path: Path) -> None:
    recording = write_recording(path.with_suffix(".wav"))
    tts = IndexTTS2(model_dir=checkpoint, device="cpu")
    SpeakerEmbeddingStore(tts).save_embeddings(tts.voice(recording), path)
    recording.unlink()


class Trained:
    """Copies what was trained, once for all tests, to speakers of a test."""

    def __init__(self, checkpoint: Path, store: Path):
        self.checkpoint, self.store = checkpoint, store
        write_adapter(checkpoint, store / "adapter")
        write_finetuned(checkpoint, store / "finetuned.pth")
        write_voice(checkpoint, store / "voice.pt")
        write_pattern(checkpoint, store / "pattern.pt")

    def speaker(self, name: str, root: Path, *what: str) -> Speaker:
        """Args:
        what: lora, finetune, pattern, adapted (a pattern with an adapter); the voice is always
            there
        """
        speaker = Speaker(name, root)
        pattern = speaker.pattern_training.best_checkpoint
        files = {"finetune": ("finetuned.pth", speaker.finetune.best_model)}
        files |= dict.fromkeys(
            ("pattern", "adapted"), ("pattern.pt", pattern / "pattern_embedding.pt")
        )
        chosen = [files[one] for one in what if one in files]
        for source, target in [("voice.pt", speaker.speaker_embeddings), *chosen]:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.store / source, target)
        if "lora" in what:
            shutil.copytree(self.store / "adapter", speaker.lora.best_checkpoint)
        if "adapted" in what:
            shutil.copytree(self.store / "adapter", pattern / "lora")
        return speaker
