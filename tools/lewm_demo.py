"""From bundled recordings to a small LeWM-TTS voice, its speech and a report, on two CPU cores.

Stop it whenever you like; the same command goes on where it was.

Example: python tools/lewm_demo.py
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run from a clone, uninstalled
from lewm.config import ModelConfig, TrainConfig
from ttscommon.cli import Parser, add_config_flags, add_training_root, given, run
from ttscommon.config import load
from ttscommon.workspace import Speaker, speaker_flags

SETTINGS = ROOT / "configs/lewm_train/demo.yaml"
NEXT_STEPS = """# your own voice: recordings in training/NAME/dataset/audio, then
python tools/lewm_preprocess.py --speaker NAME
python tools/lewm_train.py --speaker NAME --preset small
python tools/lewm_infer.py --speaker NAME --text "Hello, how are you today?"

# the same comparison with words: does a recogniser understand what was said?
python tools/evaluate.py {speaker} --base copy --whisper-model tiny.en --overwrite

# or let the demo's voice say something
python tools/lewm_infer.py {speaker} --text "Press one to leave a message."
"""


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, training = map(parser.add_argument_group, ("data", "training"))
    data.add_argument("--speaker", default="demo", help="folder under training/ to work in")
    add_training_root(data)
    data.add_argument(
        "--input", type=Path, default=ROOT / "examples/sample_speaker", help="recordings to use"
    )
    training.add_argument(
        "--config", type=Path, default=SETTINGS, help="YAML or JSON with settings of the training"
    )
    add_config_flags(training, TrainConfig, ("autoencoder_steps", "predictor_steps"))
    machine = parser.add_argument_group("machine")
    machine.add_argument("--threads", type=int, default=1, help="CPU threads; 0: torch's choice")
    return parser


def configs(args: argparse.Namespace) -> TrainConfig:
    """Default < file < flags."""
    return load(TrainConfig, args.config, given(args, TrainConfig))


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    speaker, config = Speaker(args.speaker, args.training_root), configs(args)
    began = time.monotonic()
    print(f"1/5  recordings   {args.input} -> {speaker.dataset}", flush=True)
    import torch  # loads here, so --help stays instant

    from lewm import demo
    from lewm.preprocess import prepare
    from lewm.train import train
    from ttscommon.evaluation import pages

    if args.threads:  # on a busy machine two threads were ten times slower than one
        torch.set_num_threads(args.threads)
    demo.bring_recordings(args.input, speaker)
    prepared = prepare(speaker, demo.PREPARE)
    print(
        f"2/5  features     {prepared.n_clips} clips, {prepared.seconds:.0f} s -> {prepared.folder}"
    )
    n_steps = config.autoencoder_steps, config.predictor_steps
    print(
        f"3/5  training     {n_steps[0]} + {n_steps[1]} steps -> {speaker.lewm.folder}", flush=True
    )
    train([speaker.lewm.processed], speaker.lewm, ModelConfig.tiny(), config,
          overwrite=True, resume_command="make demo")  # fmt: skip
    print(f"4/5  speech       {speaker.outputs}", flush=True)
    next_steps = NEXT_STEPS.format(speaker=shlex.join(speaker_flags([speaker])))
    outcome = demo.speak(speaker, config)
    demo.write_report(speaker, config, outcome, next_steps)
    print(f"5/5  evaluation   {speaker.evaluation}", flush=True)
    evaluation, page = demo.evaluate_outputs(speaker)

    _tell(outcome.table)
    print()
    for finding in pages.findings(evaluation):
        print(finding.text)
    print(f"\nDone in {time.monotonic() - began:.0f} s. Listen: {speaker.outputs}/*/*.wav")
    print(f"Open in a browser: {speaker.report}")
    print(f"How far it is from the recordings, with intervals: {page}")
    print("So few recordings give the speaker's timbre but not yet a reader; the page says more.")
    print(f"\n{next_steps}")


def _tell(table: Sequence[Mapping[str, object]]) -> None:
    print()
    for row in table:
        numbers = [f"{name} {value:.3g}" for name, value in row.items() if name != "what"]
        print("  ".join([f"{row['what']:32}", *numbers]))


if __name__ == "__main__":
    run(main)
