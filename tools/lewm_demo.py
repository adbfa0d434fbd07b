"""From bundled recordings to a LeWM-TTS voice, its speech and a report, on two CPU cores.

Where the embedded voice is, it is tuned on them; where it isn't, a tiny voice learns from nothing.
Stop it whenever you like; the same command goes on where it was.

Example: python tools/lewm_demo.py
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run from a clone, uninstalled
from lewm.config import ModelConfig, TrainConfig
from lewm.embedded_voice import EMBEDDED_VOICE
from ttscommon.cli import Parser, add_config_flags, add_training_root, given, run
from ttscommon.config import from_dict, load, read_mapping, to_dict
from ttscommon.evaluation import NO_RECOGNISER
from ttscommon.workspace import Speaker, speaker_flags

HELD_OUT = 0.2  # of the recordings, where the embedded voice is tuned: enough to compare on
SETTINGS = ROOT / "configs/lewm_train/demo.yaml"
NEXT_STEPS = """# your own voice: recordings in training/NAME/dataset/audio, then
python tools/lewm_preprocess.py --speaker NAME --language en-us
python tools/lewm_train.py --speaker NAME {how}
python tools/lewm_infer.py --speaker NAME --text "Hello, how are you today?"

# the same comparison with words: does a recogniser understand what was said?
python tools/evaluate.py {speaker} --base {base} --whisper-model tiny.en --overwrite

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
        "--config", type=Path, help="YAML or JSON with settings of the training, instead of its own"
    )
    add_config_flags(training, TrainConfig, ("autoencoder_steps", "predictor_steps"))
    training.add_argument(
        "--init-from", type=Path, default=EMBEDDED_VOICE, help="voice to tune, where it is there"
    )
    measuring = parser.add_argument_group("measuring")
    measuring.add_argument(
        "--whisper-model",
        "-w",
        default=NO_RECOGNISER,
        help="name, .pt or CTranslate2 folder; or none",
    )
    machine = parser.add_argument_group("machine")
    machine.add_argument("--threads", type=int, default=1, help="CPU threads; 0: torch's choice")
    return parser


def configs(args: argparse.Namespace) -> TrainConfig:
    """Default < file < flags."""
    if not is_tuned(args):
        return load(TrainConfig, args.config or SETTINGS, given(args, TrainConfig))
    own = {**to_dict(TrainConfig.fine_tuning()), "validation_share": HELD_OUT}
    file = read_mapping(args.config) if args.config else {}
    return from_dict(TrainConfig, {**own, **file, **given(args, TrainConfig)}, where=args.config)


def is_tuned(args: argparse.Namespace) -> bool:
    """Whether there is a voice to tune."""
    return (args.init_from / "config.json").is_file()


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    speaker, config = Speaker(args.speaker, args.training_root), configs(args)
    base = args.init_from if is_tuned(args) else None
    began = time.monotonic()
    print(f"1/5  recordings   {args.input} -> {speaker.dataset}", flush=True)
    import torch  # loads here, so --help stays instant

    from lewm import demo
    from ttscommon.evaluation import pages

    if args.threads:  # on a busy machine two threads were ten times slower than one
        torch.set_num_threads(args.threads)
    demo.bring_recordings(args.input, speaker)
    _train(speaker, config, base)
    print(f"4/5  speech       {speaker.outputs}", flush=True)
    compared = demo.TUNED_FROM if base else demo.BASE
    whose = shlex.join(speaker_flags([speaker]))
    how = f"--init-from {shlex.quote(os.path.relpath(base))}" if base else "--preset small"
    next_steps = NEXT_STEPS.format(speaker=whose, base=compared, how=how)
    outcome = demo.speak(speaker, config, base)
    demo.write_report(speaker, config, outcome, next_steps)
    print(f"5/5  evaluation   {speaker.evaluation}", flush=True)
    evaluation, page = demo.evaluate_outputs(speaker, outcome, args.whisper_model)

    _tell(outcome.table)
    print()
    for finding in pages.findings(evaluation):
        print(finding.text)
    print(f"\nDone in {time.monotonic() - began:.0f} s. Listen: {speaker.outputs}/*/*.wav")
    print(f"Open in a browser: {speaker.report}")
    print(f"How far it is from the recordings, with intervals: {page}")
    if base is None:
        print("So few recordings give the speaker's timbre but not yet a reader; see the page.")
    print(f"\n{next_steps}")


def _train(speaker: Speaker, config: TrainConfig, base: Path | None) -> None:
    """Features, then the training, each where it isn't done yet."""
    from lewm import demo, weights
    from lewm.preprocess import prepare
    from lewm.train import train

    model_config, prepare_config = ModelConfig.tiny(), demo.PREPARE
    if base is not None:
        model_config = weights.describe(base)[0]
        language = next(iter(model_config.languages), prepare_config.language)
        prepare_config = dataclasses.replace(prepare_config, language=language)
    prepared = prepare(speaker, prepare_config, overwrite=True)
    print(
        f"2/5  features     {prepared.n_clips} clips, {prepared.seconds:.0f} s -> {prepared.folder}"
    )
    steps = [config.autoencoder_steps, config.speaker_steps, config.predictor_steps]
    shown = " + ".join(str(n) for n in steps if n)
    what = f"tuning {base}, " if base else ""
    print(f"3/5  training     {what}{shown} steps -> {speaker.lewm.folder}", flush=True)
    train([speaker.lewm.processed], speaker.lewm, model_config, config,
          init_from=base, overwrite=True, resume_command="make demo")  # fmt: skip


def _tell(table: Sequence[Mapping[str, object]]) -> None:
    print()
    for row in table:
        numbers = [f"{name} {value:.3g}" for name, value in row.items() if name != "what"]
        print("  ".join([f"{row['what']:32}", *numbers]))


if __name__ == "__main__":
    run(main)
