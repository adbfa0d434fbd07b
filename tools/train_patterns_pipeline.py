"""From a folder of recordings to a manner of speaking, tested and measured, in one command.

Put recordings into training/<speaker>/dataset/audio. The stages are tools of their own: segment,
transcribe, validate, conditioning, prepare_v3, strangers, train_patterns, embeddings, test, speak,
evaluate. `strangers` prepares the bundled recordings, so that not only the speaker's own clips
prompt. The last two speak held-out and new texts with the pattern, without it and with a shuffled
one, and write a report of what the pattern does. A stage whose inputs and settings haven't changed
is skipped; what tools/train_speaker.py has finished isn't done again. Stop whenever you like; the
same command goes on.

Exit code 3: a guard rail of the report failed (words, voice, quality, too many or too few events).

Example: python tools/train_patterns_pipeline.py --speaker ozzy
Example: python tools/train_patterns_pipeline.py --speaker ozzy --no-lora --dry-run
Example: python tools/train_patterns_pipeline.py --speaker ozzy --from train_patterns
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from indextts import chains
from indextts.pattern_chain import (
    LORA,
    NAMES,
    OPTIONAL,
    PAGE,
    PATTERN,
    PREPARATION,
    TRAINING,
    HeldOutConfig,
    PatternEveningConfig,
    chain,
)
from indextts.train_flags import add_prompt_speakers
from ttscommon.cli import Parser, add_config_flags, run
from ttscommon.evaluation import EXIT_WORSE
from ttscommon.stages import Done
from ttscommon.workspace import Speaker, speaker_flags

log = logging.getLogger(__name__)


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, pattern, lora, training, comparison, stages, machine = map(
        parser.add_argument_group,
        ("data", "pattern", "lora", "training", "comparison", "stages", "machine"),
    )
    chains.add_recordings(data)
    add_config_flags(data, HeldOutConfig, PREPARATION)
    add_prompt_speakers(pattern, "those of the bundled speaker")
    add_config_flags(pattern, PatternEveningConfig, PATTERN)
    add_config_flags(lora, PatternEveningConfig, LORA)
    lora.add_argument("--no-lora", dest="lora_rank", action="store_const", const=0,
                      default=argparse.SUPPRESS,
                      help="train the pattern only, as --lora-rank 0")  # fmt: skip
    add_config_flags(training, PatternEveningConfig, TRAINING)
    _add_comparison(comparison)
    chains.add_stages(stages, NAMES, OPTIONAL)
    chains.add_machine(machine)
    return parser


def _add_comparison(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--test-texts", nargs="+", metavar="TEXT", help="what the test says")
    group.add_argument("--pattern-scale", type=float, default=1.0,
                       help="strength of the pattern in the test")  # fmt: skip
    group.add_argument(
        "--text-file", type=Path, help="what is measured (default: held-out texts, and ours)"
    )
    group.add_argument("--n-texts", type=int, default=40, help="or so many; 100 are better")
    group.add_argument("--seeds", type=int, nargs="+", default=[0], help="each text once for each")
    group.add_argument("--strengths", type=float, nargs="+", default=[0.5], metavar="SCALE",
                       help="of the pattern, besides 0 and 1")  # fmt: skip
    group.add_argument(
        "--other-pattern", type=Path, metavar="FILE", help="another speaker's pattern_embedding.pt"
    )
    group.add_argument("--diffusion-steps", type=int, default=25, help="of the flow")
    group.add_argument("--num-beams", type=int, default=3, help="1 is faster")


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse(argv)
    if "speak" in args.skip and "evaluate" not in args.skip:
        log.warning(
            "without the stage 'speak' there is nothing new to measure: 'evaluate' is left out"
        )
        args.skip = [*args.skip, "evaluate"]
    speaker = Speaker(args.speaker, args.training_root)
    chains.require_recordings(speaker)
    words = list(sys.argv[1:] if argv is None else argv)
    resume = chains.resume_command("tools/train_patterns_pipeline.py", words)
    steps = chains.chain_of(chain(args, speaker), args, speaker, resume)
    if args.dry_run:
        print("\n".join(chains.planned(steps.plan(args.start))))
        return 0
    done = steps.run(args.start)
    _conclude(speaker, done)
    return EXIT_WORSE if done[-1].exit_code == EXIT_WORSE else 0


def _conclude(speaker: Speaker, done: Sequence[Done]) -> None:
    """Times, where things are, and the line to type next."""
    print("\n" + "\n".join(chains.times(done)))
    names = {one.name for one in done}
    print(f"Pattern: {speaker.pattern_training.best_checkpoint}")
    if "test" in names:
        print(f"Listen: {speaker.test_outputs}")
    if "evaluate" in names:
        print(f"Read: {speaker.pattern_evaluation / PAGE}")
    flags = shlex.join(speaker_flags([speaker]))
    print(f'Next: python tools/infer_with_patterns.py {flags} --text "Good morning."')


if __name__ == "__main__":
    run(main)
