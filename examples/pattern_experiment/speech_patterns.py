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
from examples.pattern_experiment.speech_base import Condition, Prompts, gpt_config, speak
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
from indextts.lora import attach
from indextts.pattern_config import PatternTrainConfig
from indextts.pattern_embeddings import PatternEmbedding, require_fit
from indextts.pattern_tasks import ADAPTER_FOLDER, PATTERN_FILE
from indextts.pattern_train import PatternJob, train_patterns
from indextts.train import Job, train_lora
from indextts.train_config import LoraTrainConfig
from ttscommon.audio import save
from ttscommon.files import atomic, atomic_folder
from ttscommon.seeds import seed_for
from ttscommon.workspace import SystemFolder

FEWEST_PROMPT_PHRASES = 3  # of a prompt: enough to hear a habit by
HALF = 0.5
ADAPTER: Mapping[str, Any] = {
    "lora_rank": 8,
    "lora_alpha": 16.0,
    "lora_heads": False,
    "learning_rate": 5e-4,
}


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


@dataclass(frozen=True)
class Learned:
    """What was trained of a target.

    Attributes:
        around: folder of the pattern and of the adapter that was trained around it
        alone: folder of an adapter that was trained without a pattern
    """

    around: Path
    alone: Path

    @property
    def pattern(self) -> Path:
        return self.around / PATTERN_FILE


def learn(stack: Stack, target: str, *, steps: int, seed: int) -> Learned:
    """Train a target's pattern, an adapter around it and one without, if they aren't there.

    Args:
        steps: of each of the three
    """
    homes = {
        name: SystemFolder(stack.patterns / target / f"{name}_seed{seed}")
        for name in ("around", "alone")
    }
    learned = Learned(*(home.final_checkpoint for home in homes.values()))
    if (learned.around / ADAPTER_FOLDER).is_dir() and learned.alone.is_dir():
        return learned
    common: dict[str, Any] = {
        **ADAPTER,
        "max_steps": steps,
        "epochs": steps,
        "batch_size": 15,
        "grad_accumulation": 1,
        "gradient_checkpointing": False,
        "text_loss_weight": 0.0,
        "val_interval": max(1, steps // 4),
        "seed": seed,
    }
    train, validation = _prepared(stack, target)
    source = checkpoint_with(gpt_config(), stack.base)
    around = PatternJob([train], [validation], homes["around"], source, device="cpu")
    train_patterns(around, PatternTrainConfig(**common, pattern_tokens=4, pattern_lr=3e-3))
    alone = Job([train], [validation], homes["alone"], source, device="cpu")
    train_lora(alone, LoraTrainConfig(**common))
    return learned


def say_all(
    stack: Stack, folder: Path, target: str, learned: Mapping[str, Learned], *, seed: int
) -> dict[str, Path]:
    """A folder of sound for each condition that doesn't exist yet: {condition: folder}.

    "own prompt" isn't of the protocol: it is the base, prompted by the target.

    Args:
        learned: of all targets
    """
    script, own = Script.foreign(stack), Script.own(stack, target)
    said: dict[str, Path] = {}

    def say(gpt: UnifiedVoice, ways: Mapping[str, Condition | None], script: Script) -> None:
        said.update({name: folder / target / name for name in ways})
        missing = [name for name in ways if not said[name].is_dir()]
        if not missing:
            return
        heard = Prompts.heard(gpt, script.prompts)
        for name in missing:
            codes = speak(gpt, script.texts, heard, seed, ways[name])
            _write(stack, said[name], codes, script.voices, script.texts)

    gpt = stack.gpt()
    pattern, other = (PatternEmbedding.load(learned[t].pattern) for t in (target, OTHER[target]))
    for one, whose in ((pattern, target), (other, OTHER[target])):
        require_fit(one, gpt, learned[whose].pattern)
    say(gpt, {"B0": None, **_ways("P", pattern, other, seed)}, script)
    say(gpt, {"own prompt": None}, own)
    attach(gpt, learned[target].around / ADAPTER_FOLDER)
    say(gpt, _ways("LP", pattern, other, seed), script)
    gpt = stack.gpt()
    attach(gpt, learned[target].alone)
    say(gpt, {"L": None}, script)
    said["R"] = folder / target / "R"
    if not said["R"].is_dir():
        _write(stack, said["R"], real_codes(stack, target), own.voices, own.texts)
    return said


def _ways(
    system: str, pattern: PatternEmbedding, other: PatternEmbedding, seed: int
) -> dict[str, Condition | None]:
    """What the protocol asks of a system: {condition: what it puts among the speaker's latents}."""
    among = pattern.get_injection_embedding
    return {
        system: among,
        f"{system}0": partial(among, scale=0.0),
        f"{system}@0.5": partial(among, scale=HALF),
        f"{system}x": other.get_injection_embedding,
        f"{system}r": partial(pattern.shuffled, seed=seed),
    }


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
