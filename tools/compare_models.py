"""Hear and measure what training changed: base, LoRA, fine-tuned model and pattern, same texts.

Every model says the same texts with the same seeds and the same voice, into numbered files beside
each other. They are measured against the speaker's own recordings that were held out of training.
Exit code 3: a model is significantly worse than the base in a guard rail.

Example: python tools/compare_models.py --speaker ozzy
Example: python tools/compare_models.py --speaker ozzy --text "Hello, this is a test."
Example: python tools/compare_models.py --text "Hello." --embeddings me.pt --lora adapter
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from indextts.config import DecodingConfig, SpeechConfig
from indextts.tuned import Tuned, listing, trained
from ttscommon.cli import (
    Parser,
    add_config_flags,
    add_device,
    add_measuring,
    add_training_root,
    given,
    run,
)
from ttscommon.errors import UserError
from ttscommon.evaluation import EXIT_WORSE, KEPT
from ttscommon.outputs import read_texts, require_writable
from ttscommon.workspace import Speaker

OUTPUT = Path("outputs/comparison")  # without a speaker
SPEECH = ("diffusion_steps", "cfg_rate", "prompt_seconds", "batch_size")
DECODING = ("num_beams", "temperature", "top_k", "top_p", "repetition_penalty", "max_mel_tokens")


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, decoding, model, measuring, output, machine = map(
        parser.add_argument_group,
        ("data", "decoding", "model", "measuring", "output", "machine"),
    )
    data.add_argument("--speaker", "-s", help="folder name under training/")
    data.add_argument("--list-speakers", action="store_true", help="say who can speak, and leave")
    add_training_root(data)
    data.add_argument(
        "--text", "-t", action="append", help="what to say; may be given several times"
    )
    data.add_argument("--text-file", type=Path, help="UTF-8 file with one text a line")
    data.add_argument(
        "--n-texts", type=int, default=8, help="without texts: held-out ones, and some of ours"
    )
    data.add_argument("--embeddings", "-e", type=Path, help="stored voice (default: the speaker's)")
    data.add_argument("--reference-audio", "-r", type=Path, help="recording, instead of a voice")
    data.add_argument(
        "--recordings", type=Path, help="real speech to be like (default: held-out recordings)"
    )
    decoding.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="each text once for each"
    )
    add_config_flags(decoding, DecodingConfig, DECODING)
    add_config_flags(decoding, SpeechConfig, SPEECH)
    model.add_argument("--lora", type=Path, help="folder of an adapter (default: the speaker's)")
    model.add_argument("--lora-scale", type=float, help="strength of the adapter (default: 1)")
    model.add_argument(
        "--gpt-checkpoint", type=Path, help="fully fine-tuned model (default: the speaker's)"
    )
    model.add_argument(
        "--pattern-embedding", type=Path, help="pattern_embedding.pt (default: the speaker's best)"
    )
    model.add_argument(
        "--pattern-scale", type=float, default=1.0, help="strength of the pattern; 1 is as trained"
    )
    model.add_argument(
        "--model-dir", type=Path, help="checkpoint folder (default: checkpoints/ or below it)"
    )
    model.add_argument("--config", type=Path, help="another config.yaml than that folder's")
    add_measuring(measuring, "spoken in the texts (default: as in the data set, else en)")
    output.add_argument("--output-dir", "-o", type=Path, help="folder (default: the speaker's)")
    add_device(machine)
    machine.add_argument("--amp", choices=("no", "bf16", "fp16"), default="no",
                         help="precision of the language model")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse(argv)
    if args.list_speakers:
        print("\n".join(listing(args.training_root)))
        return 0
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    models = _models(args, speaker)
    _require_pattern(args, models)
    voice = _voice(parser, args, speaker)
    folder = args.output_dir or (speaker.comparison if speaker else OUTPUT)
    require_writable(folder / KEPT)
    real = _real(args, speaker)
    args.language = args.language or _language(speaker)
    texts, n_held_out = _texts(args, real)

    from indextts.side_by_side import lines, write_summary
    from ttscommon.evaluation.measuring import load_instruments
    from ttscommon.evaluation.pages import write_report

    # A recogniser that is missing is told before hours of speech.
    instruments = load_instruments(
        args.whisper_model,
        language=args.language,
        device=args.device,
        speaker_encoder=args.speaker_encoder,
    )
    stamp = f"{datetime.now():%Y%m%d_%H%M%S}"
    said = lines(texts, args.seeds, n_held_out)
    spoken = _speak(args, models, said, folder, voice, stamp)
    evaluation = _evaluate(spoken, real, instruments, folder / KEPT)
    evaluation.write(folder / f"{stamp}_evaluation.json")
    summary = folder / f"{stamp}_comparison_summary.txt"
    findings = _findings(evaluation)
    title = f"Comparison {stamp}" + (f" of {speaker.name}" if speaker else "")
    write_summary(summary, title, str(args.reference_audio or voice), spoken, findings)
    print(summary.read_text(encoding="utf-8"))
    report = folder / f"{stamp}_comparison_report.html"
    write_report(evaluation, report, title=title, language=args.language)
    print(f"Listen: {folder}/{stamp}_*.wav, or open {report} in a browser")
    print(f"Saved {summary} and {stamp}_evaluation.json")
    return EXIT_WORSE if evaluation.failures else 0


def _models(args: argparse.Namespace, speaker: Speaker | None) -> list[Tuned]:
    """The base, and what was trained."""
    known = trained(speaker) if speaker else {}
    if args.lora:
        known["lora"] = Tuned("lora", args.lora)
    if args.gpt_checkpoint:
        known["finetune"] = Tuned("finetune", args.gpt_checkpoint)
    if args.pattern_embedding:
        known["pattern"] = Tuned("pattern", args.pattern_embedding)
    tuned = [known[kind] for kind in ("lora", "finetune", "pattern") if kind in known]
    if not tuned:
        raise UserError(
            "nothing was trained that could be compared with the base",
            where=speaker.folder if speaker else None,
            fix=f"python tools/train_gpt_lora.py --speaker {speaker.name}"
            if speaker
            else "--lora FOLDER, --gpt-checkpoint FILE, --pattern-embedding FILE or --speaker NAME",
        )
    return [Tuned("base"), *tuned]


def _require_pattern(args: argparse.Namespace, models: Sequence[Tuned]) -> None:
    """Refuse now what would be refused when the other models have spoken."""
    from indextts.pattern_embeddings import PatternEmbedding, require_scale

    require_scale(args.pattern_scale)
    for tuned in models:
        if tuned.pattern_path is not None:
            PatternEmbedding.load(tuned.pattern_path)


def _voice(parser: Parser, args: argparse.Namespace, speaker: Speaker | None) -> Path | None:
    if args.embeddings and args.reference_audio:
        parser.error("one voice: --reference-audio FILE or --embeddings FILE, not both")
    if not (args.embeddings or args.reference_audio or speaker):
        parser.error("say whose voice: --speaker NAME, --embeddings FILE or --reference-audio FILE")
    if args.reference_audio or args.embeddings:
        return args.embeddings
    assert speaker is not None
    if not speaker.speaker_embeddings.is_file():
        fix = f"python tools/extract_embeddings.py --speaker {speaker.name}"
        raise UserError("no stored voice", where=speaker.speaker_embeddings, fix=fix)
    return speaker.speaker_embeddings


def _real(args: argparse.Namespace, speaker: Speaker | None) -> list[Any]:
    """Recordings of the speaker that the models weren't trained on."""
    from indextts.clips import VALIDATION_MANIFEST
    from indextts.side_by_side import held_out
    from ttscommon.evaluation.conditions import find_utterances

    if args.recordings:
        return find_utterances(args.recordings)
    return held_out(speaker.processed / VALIDATION_MANIFEST) if speaker else []


def _texts(args: argparse.Namespace, real: Sequence[Any]) -> tuple[list[str], int]:
    from indextts.side_by_side import own_texts

    if args.text or args.text_file:
        texts = [*(args.text or []), *(read_texts(args.text_file) if args.text_file else [])]
        return list(dict.fromkeys(texts)), 0
    return own_texts(real, args.n_texts, args.language)


def _language(speaker: Speaker | None) -> str:
    from indextts.side_by_side import spoken_language

    return spoken_language(speaker) if speaker else "en"


def _speak(args: argparse.Namespace, models, said, folder: Path, voice, stamp: str) -> list[Any]:
    from indextts.infer_v2 import IndexTTS2
    from indextts.side_by_side import speak_all

    tts = IndexTTS2(args.config, args.model_dir, device=args.device, amp=args.amp)
    spoken = speak_all(
        tts,
        models,
        said,
        folder,
        voice=voice,
        recording=args.reference_audio,
        scale=1.0 if args.lora_scale is None else args.lora_scale,
        pattern_scale=args.pattern_scale,
        stamp=stamp,
        **given(args, SpeechConfig),
        **given(args, DecodingConfig),
    )
    return list(spoken)


def _evaluate(spoken, real: Sequence[Any], instruments, cache: Path) -> Any:
    from ttscommon.evaluation.evaluate import evaluate

    conditions = {one.tuned.kind: [s.utterance for s in one.spoken] for one in spoken}
    if real:
        conditions["real"] = list(real)
    return evaluate(conditions, instruments, base="base", cache=cache)


def _findings(evaluation: Any) -> list[str]:
    """The change of every metric from the base, and guard rails that didn't hold."""
    found = ["Measured, with 95 % intervals:"]
    for metric, score in evaluation.scores["base"].items():
        changes = [
            f"{name} - base {scores[metric]}"
            for name, scores in evaluation.differences.items()
            if metric in scores
        ]
        found.append(f"  {metric:28} base {score}   " + "   ".join(changes))
    found += [f"not measured: {metric}: {why}" for metric, why in evaluation.absent.items()]
    for rail in evaluation.guard_rails:
        if rail.status != "passed":
            change = evaluation.differences[rail.condition][rail.metric]
            found.append(f"guard rail {rail.status}: {rail.condition} {rail.metric} {change}")
    return found


if __name__ == "__main__":
    run(main)
