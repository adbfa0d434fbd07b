"""From a folder of recordings to a tuned IndexTTS2 voice, in one command.

Put recordings into training/<speaker>/dataset/audio. If you have texts, put them into
dataset/transcripts.csv (audio_path,text); Whisper writes the others down. The stages are tools of
their own: segment, transcribe, validate, prepare, train, embeddings, compare. A stage whose inputs
and settings haven't changed is skipped. Stop whenever you like; the same command goes on.

Example: python tools/train_speaker.py --speaker ozzy
Example: python tools/train_speaker.py --speaker ozzy --epochs 40 --dry-run
Example: python tools/train_speaker.py --speaker ozzy --from train
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from indextts import chains
from indextts.tuned import trained
from indextts.voice_chain import LORA, NAMES, OPTIONAL, TRAINING, EveningConfig, chain
from ttscommon.cli import Parser, add_config_flags, run
from ttscommon.evaluation import EXIT_WORSE
from ttscommon.stages import Done
from ttscommon.workspace import Speaker, speaker_flags


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, training, lora, comparison, stages, machine = map(
        parser.add_argument_group,
        ("data", "training", "lora", "comparison", "stages", "machine"),
    )
    chains.add_recordings(data)
    add_config_flags(training, EveningConfig, TRAINING)
    add_config_flags(lora, EveningConfig, LORA)
    comparison.add_argument("--test-texts", nargs="+", metavar="TEXT", help="what is compared")
    comparison.add_argument("--n-texts", type=int, default=8, help="or so many texts are chosen")
    comparison.add_argument("--diffusion-steps", type=int, default=25, help="of the flow")
    comparison.add_argument("--num-beams", type=int, default=3, help="1 is faster")
    chains.add_stages(stages, NAMES, OPTIONAL)
    chains.add_machine(machine)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse(argv)
    speaker = Speaker(args.speaker, args.training_root)
    chains.require_recordings(speaker)
    resume = resume_command(list(sys.argv[1:] if argv is None else argv))
    steps = chains.chain_of(chain(args, speaker), args, speaker, resume)
    if args.dry_run:
        print("\n".join(chains.planned(steps.plan(args.start))))
        return 0
    done = steps.run(args.start)
    _conclude(speaker, done)
    return EXIT_WORSE if done[-1].exit_code == EXIT_WORSE else 0


def resume_command(words: Sequence[str]) -> str:
    """The same command, without what was meant for once."""
    return chains.resume_command("tools/train_speaker.py", words)


def _conclude(speaker: Speaker, done: Sequence[Done]) -> None:
    """Times, where things are, and the line to type next."""
    print("\n" + "\n".join(chains.times(done)))
    for tuned in trained(speaker).values():
        print(f"Tuned: {tuned}")
    if any(one.name == "compare" for one in done):
        print(f"Listen: {speaker.comparison}")
    flags = shlex.join(speaker_flags([speaker]))
    print(f'Next: python tools/infer.py {flags} --text "Good morning. Did you sleep well?"')


if __name__ == "__main__":
    run(main)
