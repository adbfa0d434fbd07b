"""Speak in a person's voice and manner: with their pauses, fillers and pace, on new text.

Everything is as in tools/infer.py, the trained pattern besides; `--pattern-scale 0` is without it.
Afterwards the pauses of the speech are told next to the speaker's own, and with `--whisper-model`
its fillers, stutters and pace.

Example: python tools/infer_with_patterns.py --speaker ozzy --text "Life finds a way, you know?"
Example: python tools/infer_with_patterns.py --speaker ozzy --reference-audio anna.wav --text "Hi."
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from indextts.config import DecodingConfig, SpeechConfig
from ttscommon.cli import (
    Parser,
    add_config_flags,
    add_device,
    add_json,
    add_overwrite,
    add_training_root,
    given,
    run,
)
from ttscommon.files import write_json
from ttscommon.outputs import read_texts, require_new, require_writable, speech_paths
from ttscommon.workspace import Speaker

if TYPE_CHECKING:
    from indextts.infer_v2 import IndexTTS2
    from indextts.pattern_embeddings import PatternEmbedding

SPEECH = ("max_text_tokens_per_segment", "interval_silence", "diffusion_steps", "cfg_rate",
          "duration_factor", "prompt_seconds")  # fmt: skip
DECODING = ("do_sample", "temperature", "top_k", "top_p", "repetition_penalty", "num_beams",
            "length_penalty", "max_mel_tokens")  # fmt: skip


def pattern_aware_inference(
    tts: IndexTTS2,
    pattern_embedding: PatternEmbedding,
    text: str,
    output_path: Path | str | None = None,
    audio_prompt: Path | str | None = None,
    *,
    pattern_scale: float = 1.0,
    injection_mode: str | None = None,
    **options: Any,
) -> Any:
    """Speak a text in a trained manner: `IndexTTS2.infer` with the pattern put in.

    Args:
        text: marks such as [UM] and [PAUSE] are read as the training read them
        audio_prompt: a recording of the voice, any; or `speaker_embeddings` among the options
        pattern_scale: 1 as it was trained, 0 as without it
        injection_mode: the one it was trained with, or None
        options: further arguments of `IndexTTS2.infer`

    Returns:
        what `IndexTTS2.infer` returns

    Raises:
        UserError: if the pattern is of another base or mode, and as `IndexTTS2.infer` does
    """
    from indextts.pattern_inference import speaking_with
    from indextts.pattern_text import readable

    way = {"scale": pattern_scale, "injection_mode": injection_mode}

    def streamed() -> Iterator[Any]:
        with speaking_with(tts, pattern_embedding, **way):
            yield from tts.infer(audio_prompt, readable(text), output_path, **options)

    if options.get("stream_return"):
        return streamed()
    with speaking_with(tts, pattern_embedding, **way):
        return tts.infer(audio_prompt, readable(text), output_path, **options)


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, pattern, emotion, decoding = map(
        parser.add_argument_group, ("data", "pattern", "emotion", "decoding")
    )
    data.add_argument(
        "--text",
        "-t",
        action="append",
        help="what to say; may hold [pause:0.8]; may be given several times",
    )
    data.add_argument("--text-file", type=Path, help="UTF-8 file with one text a line")
    data.add_argument("--speaker", "-s", help="folder name under training/")
    add_training_root(data)
    data.add_argument("--reference-audio", "-r", type=Path, help="recording of the voice, any")
    data.add_argument("--audio-prompt", type=Path, dest="reference_audio",
                      help="the same as --reference-audio")  # fmt: skip
    data.add_argument(
        "--speaker-embeddings", type=Path, help="stored voice (default: the speaker's)"
    )
    pattern.add_argument(
        "--pattern-embedding", type=Path, help="pattern_embedding.pt (default: the speaker's best)"
    )
    pattern.add_argument("--pattern-scale", type=float, default=1.0,
                         help="strength of the pattern; 1 is as trained, 0 none")  # fmt: skip
    pattern.add_argument("--injection-mode", choices=("add", "prepend", "replace_first"),
                         help="refuse a pattern of another one (default: as trained)")  # fmt: skip
    pattern.add_argument(
        "--whisper-model",
        default="none",
        help="to hear fillers and pace: name, .pt or CTranslate2 folder; or none",
    )
    pattern.add_argument("--language", "-l", default="en", help="of the text, for that")
    emotion.add_argument("--emotion-audio", type=Path, help="recording of the mood")
    emotion.add_argument("--emotion-alpha", type=float, default=1.0, help="strength of the mood")
    emotion.add_argument(
        "--emo-vector",
        type=float,
        nargs="+",
        help="happy angry sad afraid disgusted melancholic surprised calm, each from 0 to 1",
    )
    decoding.add_argument("--seed", type=int, help="the same gives the same sound (default: drawn)")
    add_config_flags(decoding, DecodingConfig, DECODING)
    add_config_flags(decoding, SpeechConfig, SPEECH)
    _add_model_and_output(parser)
    return parser


def _add_model_and_output(parser: Parser) -> None:
    model, output, machine = map(parser.add_argument_group, ("model", "output", "machine"))
    model.add_argument("--model-dir", type=Path, help="checkpoint folder (default: checkpoints/)")
    model.add_argument("--config", type=Path, help="another config.yaml than that folder's")
    model.add_argument(
        "--lora-path", type=Path, help="folder of an adapter (default: trained with the pattern)"
    )
    model.add_argument("--lora-scale", type=float, default=1.0, help="strength of the adapter")
    output.add_argument("--output", "-o", type=Path, help="wave file (default: after the text)")
    output.add_argument("--output-dir", type=Path, help="folder for it (default: the speaker's)")
    add_overwrite(output)
    add_json(output, "measured")
    add_device(machine)
    machine.add_argument("--amp", choices=("no", "bf16", "fp16"), default="no",
                         help="precision of the language model")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    texts, paths = _wanted(parser, args, speaker)
    from indextts.infer_v2 import require_wav  # torch loads here
    from indextts.pattern_embeddings import PatternEmbedding, require_scale
    from indextts.pattern_inference import require_effect, speaking_with, trained_pattern

    require_scale(args.pattern_scale)
    for path in paths:
        require_wav(path)
    file = args.pattern_embedding or (trained_pattern(speaker) if speaker else None)
    if file is None:
        parser.error("say in whose manner: --speaker NAME or --pattern-embedding FILE")
    pattern = PatternEmbedding.load(file, injection_mode=args.injection_mode)
    _require_sense(args, texts)
    tts = _load(args, file)
    with speaking_with(tts, pattern, scale=args.pattern_scale):
        effect = require_effect(tts, pattern, args.pattern_scale)
        print(f"{file} moves the first code's logits by up to {effect:.3g}.", flush=True)
        _speak(tts, args, pattern, speaker, texts, paths)


def _wanted(
    parser: Parser, args: argparse.Namespace, speaker: Speaker | None
) -> tuple[list[str], list[Path]]:
    """What to say, and the files for it."""
    if (args.text is None) == (args.text_file is None):
        parser.error("say what: --text TEXT or --text-file FILE, one of them")
    if not (args.reference_audio or args.speaker_embeddings or speaker):
        parser.error("say whose voice: --reference-audio FILE, --speaker-embeddings FILE "
                     "or --speaker NAME")  # fmt: skip
    texts = read_texts(args.text_file) if args.text_file else args.text
    folder = args.output_dir or (speaker.outputs if speaker else Path())
    paths = [args.output] if args.output else speech_paths(texts, folder, "patterns")
    if len(paths) < len(texts):
        parser.error("--output names one file; use --output-dir for several texts")
    require_new([*paths, *([args.json] if args.json else [])], overwrite=args.overwrite)
    if args.json:
        require_writable(args.json)
    return texts, paths


def _require_sense(args: argparse.Namespace, texts: Sequence[str]) -> None:
    """Refuse now what would be refused once the weights are loaded."""
    from indextts.checkpoint import CheckpointFolder
    from indextts.pattern_text import readable
    from indextts.wishes import checked, require_loadable

    settings = {**given(args, SpeechConfig), **given(args, DecodingConfig)}
    mood = {"emo_alpha": args.emotion_alpha, "emo_vector": args.emo_vector}
    wishes = [checked(readable(text), settings, **mood, seed=args.seed) for text in texts]
    heard = None if args.emo_vector else args.emotion_audio
    folder = CheckpointFolder.open(args.model_dir, cfg_path=args.config)
    recordings = [path for path in (args.reference_audio, heard) if path]
    require_loadable(folder, wishes[0], recordings=recordings)


def _load(args: argparse.Namespace, pattern: Path) -> IndexTTS2:
    from indextts.infer_v2 import IndexTTS2
    from indextts.tuned import adapter_beside

    return IndexTTS2(
        args.config,
        args.model_dir,
        device=args.device,
        lora_path=args.lora_path or adapter_beside(pattern),
        lora_scale=args.lora_scale,
        amp=args.amp,
    )


def _speak(
    tts: IndexTTS2,
    args: argparse.Namespace,
    pattern: PatternEmbedding,
    speaker: Speaker | None,
    texts: Sequence[str],
    paths: Sequence[Path],
) -> None:
    from indextts.outputs import report, write_speech
    from indextts.pattern_inference import produced_rates, told_rates
    from indextts.pattern_text import readable
    from ttscommon.transcribe import load_transcriber

    stored = args.speaker_embeddings
    if speaker is not None and stored is None and args.reference_audio is None:
        stored = speaker.speaker_embeddings
    seed = secrets.randbits(31) if args.seed is None else args.seed
    requests = [
        tts.request(
            args.reference_audio,
            readable(text),
            emo_audio_prompt=args.emotion_audio,
            emo_alpha=args.emotion_alpha,
            emo_vector=args.emo_vector,
            speaker_embeddings=stored,
            seed=seed,
            **given(args, SpeechConfig),
            **given(args, DecodingConfig),
        )
        for text in texts
    ]
    hears = args.whisper_model != "none"
    transcriber = load_transcriber(args.whisper_model, args.device) if hears else None
    speeches, results = [], []
    for request, text, path in zip(requests, texts, paths, strict=True):
        speeches.append(tts.speak(request))
        results.append(write_speech(path, text, speeches[-1]))
        print(f"{path}  {speeches[-1].summary}", flush=True)
    found = produced_rates(speeches, transcriber=transcriber, language=args.language)
    wanted = dict(pattern.origin.rates)
    print("\n".join(told_rates(wanted, found)))
    if args.json:
        rates = {"speaker": wanted, "spoken": found, "pattern_scale": args.pattern_scale}
        write_json(args.json, {**report(tts, results), "rates": rates})


if __name__ == "__main__":
    run(main)
