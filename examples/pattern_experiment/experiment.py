"""Does a pattern carry a person's habits to new text and new prompts? In a language of codes.

Two people are learned whose habits the base has never met, each by the same training that
recordings go through. Then base, patterns and real people say the same held-out texts, prompted in
a timbre that isn't theirs. What is said is counted exactly, so nothing stands between the claim and
its test; the same is done with the public trainer's loss and its joint training.

No result is published yet. First run base.py; a base that misses more than a tenth of the words
makes every answer here worthless, so look at the WER of B0 first.

Example: python examples/pattern_experiment/experiment.py --base best_model.pth
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, run

if TYPE_CHECKING:
    from examples.pattern_experiment.language import Habit
    from examples.pattern_experiment.world import World
    from ttscommon.evaluation.pattern_protocol import PatternResult

OUTPUT = Path("training/pattern_experiment")
N_TEXTS, N_STEPS = 120, 160
# Ours, and the public trainer's loss, alone and with an adapter that learns at the same time.
WAYS: Mapping[str, Mapping[str, Any]] = {
    "ours": {"loss": "balanced", "lora_rank": 0},
    "public loss": {"loss": "reference", "lora_rank": 0},
    "public loss, joint": {"loss": "reference", "joint": True, "initialization": "reference"},
}
TARGETS = ("slow", "um")
OTHER = {"slow": "um", "um": "slow"}
SHOWN = ("pause_rate", "pause_duration", "pause_placement", "filler_rate", "mean")


@dataclass(frozen=True)
class Outcome:
    """One way of training for one person.

    Attributes:
        word_errors: {condition: share of the words}
    """

    way: str
    target: str
    result: PatternResult
    word_errors: Mapping[str, float]


def habits() -> dict[str, Habit]:
    """Two people far from the average: one rests long before half of the words, one says um."""
    from examples.pattern_experiment.language import Habit

    return {
        "slow": Habit(pauses=(0.10, 0.80), seconds=0.30, fillers=0.02),
        "um": Habit(pauses=(0.03, 0.05), seconds=0.08, fillers=0.45),
    }


def learn(
    world: World, base: Path, folder: Path, target: str, way: str, *, steps: int, seed: int = 0
) -> Path:
    """Train a pattern of one person; the checkpoint."""
    from examples.pattern_experiment.world import checkpoint_with
    from indextts import weights
    from indextts.clips import TRAIN_MANIFEST, VALIDATION_MANIFEST
    from indextts.pattern_config import PatternTrainConfig
    from indextts.pattern_train import PatternJob, train_patterns
    from ttscommon.files import atomic_folder
    from ttscommon.workspace import SystemFolder

    clips, mark = folder / target, weights.fingerprint(weights.load_gpt(base, world.config))
    if not clips.is_dir():
        with atomic_folder(clips) as draft:
            world.write_target_clips(draft, target, habits()[target], TARGETS.index(target), mark)
    config = PatternTrainConfig(
        **WAYS[way],
        max_steps=steps,
        epochs=steps,
        pattern_tokens=4,
        pattern_lr=3e-3,
        learning_rate=1e-3,
        batch_size=20,
        grad_accumulation=1,
        gradient_checkpointing=False,
        text_loss_weight=0.0,
        lora_heads=False,
        val_interval=steps,
        seed=seed,
    )
    job = PatternJob(
        [clips / TRAIN_MANIFEST],
        [clips / VALIDATION_MANIFEST],
        SystemFolder(folder / f"{target} {way} {seed}"),
        checkpoint_with(world, base),
        device="cpu",
    )
    return train_patterns(job, config).final


def compare(
    world: World,
    base: Path,
    target: str,
    way: str,
    trained: Path,
    *,
    swapped: Path | None = None,
    n_texts: int = N_TEXTS,
    seed: int = 0,
) -> Outcome:
    """Let everybody say the same new texts, prompted in a timbre that isn't the target's.

    Args:
        swapped: checkpoint of another person's pattern
    """
    from functools import partial

    from examples.pattern_experiment import voices
    from examples.pattern_experiment.language import N_TIMBRES
    from indextts import weights
    from ttscommon.evaluation.pattern_protocol import judge_patterns

    script = voices.Script.made(world, n_texts, timbre=N_TIMBRES - 1)
    gpt, pattern = voices.load_trained(world, base, trained)
    among = pattern.get_injection_embedding
    system = "LP" if "joint" in WAYS[way] else "P"
    said = {
        "B0": voices.spoken(weights.load_gpt(base, world.config).eval(), script, seed),
        system: voices.spoken(gpt, script, seed, among),
        f"{system}0": voices.spoken(gpt, script, seed, partial(among, scale=0.0)),
        f"{system}@0.5": voices.spoken(gpt, script, seed, partial(among, scale=0.5)),
        f"{system}r": voices.spoken(gpt, script, seed, partial(pattern.shuffled, seed=seed)),
        "R": voices.said_by(habits()[target], script, seed),
    }
    if swapped is not None:
        _, other = voices.load_trained(world, base, swapped)
        said[f"{system}x"] = voices.spoken(gpt, script, seed, other.get_injection_embedding)
    errors = {name: voices.word_error_rate(own, script.texts) for name, own in said.items()}
    result = judge_patterns({name: voices.manners(own) for name, own in said.items()})
    return Outcome(way, target, result, errors)


def build_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument("--base", type=Path, required=True, help="file that base.py wrote")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder")
    parser.add_argument("--steps", type=int, default=N_STEPS, help="of each training")
    parser.add_argument("--texts", type=int, default=N_TEXTS, help="new texts to say")
    parser.add_argument("--seed", type=int, default=0, help="names everything random")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    from examples.pattern_experiment.base import SEED
    from examples.pattern_experiment.world import World

    world = World.made(SEED)
    for way in WAYS:
        trained = {
            target: learn(
                world, args.base, args.output, target, way, steps=args.steps, seed=args.seed
            )
            for target in TARGETS
        }
        for target in TARGETS:
            outcome = compare(
                world,
                args.base,
                target,
                way,
                trained[target],
                swapped=trained[OTHER[target]] if "joint" not in WAYS[way] else None,
                n_texts=args.texts,
                seed=args.seed,
            )
            print("\n".join(lines(outcome)), flush=True)


def lines(outcome: Outcome) -> list[str]:
    """A table of transfer scores, 0 as the base and 1 as the person, with 95 % intervals."""
    found = [f"{outcome.way}, target '{outcome.target}'"]
    found.append("  ".join([f"{'':6}", *(f"{name:>22}" for name in SHOWN), "  WER"]))
    for condition, scores in outcome.result.transfer.items():
        cells = [str(scores[name]) if name in scores else "-" for name in SHOWN]
        errors = f"{outcome.word_errors[condition]:6.1%}"
        found.append("  ".join([f"{condition:6}", *(f"{cell:>22}" for cell in cells), errors]))
    errors = ", ".join(f"{name} {outcome.word_errors[name]:.1%}" for name in ("B0", "R"))
    found.append(f"WER {errors}")
    found += [f"{claim.name}: {claim.status} ({claim.reason})" for claim in outcome.result.claims]
    found += [f"{name}: no score, {why}" for name, why in outcome.result.refused.items()]
    return found


if __name__ == "__main__":
    run(main)
