"""What a base, a pattern and a real person say to the same texts, as manners that are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np
import torch
from torch import Tensor

from examples.pattern_experiment import language
from examples.pattern_experiment.language import FRAMES_A_SECOND, Habit, Utterance
from examples.pattern_experiment.world import World
from indextts import weights
from indextts.config import DecodingConfig
from indextts.gpt.decoding import generate
from indextts.gpt.model import UnifiedVoice
from indextts.lora import attach
from indextts.pattern_embeddings import PatternEmbedding
from indextts.pattern_tasks import ADAPTER_FOLDER, PATTERN_FILE
from ttscommon.evaluation.manner import Manner
from ttscommon.evaluation.pauses import Timing
from ttscommon.evaluation.placement import Place
from ttscommon.seeds import seed_for
from ttscommon.segment import Span

CONTEXTS = ("function word", "other word")  # stand for the two halves of the words
FEWEST_WORDS = 2  # an utterance of fewer has no place for a pause
# What the model says must be its own distribution, not that of a decoding which prunes rare codes.
DECODING = DecodingConfig(
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    repetition_penalty=1.0,
    num_beams=1,
    max_mel_tokens=240,
)
Condition = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Script:
    """Texts that nobody has heard, each with a prompt that nobody has heard either: a stranger's.

    Attributes:
        prompts: (B, N, D)
    """

    texts: Sequence[tuple[int, ...]]
    prompts: Tensor

    @classmethod
    def made(cls, world: World, n: int, timbre: int, habit: Habit | None = None) -> Script:
        """Args: habit: of whoever prompts; default: another stranger each time."""
        chance = np.random.default_rng(seed_for(world.seed, "script"))
        texts = language.draw_texts(n, chance)
        prompts = np.stack(
            [world.prompt(timbre, habit or Habit.drawn(chance), chance) for _ in texts]
        )
        return cls(texts, torch.from_numpy(prompts))


def load_trained(world: World, base: Path, trained: Path) -> tuple[UnifiedVoice, PatternEmbedding]:
    """The base, with the adapter if one was trained, and the pattern."""
    gpt = weights.load_gpt(base, world.config).eval()
    if (trained / ADAPTER_FOLDER).is_dir():
        attach(gpt, trained / ADAPTER_FOLDER)
    return gpt, PatternEmbedding.load(trained / PATTERN_FILE)


@torch.no_grad()
def spoken(
    gpt: UnifiedVoice, script: Script, seed: int, among: Condition | None = None
) -> list[Utterance]:
    """What the model says to each text.

    Args:
        among: puts a pattern among the speaker's latents (B, N, D)
    """
    speaker = script.prompts if among is None else among(script.prompts)
    emotion = torch.zeros(len(speaker), gpt.config.model_dim)
    prefix = gpt.prefix(speaker, emotion, [language.text_ids(text) for text in script.texts])
    seeds = [seed_for(seed, "spoken", number) for number in range(len(script.texts))]
    written = generate(gpt, prefix, DECODING, seeds)
    stop = min(gpt.config.start_mel_token, gpt.config.stop_mel_token)
    return [language.heard([c for c in one.codes.tolist() if c < stop]) for one in written]


def said_by(habit: Habit, script: Script, seed: int) -> list[Utterance]:
    """What a real person says to the same texts."""
    chance = np.random.default_rng(seed_for(seed, "real"))
    return [language.say(text, 0, habit, chance) for text in script.texts]


def manners(said: Sequence[Utterance]) -> list[Manner]:
    """As utterances are compared; those without a place for a pause have no manner."""
    found = [_manner(one, str(number)) for number, one in enumerate(said)]
    return [manner for manner in found if manner is not None]


def word_error_rate(said: Sequence[Utterance], texts: Sequence[tuple[int, ...]]) -> float:
    """Words that aren't those of the text, fillers apart."""
    wanted, heard = ([_sentence(words) for words in w] for w in (texts, [s.words for s in said]))
    return float(jiwer.wer(wanted, heard))


def timbre_shares(said: Sequence[Utterance]) -> list[float]:
    """How many of the words are in each timbre."""
    onsets = [code for one in said for code in one.codes if language.is_onset(code)]
    counts = np.bincount([code % language.N_TIMBRES for code in onsets], minlength=1)
    return (counts / max(len(onsets), 1)).tolist()


def _sentence(words: Sequence[int]) -> str:
    return " ".join(f"w{word}" for word in words) or "-"


def _manner(said: Utterance, group: str) -> Manner | None:
    loud = [p for p, code in enumerate(said.codes) if code not in language.SILENCE]
    if len(said.words) < FEWEST_WORDS:
        return None
    pauses = [Span(first / FRAMES_A_SECOND, last / FRAMES_A_SECOND) for first, last in said.pauses]
    edges = [loud[0] / FRAMES_A_SECOND, *(t for p in pauses for t in (p.start, p.end))]
    edges.append((loud[-1] + 1) / FRAMES_A_SECOND)
    speech = [Span(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True)]
    onsets = [p for p, code in enumerate(said.codes) if language.is_onset(code)]
    places = {}
    for number, (before, after) in enumerate(pairwise(onsets)):
        context = CONTEXTS[language.half_of(said.words[number + 1])]
        rests = any(before < first < after for first, _ in said.pauses)
        places[number] = Place(context, rests)
    timing = Timing(
        speech=tuple(speech),
        pauses=tuple(pauses),
        n_words=len(said.words),
        n_fillers=len(said.fillers),
        n_syllables=len(said.words),
    )
    return Manner(group, timing, places, fillers=[("um", "medial")] * len(said.fillers))
