"""Turn a speaker's clips into codes for KaniTTS, with the columns of the public data sets.

Stop with Ctrl-C whenever you like; the same command goes on. Train with it by naming the folder in
configs/kani/dataset_config.yaml.

Example: python tools/kani_prepare.py --speaker ozzy --codec checkpoints/nanocodec.nemo
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from kani.config import ModelConfig, PrepareConfig
from kani.config_files import CONFIG_DIR, read
from ttscommon.cli import Parser, add_config_flags, add_device, add_training_root, given, run
from ttscommon.workspace import Speaker, SystemFolder


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, model, out, machine = map(
        parser.add_argument_group, ("data", "model", "output", "machine")
    )
    data.add_argument("--speaker", required=True, help="folder name under training/")
    add_training_root(data)
    add_config_flags(data, PrepareConfig, ["min_duration", "max_duration"])
    model.add_argument(
        "--codec", type=Path, required=True, help="weights of NanoCodec: .nemo or .safetensors"
    )
    model.add_argument(
        "--config-dir", type=Path, default=CONFIG_DIR, help="folder of the six YAML files"
    )
    model.add_argument(
        "--voice-encoder", type=Path,
        help="folder of it, for kani-tts-2: adds the speaker's embedding as column speaker_emb",
    )  # fmt: skip
    out.add_argument("--output-dir", type=Path, help="default: training/<speaker>/kani")
    add_device(machine)
    add_config_flags(machine, PrepareConfig, ["workers"])
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    speaker = Speaker(args.speaker, args.training_root)
    output = SystemFolder(args.output_dir) if args.output_dir else speaker.kani
    config = PrepareConfig(**given(args, PrepareConfig))
    space = read(ModelConfig, args.config_dir / "model_config.yaml").require().space
    from kani.preprocess import prepare  # torch loads here, so --help stays instant

    report = prepare(
        speaker,
        output,
        args.codec,
        config,
        space=space,
        speaker_encoder=args.voice_encoder,
        device=args.device,
    )
    minutes, share = report.seconds / 60, 100 * report.duplicate_share
    print(f"{report.n_clips} clips, {minutes:.1f} minutes, {report.n_encoded} encoded now")
    print(f"{share:.1f} % of the frames repeat the one before; remove_duplicate_frames drops them")
    print(f"Saved {report.folder}" + (f" and {report.voice}" if report.voice else ""))
    also = ", with speaker_emb: speaker_emb" if report.voice else ""
    print(f"Next: name it in {args.config_dir / 'dataset_config.yaml'} as reponame{also}, and")
    print(f"      python tools/kani_check_config.py --config-dir {args.config_dir}")


if __name__ == "__main__":
    run(main)
