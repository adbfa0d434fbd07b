"""A small language model that speaks the sentences, as the many speakers of the corpus do.

It has IndexTTS2's shape and learns as that does: text and another recording of the speaker in,
codes out. So it may hear the speaker's habits in the prompt, and the experiment has to find out
how far it does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from examples.pattern_experiment import speech_texts
from examples.pattern_experiment.speech_codes import N_CODES, PROMPT_DIM
from examples.pattern_experiment.speech_corpus import N_LATENTS
from examples.pattern_experiment.speech_texts import Text
from examples.pattern_experiment.world import checkpoint_with
from indextts import weights
from indextts.config import ConditionConfig, DecodingConfig, GptConfig
from indextts.gpt.decoding import generate
from indextts.gpt.model import UnifiedVoice
from indextts.train import Job, train_full
from indextts.train_config import FullTrainConfig
from ttscommon.evaluation.wording import normal_words
from ttscommon.seeds import seed_for
from ttscommon.workspace import SystemFolder

MOST_CODES = 480
# All that the model finds possible but the unlikeliest twentieth, so that it speaks clearly while
# its rests stay its own; the original's decoding takes the likeliest fifth off.
DECODING = DecodingConfig(
    temperature=1.0,
    top_k=0,
    top_p=0.95,
    repetition_penalty=1.0,
    num_beams=1,
    max_mel_tokens=MOST_CODES - 10,
)
AT_ONCE = 25  # texts spoken at a time
Condition = Callable[[Tensor], Tensor]


def gpt_config() -> GptConfig:
    """1.3 M parameters."""
    return dataclasses.replace(
        GptConfig.tiny(),
        model_dim=128,
        layers=3,
        heads=4,
        max_mel_tokens=MOST_CODES,
        max_text_tokens=speech_texts.MOST_WORDS,
        number_text_tokens=speech_texts.N_TEXT_IDS,
        number_mel_codes=N_CODES + 2,
        start_mel_token=N_CODES,
        stop_mel_token=N_CODES + 1,
        condition_num_latent=N_LATENTS,
        cond_input_dim=PROMPT_DIM,
        emo_latent_dim=32,
        condition_module=ConditionConfig(
            output_size=32, linear_units=64, attention_heads=4, num_blocks=1
        ),
        emo_condition_module=ConditionConfig(
            output_size=16, linear_units=32, attention_heads=2, num_blocks=1
        ),
        dropout=0.0,
    )


def untrained(path: Path, seed: int) -> str:
    """Write a model that has learned nothing; its fingerprint."""
    torch.manual_seed(seed_for(seed, "base weights"))
    gpt = UnifiedVoice(gpt_config())
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        weights.save_gpt(path, gpt)
    return weights.fingerprint(gpt)


def train_base(
    manifests: tuple[Path, Path], start: Path, folder: Path, *, steps: int, batch_size: int = 16
) -> Path:
    """Let it learn to speak; goes on where it was stopped. The file of the best one."""
    config = FullTrainConfig(
        max_steps=steps,
        epochs=steps,
        batch_size=batch_size,
        grad_accumulation=1,
        learning_rate=2e-3,
        text_loss_weight=0.05,
        mel_loss_weight=0.95,
        train_parts=("transformer", "heads", "embeddings", "speaker", "emotion"),
        gradient_checkpointing=False,
        ema_decay=0.99,
        val_interval=250,
        save_interval=125,
        log_interval=25,
    )
    train, validation = manifests
    job = Job(
        [train],
        [validation],
        SystemFolder(folder),
        checkpoint_with(gpt_config(), start),
        device="cpu",
    )
    return train_full(job, config).best


@dataclass(frozen=True)
class Prompts:
    """What a model hears of those who prompt it.

    Attributes:
        speaker: (B, N, D); emotion: (B, D)
    """

    speaker: Tensor
    emotion: Tensor

    @classmethod
    @torch.no_grad()
    def heard(cls, gpt: UnifiedVoice, features: Sequence[NDArray]) -> Prompts:
        """From recordings' features (F, C)."""
        frames = [torch.from_numpy(one.astype(np.float32))[None] for one in features]
        speaker = torch.cat([gpt.speaker_latent(one) for one in frames])
        return cls(speaker, torch.cat([gpt.emotion_vector(one) for one in frames]))


@torch.no_grad()
def speak(
    gpt: UnifiedVoice,
    texts: Sequence[Text],
    prompts: Prompts,
    seed: int,
    among: Condition | None = None,
) -> list[NDArray[np.int64]]:
    """The codes (T,) that the model writes for each text.

    Args:
        prompts: one for each text
        among: puts a pattern among the speaker's latents (B, N, D)
    """
    found: list[NDArray[np.int64]] = []
    for first in range(0, len(texts), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        speaker = prompts.speaker[some] if among is None else among(prompts.speaker[some])
        ids = [speech_texts.text_ids(text) for text in texts[some]]
        seeds = [seed_for(seed, "spoken", first + i) for i in range(len(ids))]
        written = generate(gpt, gpt.prefix(speaker, prompts.emotion[some], ids), DECODING, seeds)
        found += [one.codes[one.codes < N_CODES].numpy() for one in written]
    return found


def fluent_errors(texts: Sequence[str], heard: Sequence[str]) -> float:
    """Share of the words that were understood wrongly, fillers and repeats apart."""
    wanted, found = (
        [" ".join(normal_words(one, "en", fluent=True)) or "-" for one in side]
        for side in (texts, heard)
    )
    return float(jiwer.wer(wanted, found))
