"""One way of training a pattern for one person, and what everybody says afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from examples.pattern_experiment import voices
from examples.pattern_experiment.language import N_TIMBRES, Habit, Utterance
from examples.pattern_experiment.world import N_OTHERS, World, checkpoint_with
from indextts import weights
from indextts.clips import INFO_FILE, INFO_FORMAT, TRAIN_MANIFEST, VALIDATION_MANIFEST
from indextts.gpt.model import UnifiedVoice
from indextts.pattern_config import PatternTrainConfig
from indextts.pattern_train import PatternJob, train_patterns
from ttscommon.errors import UserError
from ttscommon.evaluation.likeness import likeness
from ttscommon.evaluation.pattern_protocol import PatternResult, judge_patterns
from ttscommon.evaluation.scores import Score
from ttscommon.files import atomic_folder, read_json
from ttscommon.workspace import SystemFolder

PATTERN_ONLY: Mapping[str, Any] = {"lora_rank": 0}
UNWEIGHTED = {f"{part}_weight": 0.0 for part in ("pause", "silence", "rate", "event")}
WAYS: Mapping[str, Mapping[str, Any]] = {
    "ours": PATTERN_ONLY,
    "ours, own prompts": PATTERN_ONLY,  # no other speaker's
    "ours, one stranger": PATTERN_ONLY,  # and all clips of theirs
    "ours, test timbre unheard": PATTERN_ONLY,  # strangers of the two other timbres
    "ours, timbre taught": {**PATTERN_ONLY, "strange_timbre": "taught"},
    "ours and an adapter": {"lora_rank": 8, "lora_alpha": 16.0},
    "cross-entropy": {**PATTERN_ONLY, **UNWEIGHTED},
    "public loss": {**PATTERN_ONLY, "loss": "reference"},
    "public loss, joint": {"loss": "reference", "joint": True, "initialization": "reference"},
}
# Two people far from the average, which is 3.7 pauses of 0.6 s in ten seconds and few fillers: one
# rests seldom and long and hardly says um, one rests often and shortly and says it a lot.
HABITS: Mapping[str, Habit] = {
    "slow": Habit(pauses=(0.02, 0.20), seconds=1.5, fillers=0.02),
    "um": Habit(pauses=(0.90, 0.60), seconds=0.3, fillers=0.45),
}
TARGETS = tuple(HABITS)
OTHER = dict(zip(TARGETS, reversed(TARGETS), strict=True))
STORED_BASE = Path(__file__).with_name("base.safetensors")  # float16, as base.py trained it
N_TEXTS, N_STEPS = 200, 120


@dataclass(frozen=True)
class Outcome:
    """What one way of training did for one person.

    Attributes:
        word_errors: {condition: share of the words}
    """

    way: str
    target: str
    seed: int
    result: PatternResult
    word_errors: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        own = {"way": self.way, "target": self.target, "seed": self.seed}
        return {**own, "word_errors": dict(self.word_errors), "result": self.result.to_dict()}


@dataclass(frozen=True)
class Trials:
    """The people, the base and the texts that all ways of training share.

    Attributes:
        base: weights of the language model
        folder: receives clips and trainings
        steps: of each training
        n_texts: new texts that everybody says
    """

    world: World
    base: Path
    folder: Path
    steps: int = N_STEPS
    n_texts: int = N_TEXTS
    _of_base: dict[int, list[Utterance]] = field(default_factory=dict, repr=False)

    def setting(self) -> dict[str, Any]:
        """What results depend on besides the way, the person and the seed."""
        base = weights.fingerprint(self._gpt())
        return {"base": base, "steps": self.steps, "texts": self.n_texts}

    def prompted(self, target: str, seed: int = 0) -> tuple[Mapping[str, Score], float]:
        """What the base takes from a prompt that the person speaks, without any training.

        Returns:
            transfer scores, and the share of the words that are wrong
        """
        everybody = voices.Script.made(self.world, self.n_texts, timbre=N_TIMBRES - 1)
        own = voices.Script.made(self.world, self.n_texts, N_TIMBRES - 1, HABITS[target])
        said = voices.spoken(self._gpt(), own, seed)
        found = likeness(
            {
                "B0": voices.manners(self._said_by_base(everybody, seed)),
                "own": voices.manners(said),
            },
            voices.manners(voices.said_by(HABITS[target], everybody, seed)),
            "B0",
        )
        return found.transfer["own"], voices.word_error_rate(said, own.texts)

    def learn(self, way: str, target: str, seed: int = 0) -> Path:
        """Train a pattern of one person: the folder that holds it."""
        clips = self._clips(target)
        config = PatternTrainConfig(
            **{
                **WAYS[way],
                "max_steps": self.steps,
                "epochs": self.steps,
                "pattern_tokens": 4,
                "learning_rate": 1e-3,
                "batch_size": 20,
                "grad_accumulation": 1,
                "gradient_checkpointing": False,
                "text_loss_weight": 0.0,
                "lora_heads": False,
                "val_interval": 20,
                "seed": seed,
            }
        )
        job = PatternJob(
            [clips / TRAIN_MANIFEST],
            [clips / VALIDATION_MANIFEST],
            SystemFolder(self.folder / way / f"{target}_{seed}"),
            checkpoint_with(self.world.config, self.base),
            device="cpu",
            others=self._others(way, target),
        )
        return train_patterns(job, config).best

    def compare(
        self, way: str, target: str, trained: Path, swapped: Path, seed: int = 0
    ) -> Outcome:
        """Let everybody say the same new texts, prompted in a timbre that isn't the target's.

        Args:
            swapped: the other person's pattern, trained in the same way
        """
        script = voices.Script.made(self.world, self.n_texts, timbre=N_TIMBRES - 1)
        gpt, pattern = voices.load_trained(self.world, self.base, trained)
        _, other = voices.load_trained(self.world, self.base, swapped)
        among = pattern.get_injection_embedding
        system = "LP" if WAYS[way].get("lora_rank", 1) else "P"
        said = {"B0": self._said_by_base(script, seed)}
        conditions = {
            system: among,
            f"{system}@0.5": partial(among, scale=0.5),
            f"{system}0": partial(among, scale=0.0),
            f"{system}r": partial(pattern.shuffled, seed=seed),
            f"{system}x": other.get_injection_embedding,
        }
        for name, condition in conditions.items():
            said[name] = voices.spoken(gpt, script, seed, condition)
        said["R"] = voices.said_by(HABITS[target], script, seed)
        errors = {name: voices.word_error_rate(own, script.texts) for name, own in said.items()}
        result = judge_patterns({name: voices.manners(own) for name, own in said.items()})
        return Outcome(way, target, seed, result, errors)

    def _gpt(self) -> UnifiedVoice:
        return weights.load_gpt(self.base, self.world.config).eval()

    def _said_by_base(self, script: voices.Script, seed: int) -> list[Utterance]:
        if seed not in self._of_base:
            self._of_base[seed] = voices.spoken(self._gpt(), script, seed)
        return self._of_base[seed]

    def _clips(self, target: str) -> Path:
        write, timbre = self.world.write_target_clips, TARGETS.index(target)
        return self._written(target, lambda d, m: write(d, target, HABITS[target], timbre, m))

    def _others(self, way: str, target: str) -> list[Path]:
        """Strangers of all timbres prompt, but not those that prompt in the test."""
        if way == "ours, own prompts":
            return []
        name, timbres, n = "strangers", range(N_TIMBRES), N_OTHERS
        if way == "ours, test timbre unheard":
            name, timbres = "strangers of other timbres", range(N_TIMBRES - 1)
        elif way == "ours, one stranger":
            only = TARGETS.index(OTHER[target])  # neither the person's timbre nor the test's
            name, timbres, n = f"stranger to {target}", range(only, only + 1), 1
        write = partial(self.world.write_other_clips, timbres=timbres, n_strangers=n)
        return [self._written(name, write) / TRAIN_MANIFEST]

    def _written(self, name: str, write: Callable[[Path, str], object]) -> Path:
        clips, base = self.folder / "clips" / name, weights.fingerprint(self._gpt())
        if not clips.is_dir():
            clips.parent.mkdir(parents=True, exist_ok=True)
            with atomic_folder(clips) as draft:
                write(draft, base)
        elif read_json(clips / INFO_FILE, format=INFO_FORMAT).get("base") != base:
            raise UserError(
                "clips of another base are there", where=clips, fix="--output ELSEWHERE"
            )
        return clips


def unpacked(world: World, stored: Path, path: Path) -> Path:
    """The base in full precision, written to `path`: what is trained on is one file, not two."""
    gpt = UnifiedVoice(world.config)
    gpt.load_state_dict({name: tensor.float() for name, tensor in load_file(stored).items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    weights.save_gpt(path, gpt)
    return path


def packed(world: World, trained: Path, stored: Path) -> Path:
    """The same in half precision, small enough to be kept with the code."""
    gpt = weights.load_gpt(trained, world.config)
    weights.save_gpt(stored, gpt.half())
    return stored
