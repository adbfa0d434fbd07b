"""Speak with a LeWM-TTS voice.

Example: python tools/lewm_infer.py --speaker ozzy --text "Good morning."

Where no voice is named, the one that comes with this repository speaks.
`--mode reconstruct` and `--mode predict` take a recording (`--mel`) instead and show what the
autoencoder alone, and the predictor with the true past, make of it.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from lewm.embedded_voice import EMBEDDED_SPEAKER, EMBEDDED_VOICE
from ttscommon.cli import Parser, add_device, add_json, add_overwrite, add_training_root, run
from ttscommon.errors import UserError
from ttscommon.files import write_json
from ttscommon.outputs import read_texts, require_new, speech_paths
from ttscommon.workspace import Speaker, resolve_checkpoint, speaker_flags

log = logging.getLogger("lewm_infer")


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--speaker", help="folder name under training/")
    add_training_root(data)
    data.add_argument("--checkpoint", type=Path, help="checkpoint (default: the speaker's best)")
    data.add_argument("--text", help="what to say")
    data.add_argument("--text-file", type=Path, help="UTF-8 file with one text a line")
    data.add_argument("--mode", choices=("synthesize", "reconstruct", "predict"),
                      default="synthesize", help="what to do")  # fmt: skip
    data.add_argument(
        "--mel",
        type=Path,
        help="recording, or mel as .pt, .npy, .safetensors; for predict its words are --text, "
        "or a .txt file beside it",
    )
    voice = parser.add_argument_group("voice")
    voice.add_argument("--voice", help="voice of a checkpoint with several (default: --speaker)")
    voice.add_argument("--language", help="row of its language table")
    voice.add_argument(
        "--reading",
        choices=("auto", "letters", "phonemes"),
        default="auto",
        help="how to read, for a voice that can both; auto: phonemes where espeak-ng is",
    )
    voice.add_argument("--prompt-audio", type=Path, help="clip to go on from")
    voice.add_argument("--prompt-text", help="what is said in it")
    voice.add_argument("--temperature", type=float, default=0.6, help="liveliness, head flow only")
    voice.add_argument(
        "--free-attention",
        action="store_true",
        help="don't hold the guided heads near the place they have read",
    )
    voice.add_argument("--seed", type=int, default=0, help="names the noise, head flow only")
    output = parser.add_argument_group("output")
    output.add_argument("--output", type=Path, help="wave file (default: named after the text)")
    output.add_argument("--output-dir", type=Path, help="folder for it (default: the speaker's)")
    add_overwrite(output)
    add_json(output, "measured")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--vocoder", default="auto", help="auto, griffinlim or vocos:FOLDER")
    add_device(machine)
    machine.add_argument("--amp", choices=("no", "bf16", "fp16"), default="no", help="precision")
    machine.add_argument("--batch-size", type=int, default=64, help="sentences at once")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    _require_inputs(parser, args)
    checkpoint, folder = _places(args)
    from lewm.inference_engine import PRECISIONS, Engine, GenerationSettings  # torch loads here
    from lewm.text import has_espeak
    from lewm.window import DEFAULT_WINDOW

    texts = read_texts(args.text_file) if args.text_file else [args.text or ""]
    names = texts if args.mode == "synthesize" else [f"{args.mode} {args.mel.stem}"]
    paths = [args.output] if args.output else speech_paths(names, folder, "lewm")
    if len(paths) < len(texts):
        parser.error("--output names one file; use --output-dir for several texts")
    require_new([*paths, *([args.json] if args.json else [])], overwrite=args.overwrite)
    engine = Engine(
        checkpoint,
        device=args.device,
        dtype=PRECISIONS[args.amp],
        vocoder=args.vocoder,
        settings=GenerationSettings(
            temperature=args.temperature,
            batch_size=args.batch_size,
            window=None if args.free_attention else DEFAULT_WINDOW,
        ),
    )
    if engine.model.config.text_form == "mixed" and args.reading == "auto" and not has_espeak():
        log.warning("no espeak-ng command here, so the voice goes by the letters")
    results = [_tell(path, speech) for path, speech in _speak(engine, args, texts, paths)]
    print(f"vocoder: {engine.vocoder.name}")
    if args.json:
        write_json(args.json, {"vocoder": engine.vocoder.name, "results": results})
    if args.speaker and args.mode == "synthesize":
        whose = shlex.join(speaker_flags([Speaker(args.speaker, args.training_root)]))
        print(f"Next: python tools/lewm_infer.py {whose} --mode reconstruct "
              "--mel RECORDING.wav   # the best this checkpoint could sound")  # fmt: skip


def _places(args: argparse.Namespace) -> tuple[Path, Path]:
    """The checkpoint, and the folder that speech goes to."""
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    checkpoint = args.checkpoint or (speaker.lewm.best_checkpoint if speaker else EMBEDDED_VOICE)
    if checkpoint == EMBEDDED_VOICE and not (checkpoint / "config.json").is_file():
        raise UserError(
            "nobody is named to speak, and the embedded voice isn't here",
            where=checkpoint,
            fix="--speaker NAME or --checkpoint FOLDER; examples/embedded_voice says how it's made",
        )
    return resolve_checkpoint(checkpoint), args.output_dir or (
        speaker.outputs if speaker else Path()
    )


def _require_inputs(parser: Parser, args: argparse.Namespace) -> None:
    if args.mode == "synthesize" and (args.text is None) == (args.text_file is None):
        parser.error("say what: --text TEXT or --text-file FILE")
    if args.mode != "synthesize" and args.mel is None:
        parser.error(f"--mode {args.mode} needs --mel FILE, a recording or a mel")
    if args.mode != "synthesize" and args.text_file is not None:
        parser.error(f"--mode {args.mode} takes one recording, not a file of texts")


def _speak(engine, args: argparse.Namespace, texts: list[str], paths: list[Path]):
    from lewm import inference
    from lewm.outputs import speak_to_files
    from ttscommon import audio

    if args.mode == "predict" and args.text is None:
        texts = [inference.words_beside(args.mel)]
    home = args.speaker or (None if args.checkpoint else EMBEDDED_SPEAKER)
    prompt = audio.load(args.prompt_audio, engine.recipe.sample_rate) if args.prompt_audio else None
    requests = [
        inference.Request(
            text=text,
            speaker=engine.voice(args.voice, home),
            language=args.language,
            prompt_audio=prompt,
            prompt_text=args.prompt_text,
            seed=args.seed,
            reading=args.reading,
        )
        for text in texts
    ]
    if args.mode == "synthesize":
        yield from speak_to_files(engine, requests, paths)
        return
    mel = inference.load_mel(args.mel, engine.recipe)
    if args.mode == "reconstruct":
        speech = inference.reconstruct(engine, mel)
    else:
        speech = inference.predict(engine, mel, requests[0])
    audio.save(paths[0], speech.audio, speech.sample_rate)
    yield paths[0], speech


def _tell(path: Path, speech) -> dict[str, object]:
    stages = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in speech.seconds.items())
    print(f"{path}  {speech.duration:.2f} s  RTF {speech.real_time_factor:.3f}  ({stages})")
    if speech.ran_away:
        log.warning("warning: %s ran away: the voice found no end and was cut", path)
    return {
        "path": str(path),
        "duration": speech.duration,
        "rtf": speech.real_time_factor,
        "seconds": speech.seconds,
        "ran_away": speech.ran_away,
    }


if __name__ == "__main__":
    run(main)
