"""Speak with a KaniTTS model: a released one, one that was trained here, or a base with an adapter.

How codes are drawn stands in inference_config.yaml; a flag wins over it. With --stream the sound is
decoded while it is being generated, and the time to the first of it is told.

Example: python tools/kani_infer.py --model-dir models/alice --codec nanocodec.nemo --text "Hello."
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from kani.config import InferenceConfig, ModelConfig
from kani.config_files import CONFIG_DIR, read
from kani.sampling import Sampling, Segments
from ttscommon.cli import (
    Parser,
    add_config_flags,
    add_device,
    add_json,
    add_overwrite,
    given,
    run,
)
from ttscommon.errors import UserError
from ttscommon.files import write_json
from ttscommon.outputs import read_texts, require_new, require_writable, speech_paths

log = logging.getLogger(__name__)

DECODING = ("temperature", "top_p", "repetition_penalty", "repetition_window", "max_new_tokens")
SEGMENTS = ("max_text_tokens_per_segment", "interval_silence")
PRECISIONS = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, decoding, model, out, machine = map(
        parser.add_argument_group, ("data", "decoding", "model", "output", "machine")
    )
    data.add_argument("--text", "-t", help="what to say")
    data.add_argument("--text-file", type=Path, help="UTF-8 file with one text a line")
    data.add_argument(
        "--speaker-id", help="as in dataset_config.yaml; for kani-tts-2 a language, such as en_us"
    )
    data.add_argument(
        "--reference-audio", "-r", type=Path, nargs="+", metavar="FILE",
        help="for kani-tts-2: recordings of the voice, with --voice-encoder",
    )  # fmt: skip
    data.add_argument("--embeddings", "-e", type=Path, help="the same as a stored embedding")
    decoding.add_argument("--seed", type=int, help="the same gives the same sound (default: 0)")
    add_config_flags(decoding, Sampling, DECODING)
    add_config_flags(decoding, Segments, SEGMENTS)
    decoding.add_argument("--stream", action="store_true", help="decode while generating")
    model.add_argument("--model-dir", type=Path, required=True, help="folder of the model")
    model.add_argument(
        "--codec", type=Path, required=True, help="weights of NanoCodec: .nemo or .safetensors"
    )
    model.add_argument(
        "--voice-encoder", type=Path, help="folder of it, which hears --reference-audio"
    )
    model.add_argument("--lora-path", type=Path, help="folder of an adapter")
    model.add_argument(
        "--lora-scale", type=float, help="strength of the adapter; 1 is as trained (default: 1)"
    )
    model.add_argument(
        "--config-dir", type=Path, default=CONFIG_DIR, help="folder of the six YAML files"
    )
    out.add_argument("--output", "-o", type=Path, help="wave file (default: after the text)")
    out.add_argument("--output-dir", type=Path, default=Path(), help="folder for it")
    add_overwrite(out)
    add_json(out, "measured")
    add_device(machine)
    machine.add_argument(
        "--amp", choices=tuple(PRECISIONS),
        help="precision of the language model (default: by the files on a GPU, no on a CPU)",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    _require_inputs(parser, args)
    config: InferenceConfig = read(
        InferenceConfig, args.config_dir / "inference_config.yaml"
    ).require()
    sampling = _sampling(args, config)
    texts = read_texts(args.text_file) if args.text_file else [args.text]
    texts = [text for text in texts for _ in range(config.generation.num_return_sequences)]
    paths = [args.output] if args.output else speech_paths(texts, args.output_dir, "kani")
    if len(paths) < len(texts):
        parser.error("--output names one file; use --output-dir for several")
    others = [args.json] if args.json else []
    require_new([*paths, *others], overwrite=args.overwrite)
    for path in (paths[0], *others):
        require_writable(path)
    embedding = _embedding(args)
    voice = _voice(args, config)
    _warn_of_speaker(args, texts)
    speak = _streamed if args.stream else _at_once
    how = {
        "speaker": args.speaker_id,
        "speaker_embedding": embedding,
        "sampling": sampling,
        "segments": Segments(**given(args, Segments)),
    }
    results = list(speak(voice, how, texts, paths))
    if args.json:
        write_json(args.json, _report(args, sampling, results))
    silent = [one["text"] for one in results if one["path"] is None]
    if silent:
        raise UserError(
            f"nothing was said for {len(silent)} of {len(texts)} texts: '{silent[0][:40]}'",
            fix="another --seed, or a model that was trained longer",
        )


def _require_inputs(parser: Parser, args: argparse.Namespace) -> None:
    if (args.text is None) == (args.text_file is None):
        parser.error("say what: --text TEXT or --text-file FILE")
    if args.output and args.output.suffix.lower() != ".wav":
        parser.error(f"--output writes a .wav file, got {args.output}")
    if args.lora_scale is not None and args.lora_path is None:
        parser.error("--lora-scale is the strength of --lora-path FOLDER")
    if bool(args.voice_encoder) != bool(args.reference_audio):
        parser.error("--reference-audio FILE and --voice-encoder FOLDER go together")
    if args.embeddings and args.reference_audio:
        parser.error("one voice: --reference-audio FILE or --embeddings FILE, not both")


def _sampling(args: argparse.Namespace, config: InferenceConfig) -> Sampling:
    return config.generation.sampling(**{**given(args, Sampling), "seed": args.seed or 0})


def _embedding(args: argparse.Namespace) -> Any:
    """Of the voice, if one is given; what can't be used is told before the model is read."""
    if not (args.embeddings or args.reference_audio):
        return None
    from kani.projection import dim_in
    from kani.speaker_embedding import read_embedding, voice_of
    from ttscommon.machine import pick_device

    dim_in(args.model_dir)
    if args.embeddings:
        return read_embedding(args.embeddings)
    return voice_of(args.reference_audio, args.voice_encoder, pick_device(args.device))


def _voice(args: argparse.Namespace, config: InferenceConfig) -> Any:
    """The model, the codec and the adapter."""
    space = read(ModelConfig, args.config_dir / "model_config.yaml").require().space
    import torch

    from kani.inference import KaniVoice
    from ttscommon.machine import on_cpu

    device = config.model.device_map if args.device == "auto" else args.device
    wanted = config.model.torch_dtype.replace("auto", "bfloat16")
    name = PRECISIONS[args.amp] if args.amp else "float32" if on_cpu(device) else wanted
    return KaniVoice.open(
        args.model_dir,
        args.codec,
        adapter=args.lora_path,
        scale=1.0 if args.lora_scale is None else args.lora_scale,
        space=space,
        device=device,
        dtype=getattr(torch, name),
    )


def _warn_of_speaker(args: argparse.Namespace, texts: Sequence[str]) -> None:
    """A prompt with another beginning than those it learned is one that a model has never seen."""
    from kani.outputs import learned_voices, trained_speakers
    from kani.tokens import speaker_prefix

    names = trained_speakers(args.model_dir, args.lora_path)
    known = tuple(map(speaker_prefix, names))
    prompts = [speaker_prefix(args.speaker_id) + text.lower() for text in texts]
    strange = [text for text in prompts if not text.startswith(known)]
    if names and strange:
        shown = ", ".join(names), strange[0][:60]
        log.warning("this model was trained with --speaker-id %s: '%s'", *shown)
    is_told = args.embeddings or args.reference_audio
    if not is_told and learned_voices(args.model_dir, args.lora_path):
        log.warning("this model was trained with speaker embeddings: --embeddings FILE")


def _at_once(
    voice: Any, how: dict[str, Any], texts: list[str], paths: list[Path]
) -> Iterator[dict[str, Any]]:
    start = time.perf_counter()
    speeches = voice.say(texts, **how)
    seconds = time.perf_counter() - start
    share = seconds / max(sum(speech.seconds for speech in speeches), 1e-9)
    for text, path, speech in zip(texts, paths, speeches, strict=True):
        segments = list(speech.segments) or [text]
        told = {
            "segments": segments,
            "problem": speech.extracted.problem,
            "n_frames": speech.extracted.codes.shape[1],
        }
        yield _tell(text, path, speech.audio, speech.sample_rate, {**told, "rtf": share})


def _streamed(
    voice: Any, how: dict[str, Any], texts: list[str], paths: list[Path]
) -> Iterator[dict[str, Any]]:
    import numpy as np

    rate = voice.codec.config.sample_rate
    for text, path in zip(texts, paths, strict=True):
        start, first, sounds = time.perf_counter(), None, []
        for sound in voice.stream(text, **how):
            first = first or time.perf_counter() - start
            sounds.append(sound)
        audio = np.concatenate(sounds) if sounds else np.zeros(0, np.float32)
        share = (time.perf_counter() - start) / max(len(audio) / rate, 1e-9)
        segments = voice.cut(text, how["sampling"], how["segments"])
        told = {"segments": segments, "first_sound": first, "rtf": share}
        yield _tell(text, path, audio, rate, told)


def _tell(text: str, path: Path, sound: Any, rate: int, told: dict[str, Any]) -> dict[str, Any]:
    """Write a wave file, and say so."""
    from ttscommon import audio

    duration = len(sound) / rate
    if not len(sound):
        return {"text": text, "path": None, "duration": 0.0, **told}
    audio.save(path, sound, rate)
    first = f"  first sound after {told['first_sound']:.2f} s" if told.get("first_sound") else ""
    n = len(told["segments"])
    cut = f"  in {n} segments: the text is longer than an answer" if n > 1 else ""
    print(f"{path}  {duration:.2f} s  RTF {told['rtf']:.3f}{first}{cut}")
    return {"text": text, "path": str(path), "duration": duration, **told}


def _report(
    args: argparse.Namespace, sampling: Sampling, results: list[dict[str, Any]]
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "format": "kani.speech",
        "version": 1,
        "model": str(args.model_dir),
        "codec": str(args.codec),
        "lora": str(args.lora_path) if args.lora_path else None,
        "speaker_id": args.speaker_id,
        "voice": [str(path) for path in args.reference_audio or [args.embeddings] if path],
        "sampling": asdict(sampling),
        "results": results,
    }


if __name__ == "__main__":
    run(main)
