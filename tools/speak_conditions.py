"""Speak what tools/evaluate_patterns.py compares: the same texts with and without a pattern.

Folders, named as the protocol has it: B0 base; B1 base, with hesitations written into the text as
often and where the speaker has them; L an adapter without a pattern, if one was trained; P pattern
only; LP pattern with the adapter that was trained around it; LP0 the same with the pattern at
strength 0; LPr with its numbers in another order; LP@0.5 at another strength; LPx with another
speaker's pattern; R the held-out recordings. Without an adapter they are P, P0, Pr and so on. The
texts are held-out ones without their hesitations, then sentences of ours (English). Voice and seeds
are the same for all. What is there already and was made of the same isn't spoken again.

Example: python tools/speak_conditions.py --speaker ozzy --n-texts 100 --seeds 0 1 2
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from indextts.config import DecodingConfig, SpeechConfig
from indextts.pattern_ways import REAL, ways_to_speak
from ttscommon.cli import Parser, add_config_flags, add_device, add_training_root, given, run
from ttscommon.errors import UserError
from ttscommon.outputs import read_texts, require_writable
from ttscommon.workspace import Speaker, speaker_flags

SPEECH = ("diffusion_steps", "cfg_rate", "prompt_seconds", "batch_size")
DECODING = ("num_beams", "temperature", "top_k", "top_p", "repetition_penalty", "max_mel_tokens")


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, pattern, decoding, model, output, machine = map(
        parser.add_argument_group, ("data", "pattern", "decoding", "model", "output", "machine")
    )
    data.add_argument("--speaker", "-s", required=True, help="folder name under training/")
    add_training_root(data)
    data.add_argument("--text-file", type=Path, help="UTF-8 file with one text a line")
    data.add_argument("--hesitant-file", type=Path, metavar="FILE",
                      help="its lines with hesitations written in, for B1 (default: by counts of "
                           "the speaker's texts)")  # fmt: skip
    data.add_argument(
        "--n-texts", type=int, default=100, help="without it: held-out ones, and ours"
    )
    data.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="each text once for each"
    )
    data.add_argument(
        "--language", "-l", help="of the texts (default: as in the data set, else en)"
    )
    pattern.add_argument("--pattern-embedding", type=Path,
                         help="pattern_embedding.pt (default: the speaker's best)")  # fmt: skip
    pattern.add_argument("--strengths", type=float, nargs="+", default=[0.5], metavar="SCALE",
                         help="of the pattern, besides 0 and 1")  # fmt: skip
    pattern.add_argument(
        "--other-pattern", type=Path, metavar="FILE", help="another speaker's pattern_embedding.pt"
    )
    pattern.add_argument(
        "--lora", type=Path, help="folder of an adapter, for L (default: the speaker's)"
    )
    add_config_flags(decoding, DecodingConfig, DECODING)
    add_config_flags(decoding, SpeechConfig, SPEECH)
    model.add_argument(
        "--model-dir", type=Path, help="checkpoint folder (default: checkpoints/ or below it)"
    )
    model.add_argument("--config", type=Path, help="another config.yaml than that folder's")
    output.add_argument("--output-dir", "-o", type=Path, help="folder (default: the speaker's)")
    add_device(machine)
    machine.add_argument("--amp", choices=("no", "bf16", "fp16"), default="no",
                         help="precision of the language model")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    speaker = Speaker(args.speaker, args.training_root)
    if args.n_texts < 1:
        parser.error("--n-texts must be 1 or more")
    folder = args.output_dir or speaker.pattern_speech
    require_writable(folder / REAL / "transcripts.csv")
    from indextts.clips import TRAIN_MANIFEST, VALIDATION_MANIFEST, read_clips
    from indextts.hesitations import as_written, by_habit
    from indextts.infer_v2 import IndexTTS2
    from indextts.pattern_conditions import (
        Speakers,
        plain_texts,
        speak_conditions,
        write_recordings,
    )
    from indextts.pattern_inference import trained_pattern
    from indextts.side_by_side import spoken_language
    from indextts.tuned import adapter_beside, adapter_of

    pattern = args.pattern_embedding or trained_pattern(speaker)
    around, other = adapter_beside(pattern), args.other_pattern
    who = Speakers(pattern, _voice(speaker), around, other, args.lora or adapter_of(speaker))
    wanted = ways_to_speak(
        has_adapter=around is not None,
        strengths=args.strengths,
        has_other=other is not None,
        has_lora=who.lora is not None,
    )
    clips = read_clips([speaker.processed_v3 / VALIDATION_MANIFEST])
    language = args.language or spoken_language(speaker)
    texts = read_texts(args.text_file) if args.text_file else None
    texts = texts or plain_texts(clips, args.n_texts, language)
    if args.hesitant_file:
        written = as_written(args.hesitant_file, texts, language, text_file=args.text_file)
    else:
        written = by_habit(speaker.processed_v3 / TRAIN_MANIFEST, language)
    # It may refuse, and speaking takes hours.
    made_by = _command("prepare_pattern_dataset_v3", speaker)
    n_recordings = write_recordings(clips, folder / REAL, language, made_by=made_by)
    tts = IndexTTS2(args.config, args.model_dir, device=args.device, amp=args.amp)
    settings = {**given(args, SpeechConfig), **given(args, DecodingConfig)}
    spoken = speak_conditions(tts, wanted, who, texts, args.seeds, folder, written, **settings)
    for condition, n_files, n_made in spoken:
        print(f"{condition.name}: {n_files} files, {n_made} of them spoken now", flush=True)
    print(f"{REAL}: {n_recordings} held-out recordings")
    words = [f"{name}={folder / name}" for name in (*(one.name for one in wanted), REAL)]
    print(f"Next: {shlex.join(['python', 'tools/evaluate_patterns.py', *words])}")


def _voice(speaker: Speaker) -> Path:
    if not speaker.speaker_embeddings.is_file():
        fix = _command("extract_embeddings", speaker)
        raise UserError("no stored voice", where=speaker.speaker_embeddings, fix=fix)
    return speaker.speaker_embeddings


def _command(tool: str, speaker: Speaker) -> str:
    return shlex.join(["python", f"tools/{tool}.py", *speaker_flags([speaker])])


if __name__ == "__main__":
    run(main)
