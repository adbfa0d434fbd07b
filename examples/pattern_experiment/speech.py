"""Does a pattern carry a person's habits to new text and new prompts? In speech that can be heard.

A miniature of the whole way: phrases by synthetic voices, joined with known pauses and fillers;
codes, the nearest means of Whisper's features; a language model of IndexTTS2's shape with 1.3 M
parameters; a network from codes to a mel; Griffin-Lim. 63 speakers teach it, or as
many as asked for. Then the patterns of two people are learned whose habits it never met, and base,
patterns and people say 100 sentences that nobody said before, prompted in other voices. 32 phrases
make 4,096 sentences, and those of the test are new combinations of them: it says nothing of words
never heard.

Stages, each of which goes on where it was stopped; without --stage all are run in this order:
bank: the voices say the phrases; codec: from sound to codes and back; ceiling: is a recording
understood after it was codes? Nothing gets better than that; corpus: the speakers' recordings, as
codes; base: the language model learns to speak; patterns: the two people's patterns are learned,
and adapters with and without them; speak: all conditions say the texts of the test; judge: Whisper,
a voice detector, and the table.

examples/embedded_voice/README.md, step 2, says which packages speak, and step 2 of
examples/closed_grammar/README.md how Whisper is put together.

Example: python examples/pattern_experiment/speech.py --whisper-model checkpoints/whisper-base
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, run

STAGES = ("bank", "codec", "ceiling", "corpus", "base", "patterns", "speak", "judge")


def build_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument("--stage", choices=STAGES, help="only this one (default: all)")
    training, output, machine = map(parser.add_argument_group, ("training", "output", "machine"))
    training.add_argument("--speakers", type=int, default=63, help="that teach the language model")
    training.add_argument("--base-steps", type=int, default=2500, help="of the language model")
    training.add_argument("--mel-steps", type=int, default=700, help="of the network to sound")
    training.add_argument("--pattern-steps", type=int, default=160, help="of each pattern")
    training.add_argument("--seed", type=int, default=0, help="of voices, texts and base")
    training.add_argument("--pattern-seed", type=int, default=0, help="of the patterns' training")
    output.add_argument(
        "--output-dir", type=Path, default=Path("training/pattern_speech"), help="of all stages"
    )
    machine.add_argument(
        "--whisper-model",
        type=Path,
        default=Path("checkpoints/whisper-base"),
        help="CTranslate2 folder: makes the codes, and understands what is said",
    )
    machine.add_argument(
        "--packages",
        type=Path,
        default=Path("checkpoints/packages"),
        help="folder with the packages of the voices",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    from examples.pattern_experiment.speech_stages import Experiment  # torch loads here

    experiment = Experiment(
        output=args.output_dir,
        whisper=args.whisper_model,
        packages=args.packages,
        base_steps=args.base_steps,
        mel_steps=args.mel_steps,
        pattern_steps=args.pattern_steps,
        seed=args.seed,
        pattern_seed=args.pattern_seed,
        n_speakers=args.speakers,
    )
    experiment.require_seed()
    for stage in (args.stage,) if args.stage else STAGES:
        found = getattr(experiment, stage)()
        print(f"{stage}: done", flush=True)
        if isinstance(found, list):
            print("\n".join(found), flush=True)


if __name__ == "__main__":
    run(main)
