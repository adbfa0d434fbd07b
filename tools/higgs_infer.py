"""Speak with Higgs Audio v2: in any voice, in that of a recording, or by a trained adapter.

With --speaker a clip of theirs is the reference, and their adapter speaks if one was trained; a
line says which. A text may be a dialogue: [SPEAKER0] and [SPEAKER1] take turns, each in the voice
of a reference, in order. Long texts are spoken in segments. A segment of wrong length or of silence
is tried again with the next seed. What is wrong with the sound is told, and written with --json.

Example: python tools/higgs_infer.py --text "Good morning."
Example: python tools/higgs_infer.py --speaker ozzy --text "Good morning."
Example: python tools/higgs_infer.py --reference-audio me.wav --text "Hello."
Example: python tools/higgs_infer.py --text "[SPEAKER0] Tea? [SPEAKER1] Coffee, please."
Example: python tools/higgs_infer.py --speaker ozzy --text-file texts.txt --output-dir out/tuned
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from higgs_trainer.speaking_config import Sampling, SpeakingConfig
from higgs_trainer.train_flags import add_models, add_precision, add_writing, models, writing
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
from ttscommon.outputs import require_new, require_writable
from ttscommon.workspace import Speaker

SPEAKING = ("max_text_tokens_per_segment", "interval_silence", "context_segments", "retries",
            "batch_size", "system", "scene")  # fmt: skip
SAMPLING = ("temperature", "top_k", "top_p", "repetition_window", "max_repetitions")


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, voice, decoding, model, out, machine = map(
        parser.add_argument_group, ("data", "voice", "decoding", "model", "output", "machine")
    )
    data.add_argument("--text", "-t", help="what to say; may hold [SPEAKER0] and [laugh]")
    data.add_argument(
        "--text-file", type=Path, help="UTF-8 file: one text a line; .json, .jsonl: also samples"
    )
    add_writing(data)
    voice.add_argument("--speaker", "-s", help="folder name under training/")
    add_training_root(voice)
    voice.add_argument(
        "--reference-audio", "-r", type=Path, nargs="+", help="recording of the voice; one for each"
    )
    voice.add_argument(
        "--reference-text", nargs="+", help="what is said in it (default: a .txt file beside it)"
    )
    voice.add_argument("--no-reference", action="store_true", help="by the speaker's adapter alone")
    decoding.add_argument("--seed", type=int, help="the same gives the same sound (default: 0)")
    add_config_flags(decoding, Sampling, SAMPLING)
    add_config_flags(decoding, SpeakingConfig, SPEAKING)
    add_models(model)
    model.add_argument("--model-type", choices=("auto", "lora", "base"), default="auto",
                       help="auto: the speaker's adapter if there is one")  # fmt: skip
    model.add_argument("--lora-path", type=Path, help="folder of an adapter (default: by type)")
    model.add_argument(
        "--lora-scale", type=float, help="strength of the adapter; 1 is as trained (default: 1)"
    )
    out.add_argument("--output", "-o", type=Path, help="wave file (default: after the text)")
    out.add_argument(
        "--output-dir", type=Path, help="folder for it, with a table of texts for evaluate.py"
    )
    add_overwrite(out)
    add_json(out, "measured")
    add_device(machine)
    add_precision(machine)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    _require_inputs(parser, args)
    config = SpeakingConfig(**given(args, SpeakingConfig))
    sampling = Sampling(**{**given(args, Sampling), "seed": args.seed or 0})
    networks = models(args)
    from higgs_trainer.outputs import Wanted, paths_of, read_wanted  # torch loads here

    wanted = read_wanted(args.text_file) if args.text_file else [Wanted(args.text)]
    folder = args.output_dir or (speaker.outputs if speaker else Path())
    paths = [args.output] if args.output else paths_of(wanted, folder, args.seed)
    if len(paths) < len(wanted):
        parser.error("--output names one file; use --output-dir for several texts")
    others = [args.json] if args.json else []
    require_new([*paths, *others], overwrite=args.overwrite)
    for path in (paths[0], *others):
        require_writable(path)
    narrator, model = _narrator(args, speaker, networks, config, sampling)
    seconds = sum(  # refuses what can't be said
        narrator.usual_seconds(one.conversation or one.text) for one in wanted
    )
    results = _speak(args, narrator, wanted, paths, seconds)
    if args.json:
        from higgs_trainer.outputs import report

        write_json(args.json, report(narrator.voice, model, results))
    silent = [one["text"] for one in results if one["path"] is None]
    if silent:
        raise UserError(
            f"nothing was said for {len(silent)} of {len(wanted)} texts: '{silent[0][:40]}'",
            fix="another --seed, or a higher --temperature",
        )
    if args.output_dir:
        print(f"Next: python tools/evaluate.py base=FOLDER tuned={args.output_dir}")


def _require_inputs(parser: Parser, args: argparse.Namespace) -> None:
    if (args.text is None) == (args.text_file is None):
        parser.error("say what: --text TEXT or --text-file FILE")
    if args.output and args.output_dir:
        parser.error("--output names the file; leave out --output-dir")
    if args.output and args.output.suffix.lower() != ".wav":
        parser.error(f"--output writes a .wav file, got {args.output}")
    texts, recordings = args.reference_text or [], args.reference_audio or []
    if texts and len(texts) != len(recordings):
        parser.error(f"{len(recordings)} recordings, but {len(texts)} texts of what is said in "
                     "them")  # fmt: skip
    if args.no_reference and recordings:
        parser.error("--no-reference, or --reference-audio FILE")
    if args.lora_path and args.model_type != "auto":
        parser.error("--model-type chooses the speaker's adapter or the base; leave out one of "
                     "them, --model-type or --lora-path")  # fmt: skip
    if args.model_type == "lora" and not args.speaker:
        parser.error("--model-type lora is the adapter of --speaker NAME")


def _narrator(
    args: argparse.Namespace,
    speaker: Speaker | None,
    networks: Any,
    config: SpeakingConfig,
    sampling: Sampling,
) -> tuple[Any, dict[str, Any]]:
    """The voice with its references, and what is to be told about it."""
    from higgs_trainer.inference import HiggsVoice
    from higgs_trainer.own_voice import adapter_of
    from higgs_trainer.speaking import Narrator
    from ttscommon.config import to_dict

    adapter = args.lora_path or (adapter_of(speaker, args.model_type) if speaker else None)
    if args.lora_scale is not None and adapter is None:
        raise UserError("--lora-scale, but the base speaks", fix="leave it out, or --lora-path DIR")
    references = _references(args, speaker)
    scale = 1.0 if args.lora_scale is None else args.lora_scale
    print(f"Speaks by {adapter or 'the base'}", flush=True)
    for number, one in enumerate(references):
        print(f"Reference of [SPEAKER{number}]: {one.path}", flush=True)
    voice = HiggsVoice.open(
        networks.checkpoint,
        networks.codec,
        adapter=adapter,
        scale=scale,
        wishes=networks.wishes,
        text=writing(args),
        device=args.device,
        dtype=_dtype(args),
    )
    narrator = Narrator(voice, config, sampling, [voice.heard(one) for one in references])
    return narrator, {
        "model": str(networks.checkpoint),
        "lora": {"folder": str(adapter), "scale": scale} if adapter else None,
        "references": [{"path": str(one.path), "text": one.text} for one in references],
        "sampling": to_dict(sampling),
        "speaking": to_dict(config),
    }


def _references(args: argparse.Namespace, speaker: Speaker | None) -> list[Any]:
    from higgs_trainer.outputs import reference_with_text
    from higgs_trainer.own_voice import reference_of

    if args.reference_audio:
        texts = args.reference_text or [None] * len(args.reference_audio)
        pairs = zip(args.reference_audio, texts, strict=True)
        return [reference_with_text(path, text) for path, text in pairs]
    return [] if speaker is None or args.no_reference else [reference_of(speaker)]


def _dtype(args: argparse.Namespace) -> Any:
    import torch

    return torch.bfloat16 if getattr(args, "amp", "no") == "bf16" else torch.float32


def _speak(
    args: argparse.Namespace, narrator: Any, wanted: Any, paths: Sequence[Path], seconds: float
) -> list[dict[str, Any]]:
    """Speak, write and tell of each text."""
    from higgs_trainer.outputs import add_transcripts, write_spoken
    from higgs_trainer.text import words_of
    from ttscommon.sound_progress import SoundProgress

    results = []
    size = narrator.config.batch_size
    pairs = list(zip(wanted, paths, strict=True))
    with closing(SoundProgress("spoken", seconds)) as progress:
        for start in range(0, len(pairs), size):
            batch = pairs[start : start + size]
            told = narrator.tell_all(
                [one.conversation or one.text for one, _ in batch], progress.advance
            )
            for (one, path), spoken in zip(batch, told, strict=True):
                results.append(write_spoken(path, one.text, spoken))
                if args.output_dir and results[-1]["path"]:
                    add_transcripts(args.output_dir, {path.name: words_of(one.text)})
                seeds = ", ".join(map(str, results[-1]["seeds"]))
                again = f", {spoken.n_retries} tries more" if spoken.n_retries else ""
                shown = f"{spoken.seconds:.2f} s  seed {seeds}{again}  {spoken.verdict}"
                print(f"{path}  {shown}", flush=True)
    return results


if __name__ == "__main__":
    run(main)
