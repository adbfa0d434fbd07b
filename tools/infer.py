"""Speak with IndexTTS2, in the voice of a recording or of a stored speaker.

Example: python tools/infer.py --speaker ozzy --text "Good morning. [pause:0.8] Coffee?"
Example: python tools/infer.py --reference-audio me.wav --text "Good morning."

With --speaker the stored voice speaks, by the best model that was trained for it: fully fine-tuned,
else with a LoRA adapter, else with a pattern of how the speaker speaks (and the adapter trained
around it), else the base; a line says which. `--model-type pattern` asks for the pattern.
Of a recording the first 15 seconds are used. `--save-speaker FILE` keeps its voice, so that
`--speaker-embeddings FILE` later speaks without the recording and the models that read it.
"""

from __future__ import annotations

import argparse
import secrets
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from indextts.config import DecodingConfig, SpeechConfig
from indextts.tuned import MODEL_TYPES, Tuned, choose, listing
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
from ttscommon.errors import UserError
from ttscommon.files import write_json
from ttscommon.outputs import read_texts, require_new, require_writable, speech_paths
from ttscommon.workspace import Speaker

SPEECH = ("max_text_tokens_per_segment", "interval_silence", "diffusion_steps", "cfg_rate",
          "duration_factor", "prompt_seconds")  # fmt: skip
DECODING = ("do_sample", "temperature", "top_k", "top_p", "repetition_penalty", "num_beams",
            "length_penalty", "max_mel_tokens", "typical_sampling", "typical_mass",
            "contiguous_positions")  # fmt: skip


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--text", "-t", help="what to say; may hold [pause:0.8]")
    data.add_argument("--text-file", type=Path, help="UTF-8 file with one text a line")
    data.add_argument("--speaker", "-s", help="folder name under training/")
    data.add_argument("--list-speakers", action="store_true", help="say who can speak, and leave")
    add_training_root(data)
    data.add_argument("--reference-audio", "-r", type=Path, help="recording of the voice")
    data.add_argument(
        "--speaker-embeddings", type=Path, help="stored voice (default: the speaker's)"
    )
    emotion = parser.add_argument_group("emotion")
    emotion.add_argument("--emotion-audio", type=Path, help="recording of the mood")
    emotion.add_argument("--emotion-alpha", type=float, default=1.0, help="strength of the mood")
    emotion.add_argument(
        "--emo-vector",
        type=float,
        nargs="+",
        help="happy angry sad afraid disgusted melancholic surprised calm, each from 0 to 1",
    )
    emotion.add_argument("--use-emo-text", action="store_true", help="read the mood from the text")
    emotion.add_argument("--emo-text", help="read it from this text instead")
    emotion.add_argument(
        "--use-random", action="store_true", help="with a vector: moods of random speakers"
    )
    decoding = parser.add_argument_group("decoding")
    decoding.add_argument("--seed", type=int, help="the same gives the same sound (default: drawn)")
    add_config_flags(decoding, DecodingConfig, DECODING)
    add_config_flags(decoding, SpeechConfig, SPEECH)
    _add_model_and_output(parser)
    return parser


def _add_model_and_output(parser: Parser) -> None:
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model-dir", type=Path, help="checkpoint folder (default: checkpoints/ or below it)"
    )
    model.add_argument("--config", type=Path, help="another config.yaml than that folder's")
    model.add_argument(
        "--model-type",
        choices=MODEL_TYPES,
        default="auto",
        help="which of the speaker's models; auto: finetune, else lora, else pattern, else base",
    )
    model.add_argument(
        "--gpt-checkpoint", type=Path, help="fully fine-tuned language model (default: by type)"
    )
    model.add_argument("--lora-path", type=Path, help="folder of an adapter (default: by type)")
    model.add_argument(
        "--lora-scale", type=float, help="strength of the adapter; 1 is as trained (default: 1)"
    )
    model.add_argument(
        "--pattern-scale", type=float, help="strength of the pattern; 1 is as trained, 0 none"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--output", "-o", type=Path, help="wave file (default: after the text)")
    output.add_argument("--output-dir", type=Path, help="folder for it (default: the speaker's)")
    output.add_argument("--save-speaker", type=Path, help="also store the voice in this .pt file")
    add_overwrite(output)
    add_json(output, "measured")
    machine = parser.add_argument_group("machine")
    add_device(machine)
    machine.add_argument("--amp", choices=("no", "bf16", "fp16"), default="no",
                         help="precision of the language model")  # fmt: skip
    machine.add_argument("--flow-dtype", choices=("fp32", "bf16"), default="fp32",
                         help="precision of the flow")  # fmt: skip
    machine.add_argument("--compile", action="store_true", help="fuse the steps; minutes to start")
    machine.add_argument(
        "--offload",
        action=argparse.BooleanOptionalAction,
        help="drop models that have done their part (default: on GPUs below 10 GB)",
    )
    add_config_flags(machine, SpeechConfig, ("batch_size",))


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    if args.list_speakers:
        print("\n".join(listing(args.training_root)))
        return
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    _require_inputs(parser, args)
    texts = read_texts(args.text_file) if args.text_file else [args.text] * (args.text is not None)
    folder = args.output_dir or (speaker.outputs if speaker else Path())
    paths = [args.output] if args.output else speech_paths(texts, folder, "indextts2")
    others = [path for path in (args.save_speaker, args.json) if path]
    if len(paths) < len(texts):
        parser.error("--output names one file; use --output-dir for several texts")
    _require_names(parser, args, [*paths, *others])
    require_new([*paths, *others], overwrite=args.overwrite)
    for path in others:
        require_writable(path)
    from indextts.infer_v2 import require_wav  # torch loads here
    from indextts.outputs import report
    from indextts.pattern_text import readable
    from indextts.speaker_embeddings import SpeakerEmbeddingStore
    from indextts.stored_voice import read_voice

    for path in paths:
        require_wav(path)
    stored = _stored(args, speaker)
    voice = read_voice(stored) if stored else None
    tuned = _model(parser, args, speaker)
    if tuned.pattern_path is not None:
        texts = [readable(text) for text in texts]
    _require_sense(args, texts)
    tts = _load(args, tuned)
    # Before the requests, which let go of the models that read recordings.
    heard = tts.voice(args.reference_audio) if args.save_speaker else None
    requests = _requests(tts, args, voice, texts)
    if heard is not None:
        SpeakerEmbeddingStore(tts).save_embeddings(heard, args.save_speaker)
        print(f"Saved {args.save_speaker}")
    results = list(_speak(tts, requests, texts, paths))
    if args.json:
        write_json(args.json, report(tts, results))
    if args.reference_audio and not args.save_speaker:
        words = ["python", "tools/infer.py", "--reference-audio", str(args.reference_audio)]
        print(f"Next: {shlex.join([*words, '--save-speaker', 'VOICE.pt'])}   # keeps the voice")


def _stored(args: argparse.Namespace, speaker: Speaker | None) -> Path | None:
    """The file of the voice, if it isn't a recording's."""
    if args.speaker_embeddings or args.reference_audio or speaker is None:
        return args.speaker_embeddings
    return speaker.speaker_embeddings


def _require_inputs(parser: Parser, args: argparse.Namespace) -> None:
    if args.text is not None and args.text_file is not None:
        parser.error("say what: --text TEXT or --text-file FILE, not both")
    if args.text is None and args.text_file is None and args.save_speaker is None:
        parser.error("say what: --text TEXT or --text-file FILE")
    if args.reference_audio is not None and args.speaker_embeddings is not None:
        parser.error("one voice: --reference-audio FILE or --speaker-embeddings FILE, not both")
    if not (args.reference_audio or args.speaker_embeddings or args.speaker):
        parser.error("say whose voice: --reference-audio FILE, --speaker-embeddings FILE "
                     "or --speaker NAME")  # fmt: skip
    if args.save_speaker is not None and args.reference_audio is None:
        parser.error("--save-speaker stores the voice of --reference-audio FILE")
    if args.use_random and args.emo_vector is None and not args.use_emo_text:
        parser.error("--use-random goes with --emo-vector or --use-emo-text")


def _require_names(parser: Parser, args: argparse.Namespace, paths: Sequence[Path]) -> None:
    """Refuse outputs of one name, or of one that says something else than what is in them."""
    for flag, path, suffix in (
        ("--json", args.json, ".json"),
        ("--save-speaker", args.save_speaker, ".pt"),
    ):
        if path is not None and path.suffix.lower() != suffix:
            parser.error(f"{flag} writes a {suffix} file, got {path}")
    if len({path.resolve() for path in paths}) < len(paths):
        parser.error("two outputs have the same name; one would replace the other")


def _require_sense(args: argparse.Namespace, texts: Sequence[str]) -> None:
    """Refuse now what would be refused once the weights are loaded."""
    from indextts.checkpoint import CheckpointFolder
    from indextts.wishes import checked, require_loadable

    settings = {**given(args, SpeechConfig), **given(args, DecodingConfig)}
    for text in texts or ["A voice to be stored."]:
        wishes = checked(
            text,
            settings,
            emo_alpha=args.emotion_alpha,
            emo_vector=args.emo_vector,
            seed=args.seed,
        )
    heard = None if args.emo_vector else args.emotion_audio
    require_loadable(
        CheckpointFolder.open(args.model_dir, cfg_path=args.config),
        wishes,
        recordings=[path for path in (args.reference_audio, heard) if path],
        reads_moods=args.use_emo_text or args.emo_text is not None,
    )


def _model(parser: Parser, args: argparse.Namespace, speaker: Speaker | None) -> Tuned:
    """The model that speaks, and a line that says which."""
    if args.lora_path or args.gpt_checkpoint or speaker is None:
        if args.model_type != "auto":
            parser.error("--model-type chooses among the models of --speaker; leave out one of "
                         "them, --lora-path or --gpt-checkpoint")  # fmt: skip
        if args.lora_path:
            return Tuned("lora", args.lora_path)
        return Tuned("finetune", args.gpt_checkpoint) if args.gpt_checkpoint else Tuned("base")
    tuned = choose(speaker, args.model_type)
    print(f"{speaker.name} speaks by {tuned}", flush=True)
    return tuned


def _load(args: argparse.Namespace, tuned: Tuned):
    """The model; an adapter that would change nothing is refused."""
    from indextts.infer_v2 import IndexTTS2
    from indextts.lora import adapter_effect

    pattern = _pattern(args, tuned)
    if args.lora_scale is not None and tuned.lora_path is None:
        raise UserError(
            f"--lora-scale, but {tuned} speaks", fix="leave it out, or --model-type lora"
        )
    tts = IndexTTS2(
        args.config,
        args.model_dir,
        device=args.device,
        use_torch_compile=args.compile,
        lora_path=tuned.lora_path,
        lora_scale=1.0 if args.lora_scale is None else args.lora_scale,
        gpt_checkpoint=args.gpt_checkpoint or tuned.gpt_checkpoint,
        amp=args.amp,
        flow_dtype=args.flow_dtype,
        offload=args.offload,
    )
    if tuned.lora_path is not None:
        effect = adapter_effect(tts.language_model.gpt)
        print(f"The adapter moves the logits by up to {effect:.3g}.", flush=True)
    if pattern is not None:
        from indextts.pattern_inference import require_effect, speak_in_manner

        scale = 1.0 if args.pattern_scale is None else args.pattern_scale
        speak_in_manner(tts, pattern, scale=scale)
        effect = require_effect(tts, pattern, scale)
        print(f"The pattern moves the first code's logits by up to {effect:.3g}.", flush=True)
    return tts


def _pattern(args: argparse.Namespace, tuned: Tuned):
    """The pattern that is to speak along, if there is one."""
    from indextts.pattern_embeddings import PatternEmbedding, require_scale

    if args.pattern_scale is not None:
        require_scale(args.pattern_scale)
        if tuned.pattern_path is None:
            fix = "leave it out, or --model-type pattern"
            raise UserError(f"--pattern-scale, but {tuned} speaks", fix=fix)
    return PatternEmbedding.load(tuned.pattern_path) if tuned.pattern_path else None


def _requests(tts, args: argparse.Namespace, voice, texts: list[str]) -> list:
    """One for each text, so that all of them are checked before the first is spoken."""
    seed = secrets.randbits(31) if args.seed is None else args.seed
    return [
        tts.request(
            args.reference_audio,
            text,
            emo_audio_prompt=args.emotion_audio,
            emo_alpha=args.emotion_alpha,
            emo_vector=args.emo_vector,
            use_emo_text=args.use_emo_text or args.emo_text is not None,
            emo_text=args.emo_text,
            use_random=args.use_random,
            speaker_embeddings=voice,
            seed=seed,
            **given(args, SpeechConfig),
            **given(args, DecodingConfig),
        )
        for text in texts
    ]


def _speak(tts, requests: list, texts: list[str], paths: list[Path]) -> Iterator[dict[str, Any]]:
    """Speak, write and tell of each request."""
    from tqdm import tqdm

    from indextts.outputs import write_speech

    is_shown = sys.stderr.isatty()
    n_segments = sum(request.n_segments for request in requests)
    with closing(tqdm(total=n_segments, unit="segment", disable=not is_shown)) as bar:
        for request, text, path in zip(requests, texts, paths, strict=True):
            speech = tts.speak(request, (lambda *_: bar.update()) if is_shown else None)
            yield write_speech(path, text, speech)
            bar.clear()
            print(f"{path}  {speech.summary}")


if __name__ == "__main__":
    run(main)
