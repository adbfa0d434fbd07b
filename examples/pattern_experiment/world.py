"""The made-up speakers as prepared data sets, and a language model that has learned to read them.

Everything goes through the files and the training that real recordings go through.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from examples.pattern_experiment import language
from examples.pattern_experiment.language import Habit, Utterance
from indextts import weights
from indextts.checkpoint import VERSION, CheckpointFolder, OfficialConfig
from indextts.clips import INFO_FILE, INFO_FORMAT, TRAIN_MANIFEST, VALIDATION_MANIFEST
from indextts.config import GptConfig
from indextts.gpt.model import UnifiedVoice
from indextts.pattern_clips import PATTERN_INFO
from indextts.pattern_features import PatternFeatures
from indextts.s2mel.config import CodecConfig, S2MelConfig
from indextts.silence_codes import learn_silence_codes
from indextts.train import Job, train_full
from indextts.train_config import FullTrainConfig
from ttscommon.files import atomic_folder, write_json
from ttscommon.seeds import seed_for
from ttscommon.workspace import SystemFolder

N_SPEAKERS, CLIPS_A_SPEAKER = 400, 30
N_TARGET_CLIPS = 80
HELD_OUT_OF_BASE, HELD_OUT_OF_TARGET = 300, 20
N_OTHERS = 60
PROMPT_WORDS = 12
PROMPT_NOISE = 0.3  # of a timbre's own numbers, new in each prompt
TRAIT_SIZE = 0.3  # in the same unit, of a habit that is far from the average
LAYERS, WIDTH, HEADS = 3, 96, 4


@dataclass(frozen=True)
class Said:
    """What somebody is to say."""

    speaker: str
    words: tuple[int, ...]
    timbre: int
    habit: Habit


@dataclass(frozen=True)
class World:
    """Timbres and habits as a base hears them.

    Attributes:
        timbres: (K, N, D), the speaker's latents of each
        directions: (4, N, D), into which each of a habit's traits moves them
        config: sizes of the language model
    """

    timbres: NDArray[np.float64]
    directions: NDArray[np.float64]
    config: GptConfig
    seed: int

    @classmethod
    def made(cls, seed: int) -> World:
        config = dataclasses.replace(
            GptConfig.tiny(),
            model_dim=WIDTH,
            layers=LAYERS,
            heads=HEADS,
            max_mel_tokens=320,
            max_text_tokens=language.LONGEST,
            number_text_tokens=language.N_TEXT_IDS,
            number_mel_codes=language.N_CODES + 2,
            start_mel_token=language.N_CODES,
            stop_mel_token=language.N_CODES + 1,
            dropout=0.0,
        )
        chance = np.random.default_rng(seed_for(seed, "timbres"))
        shape = (config.condition_num_latent, config.model_dim)
        timbres = chance.standard_normal((language.N_TIMBRES, *shape))
        return cls(timbres, TRAIT_SIZE * chance.standard_normal((4, *shape)), config, seed)

    def prompt(self, timbre: int, habit: Habit, chance: np.random.Generator) -> NDArray[np.float32]:
        """(N, D): somebody as a dozen of their words show them, different each time."""
        words = tuple(chance.permutation(language.N_WORDS)[:PROMPT_WORDS].tolist())
        traits = language.traits(language.say(words, timbre, habit, chance))
        noise = PROMPT_NOISE * chance.standard_normal(self.timbres.shape[1:])
        latents = self.timbres[timbre] + np.tensordot(traits, self.directions, 1) + noise
        return latents.astype(np.float32)

    def write_base_clips(self, folder: Path, base: str) -> tuple[Path, Path]:
        """Many speakers, each with a habit of their own in a timbre that others have as well."""
        chance = np.random.default_rng(seed_for(self.seed, "base clips"))
        said = []
        for number in range(N_SPEAKERS):
            timbre, habit = int(chance.integers(language.N_TIMBRES)), Habit.drawn(chance)
            for words in language.draw_texts(CLIPS_A_SPEAKER, chance):
                said.append(Said(f"speaker {number}", words, timbre, habit))
        chance.shuffle(said)  # or the last speakers alone were held out
        return self._write(folder, said, HELD_OUT_OF_BASE, base, chance)

    def write_target_clips(
        self, folder: Path, name: str, habit: Habit, timbre: int, base: str
    ) -> tuple[Path, Path]:
        """One person, as a pattern learns them."""
        chance = np.random.default_rng(seed_for(self.seed, "target clips", name))
        texts = language.draw_texts(N_TARGET_CLIPS + HELD_OUT_OF_TARGET, chance)
        said = [Said(name, words, timbre, habit) for words in texts]
        return self._write(folder, said, HELD_OUT_OF_TARGET, base, chance)

    def write_other_clips(
        self, folder: Path, base: str, timbres: Sequence[int], n_strangers: int = N_OTHERS
    ) -> tuple[Path, Path]:
        """Clips of strangers of these timbres: one of each of many, or all of one."""
        chance = np.random.default_rng(seed_for(self.seed, "other clips", *timbres))
        said = []
        for number, words in enumerate(language.draw_texts(N_OTHERS, chance)):
            if number < n_strangers:
                timbre, habit = int(chance.choice(timbres)), Habit.drawn(chance)
            said.append(Said(f"stranger {number % n_strangers}", words, timbre, habit))
        return self._write(folder, said, 0, base, chance)

    def _write(
        self,
        folder: Path,
        wanted: Sequence[Said],
        held_out: int,
        base: str,
        chance: np.random.Generator,
    ) -> tuple[Path, Path]:
        (folder / "features").mkdir(parents=True, exist_ok=True)
        said = [language.say(w.words, w.timbre, w.habit, chance) for w in wanted]
        lines = [
            self._write_clip(folder, f"clip_{number:04d}", who, utterance, chance)
            for number, (who, utterance) in enumerate(zip(wanted, said, strict=True))
        ]
        write_json(folder / INFO_FILE, {"format": INFO_FORMAT, "version": 1, "base": base})
        codes = [(np.array(u.codes), _features(u).kinds) for u in said]
        learned = learn_silence_codes(codes[held_out:])
        write_json(folder / PATTERN_INFO, {**learned.to_dict(), "rates": {}})
        parts = {VALIDATION_MANIFEST: lines[:held_out], TRAIN_MANIFEST: lines[held_out:]}
        for name, part in parts.items():
            text = "".join(json.dumps(line) + "\n" for line in part)
            (folder / name).write_text(text, encoding="utf-8")
        return folder / TRAIN_MANIFEST, folder / VALIDATION_MANIFEST

    def _write_clip(
        self, folder: Path, name: str, who: Said, said: Utterance, chance: np.random.Generator
    ) -> dict[str, Any]:
        arrays = {
            "text_ids": np.array(language.text_ids(said.words), np.int32),
            "codes": np.array(said.codes, np.int32),
            "condition": self.prompt(who.timbre, who.habit, chance),
            "emo_vec": np.zeros(self.config.model_dim, np.float32),
        }
        for kind, array in arrays.items():
            np.save(folder / "features" / f"{name}_{kind}.npy", array)
        _features(said).write(folder / "features" / f"{name}_pattern.json")
        return {
            "id": name,
            "text": " ".join(map(str, said.words)),
            **{f"{kind}_path": f"features/{name}_{kind}.npy" for kind in arrays},
            "text_len": len(said.words),
            "code_len": len(said.codes),
            "condition_len": self.config.condition_num_latent,
            "duration": len(said.codes) / language.FRAMES_A_SECOND,
            "recording": name,
            "speaker": who.speaker,
            "sha256": hashlib.sha256(repr((name, who.timbre, said)).encode()).hexdigest(),
        }


def train_base(world: World, folder: Path, steps: int) -> tuple[CheckpointFolder, str]:
    """A language model that reads, with the habits of the average speaker.

    Returns:
        a checkpoint with the trained language model, and its fingerprint
    """
    folder.mkdir(parents=True, exist_ok=True)
    start, clips = folder / "untrained.pth", folder / "clips"
    torch.manual_seed(seed_for(world.seed, "base weights"))
    untrained = UnifiedVoice(world.config)
    if not clips.is_dir():
        weights.save_gpt(start, untrained)
        with atomic_folder(clips) as draft:
            world.write_base_clips(draft, weights.fingerprint(untrained))
    config = FullTrainConfig(
        max_steps=steps,
        epochs=steps,
        batch_size=32,
        grad_accumulation=1,
        learning_rate=2e-3,
        text_loss_weight=0.1,
        mel_loss_weight=0.9,
        gradient_checkpointing=False,
        val_interval=250,
        save_interval=250,
    )
    job = Job(
        [clips / TRAIN_MANIFEST],
        [clips / VALIDATION_MANIFEST],
        SystemFolder(folder),
        checkpoint_with(world.config, start),
        device="cpu",
    )
    best = train_full(job, config).best
    return checkpoint_with(world.config, best), weights.fingerprint(
        weights.load_gpt(best, world.config)
    )


def checkpoint_with(config: GptConfig, gpt: Path) -> CheckpointFolder:
    """A checkpoint of which only the language model is ever asked for."""
    official = OfficialConfig(
        version=VERSION,
        gpt=config,
        s2mel=S2MelConfig.tiny(),
        codec=CodecConfig.tiny(),
        emo_num=(1,),
        files={},
        is_miniature=True,
    )
    others = (
        *("s2mel", "tokenizer", "w2v_stat", "emo_matrix", "spk_matrix"),
        *("w2v_bert", "semantic_codec", "campplus", "bigvgan"),
    )
    paths = {name: gpt.with_name("none") for name in others}
    return CheckpointFolder(root=gpt.parent, config=official, gpt=gpt, qwen_emotion=None, **paths)


def _features(said: Utterance) -> PatternFeatures:
    """What is known of an utterance, as `indextts.pattern_features` finds it in recordings."""
    is_silent = np.isin(said.codes, language.SILENCE)
    places = np.flatnonzero(~is_silent)
    silent = [(0, int(places[0])), *said.pauses, (int(places[-1]) + 1, len(said.codes))]
    spoken, end = [], 0
    for first, last in silent:
        if first > end:
            spoken.append((end, first))
        end = last
    return PatternFeatures(
        key="made up",
        frames=len(said.codes),
        pauses=list(said.pauses),
        lead=silent[0],
        trail=silent[-1],
        silent=silent,
        spoken=spoken,
        fillers=list(said.fillers),
        filler_words=["um"] * len(said.fillers),
        n_words=len(said.words),
        n_syllables=len(said.words),
    )
