"""Patterns of two people, and what base, patterns and people say to the same held-out texts.

Whoever is tested is prompted in voices that aren't the target's, by speakers that no model met.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.pattern_experiment.speech_bank import RATE, VOICES
from examples.pattern_experiment.speech_base import Prompts, gpt_config, speak
from examples.pattern_experiment.speech_codes import Hears, Quantiser
from examples.pattern_experiment.speech_corpus import (
    N_TARGET_HELD_OUT,
    TARGET_VOICES,
    Studio,
    encode,
    read_lines,
    write_manifests,
    write_silence,
)
from examples.pattern_experiment.speech_mel import MelNetwork, spoken
from examples.pattern_experiment.speech_texts import Text, sentence
from examples.pattern_experiment.trials import OTHER
from examples.pattern_experiment.world import checkpoint_with
from indextts import weights
from indextts.gpt.model import UnifiedVoice
from indextts.pattern_config import PatternTrainConfig
from indextts.pattern_embeddings import PatternEmbedding, require_fit
from indextts.pattern_tasks import PATTERN_FILE
from indextts.pattern_train import PatternJob, train_patterns
from ttscommon.audio import save
from ttscommon.files import atomic, atomic_folder
from ttscommon.seeds import seed_for
from ttscommon.workspace import SystemFolder

FEWEST_PROMPT_PHRASES = 3  # of a prompt: enough to hear a habit by
HALF = 0.5


@dataclass(frozen=True)
class Stack:
    """All that it takes to hear and to speak.

    Attributes:
        corpus: holds an encoded folder for each speaker
        patterns: holds a folder for each target
        base: file of the language model
    """

    studio: Studio
    encoder: Hears
    quantiser: Quantiser
    mel: MelNetwork
    corpus: Path
    patterns: Path
    base: Path

    def gpt(self) -> UnifiedVoice:
        return weights.load_gpt(self.base, gpt_config()).eval()

    def target_clips(self, target: str) -> Path:
        """The encoded folder of a target."""
        return self.patterns / target / "clips" / "said"


def prompts_of(folder: Path, n: int | None = None) -> list[NDArray]:
    """Features of those of an encoded folder's first n clips that are long enough to prompt."""
    lines = [x for x in read_lines(folder)[:n] if x["text_len"] >= 2 * FEWEST_PROMPT_PHRASES]
    return [np.load(folder / line["features_path"]) for line in lines]


@dataclass(frozen=True)
class Script:
    """Texts of the test, and who prompts each.

    Attributes:
        voices: of the prompts, in which the codes become sound
        prompts: (F, C) of each text
    """

    texts: Sequence[Text]
    voices: Sequence[int]
    prompts: Sequence[NDArray]

    @classmethod
    def foreign(cls, stack: Stack) -> Script:
        """Prompted by speakers in voices that no target has."""
        texts = stack.studio.test_texts()
        foreign = [
            (speaker.voice, prompts_of(stack.corpus / speaker.name))
            for speaker in stack.studio.prompters()
            if VOICES[speaker.voice] not in TARGET_VOICES.values()
        ]
        turns = [foreign[i % len(foreign)] for i in range(len(texts))]
        prompts = [own[i // len(foreign) % len(own)] for i, (_, own) in enumerate(turns)]
        return cls(texts, [voice for voice, _ in turns], prompts)

    @classmethod
    def own(cls, stack: Stack, target: str) -> Script:
        """Prompted by recordings of the target that no pattern has met."""
        texts = stack.studio.test_texts()
        own = prompts_of(stack.target_clips(target), N_TARGET_HELD_OUT)
        voice = stack.studio.target(target).voice
        return cls(texts, [voice] * len(texts), [own[i % len(own)] for i in range(len(texts))])


def learn(stack: Stack, target: str, *, steps: int, seed: int) -> Path:
    """Train the pattern of a target, if it isn't there; the file of it."""
    home = SystemFolder(stack.patterns / target / f"seed{seed}")
    if (done := home.final_checkpoint / PATTERN_FILE).is_file():
        return done
    config = PatternTrainConfig(
        lora_rank=0,
        max_steps=steps,
        epochs=steps,
        pattern_tokens=4,
        pattern_lr=3e-3,
        batch_size=15,
        grad_accumulation=1,
        gradient_checkpointing=False,
        text_loss_weight=0.0,
        lora_heads=False,
        val_interval=max(1, steps // 4),
        seed=seed,
    )
    train, validation = _prepared(stack, target)
    job = PatternJob(
        [train],
        [validation],
        home,
        checkpoint_with(gpt_config(), stack.base),
        device="cpu",
    )
    return train_patterns(job, config).final / PATTERN_FILE


def say_all(
    stack: Stack, folder: Path, target: str, patterns: Mapping[str, Path], *, seed: int
) -> dict[str, Path]:
    """A folder of sound for each condition that doesn't exist yet: {condition: folder}.

    "own prompt" isn't of the protocol: it is the base, prompted by the target.
    """
    gpt, script, own = stack.gpt(), Script.foreign(stack), Script.own(stack, target)
    pattern, other = (PatternEmbedding.load(patterns[t]) for t in (target, OTHER[target]))
    for target_or_other, one in ((target, pattern), (OTHER[target], other)):
        require_fit(one, gpt, patterns[target_or_other])
    heard = Prompts.heard(gpt, script.prompts)
    among = pattern.get_injection_embedding
    ways = {
        "B0": None,
        "P": among,
        "P0": partial(among, scale=0.0),
        "P@0.5": partial(among, scale=HALF),
        "Px": other.get_injection_embedding,
        "Pr": partial(pattern.shuffled, seed=seed),
    }
    folders = {name: folder / target / name for name in (*ways, "own prompt", "R")}
    for name, way in ways.items():
        if not folders[name].is_dir():
            codes = speak(gpt, script.texts, heard, seed, way)
            _write(stack, folders[name], codes, script.voices, script.texts)
    if not folders["own prompt"].is_dir():
        codes = speak(gpt, own.texts, Prompts.heard(gpt, own.prompts), seed)
        _write(stack, folders["own prompt"], codes, own.voices, own.texts)
    if not folders["R"].is_dir():
        _write(stack, folders["R"], real_codes(stack, target), own.voices, own.texts)
    return folders


def real_codes(stack: Stack, target: str) -> list[NDArray]:
    """What the target says to the texts of the test, as codes."""
    speaker, texts = stack.studio.target(target), stack.studio.test_texts()
    said = [stack.studio.said(speaker, text, ("test", i)) for i, text in enumerate(texts)]
    return [stack.quantiser.codes(stack.encoder(one.audio), speaker.voice) for one in said]


def _prepared(stack: Stack, target: str) -> tuple[Path, Path]:
    """Manifests of the target's clips, each with another speaker of the same voice as prompt."""
    own = stack.target_clips(target)
    if not (own / "lines.jsonl").is_file():
        speaker = stack.studio.target(target)
        encode(list(stack.studio.clips(speaker)), own, stack.encoder, stack.quantiser)
    gpt, lines = stack.gpt(), read_lines(own)
    others = [s for s in stack.studio.speakers() if VOICES[s.voice] == TARGET_VOICES[target]]
    pool = [features for other in others for features in prompts_of(stack.corpus / other.name)]
    chance = np.random.default_rng(seed_for(stack.studio.seed, "prompts", target))
    chosen = [pool[i] for i in chance.integers(len(pool), size=len(lines))]
    heard = Prompts.heard(gpt, chosen)
    for line, speaker, emotion in zip(lines, heard.speaker, heard.emotion, strict=True):
        stem = f"features/{line['id']}"
        for kind, array in (("condition", speaker), ("emo_vec", emotion)):
            np.save(own / f"{stem}_{kind}.npy", array.numpy())
            line[f"{kind}_path"] = f"{stem}_{kind}.npy"
    _rewrite(own / "lines.jsonl", lines)
    write_silence(own, lines[N_TARGET_HELD_OUT:])
    mark = weights.fingerprint(gpt)
    return write_manifests(own.parent, [own], {own: N_TARGET_HELD_OUT}, mark)


def _rewrite(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    with atomic(path) as draft:
        draft.write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")


def _write(
    stack: Stack,
    folder: Path,
    codes: Sequence[NDArray],
    voices: Sequence[int],
    texts: Sequence[Text],
) -> None:
    """Sound files, and transcripts.csv beside them."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("audio_path", "text"))
    with atomic_folder(folder) as draft:
        for number, (own, voice, text) in enumerate(zip(codes, voices, texts, strict=True)):
            name = f"{number:03d}_seed0.wav"
            sound = spoken(stack.mel, own, voice) if len(own) > 4 else np.zeros(RATE, np.float32)
            save(draft / name, sound, RATE)
            writer.writerow((name, sentence(text)))
        (draft / "transcripts.csv").write_text(table.getvalue(), encoding="utf-8")
