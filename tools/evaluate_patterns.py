"""Does a learned manner of speaking carry over? Pauses, fillers and pace of folders of speech.

Each condition is NAME=FOLDER, with these names. B0: base; B1: base, hesitations written into the
text; L: LoRA only; P: pattern only; LP: both; LP0: pattern switched off; LPx: another speaker's;
LPr: random vectors; LP@0.5: another strength; R: real recordings that nothing was trained on. B0, R
and P or LP must be there. All but R speak the same texts, with the same seeds ("seed3" in a file's
name). The speech may come from any program. A run that was stopped goes on where it was.

--others, a folder of real recordings for each of ten people or more, lets a classifier tell whose
manner it is. --labelled, a folder with a table of what is said word for word, "..." for each pause,
corrects what is counted for the detectors' errors.

Exit code 3: a guard rail failed (words, voice, quality, far too many or too few events).

Example: python tools/evaluate_patterns.py B0=out/base LP=out/tuned LP0=out/off R=held_out
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from ttscommon.cli import (
    Parser,
    add_device,
    add_measuring,
    add_overwrite,
    named_folders,
    run,
)
from ttscommon.evaluation import EXIT_WORSE, KEPT
from ttscommon.files import write_json
from ttscommon.outputs import require_new, require_writable

if TYPE_CHECKING:
    from ttscommon.evaluation.comparison import Context
    from ttscommon.evaluation.conditions import Utterance
    from ttscommon.evaluation.evaluate import Evaluation
    from ttscommon.evaluation.pattern_protocol import PatternResult

# A base that is understood worse doesn't read its text, and nothing can be said about manners.
MOST_ERRORS = 0.25


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, measuring, output, machine = map(
        parser.add_argument_group, ("data", "measuring", "output", "machine")
    )
    data.add_argument("conditions", nargs="+", metavar="NAME=FOLDER", help="what to compare")
    data.add_argument("--texts", type=Path, help="table of audio_path,text for every condition")
    data.add_argument("--others", type=Path, nargs="+", default=[], metavar="FOLDER",
                      help="real recordings, a folder for each other person")  # fmt: skip
    data.add_argument(
        "--labelled", type=Path, metavar="FOLDER", help="recordings with hand-written pauses"
    )
    add_measuring(measuring)
    output.add_argument(
        "--output-dir", type=Path, help="for all that is written (default: pattern_evaluation)"
    )
    output.add_argument(
        "--max-clips", type=int, default=20, help="texts of the blind test; 0 writes none"
    )
    add_overwrite(output)
    add_device(machine)
    machine.add_argument("--n-processes", type=int, default=1, help="files measured at a time")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse(argv)
    folders = named_folders(parser, args.conditions)
    output = args.output_dir or Path("pattern_evaluation")
    names = ("patterns.json", "patterns.html", "evaluation.json", "evaluation.csv", "blind.html")
    paths = {name: output / name for name in names}
    require_new(list(paths.values()), overwrite=args.overwrite)
    require_writable(paths["patterns.json"])
    from ttscommon.evaluation.pattern_protocol import find_roles

    find_roles(list(folders))
    utterances, more = _utterances(folders, args.texts), _more(args)
    evaluation, context = _measure(utterances, more, args, output / KEPT)
    manners = {name: context.manners(own) for name, own in utterances.items()}
    result = _with_more(_judge(evaluation, manners), manners, more, context)
    evaluation.write(paths["evaluation.json"])
    write_json(paths["patterns.json"], result.to_dict())
    _write_pages(result, evaluation, manners, utterances, paths, args.max_clips)
    return EXIT_WORSE if _report(result, evaluation) else 0


def _utterances(folders: Mapping[str, Path], texts: Path | None) -> dict[str, Sequence[Utterance]]:
    """Files with their texts; those of R are what stands beside it, if there is anything."""
    from ttscommon.evaluation.conditions import find_utterances
    from ttscommon.evaluation.pattern_protocol import BASE, INSERTED, REAL
    from ttscommon.manifest import read_transcripts

    found = {}
    for name, folder in folders.items():
        has_own = name == REAL and folder.is_dir() and bool(read_transcripts(folder))
        found[name] = find_utterances(folder, None if has_own else texts)
    if INSERTED in found:  # the same texts as the base, but for the hesitations in them
        plain = {one.id: one.text for one in found[BASE]}
        found[INSERTED] = [replace(u, text=plain.get(u.id, u.text)) for u in found[INSERTED]]
    return found


@dataclass(frozen=True)
class _More:
    """What isn't compared: real people, and recordings with hand-written pauses."""

    others: Mapping[str, Sequence[Utterance]] = field(default_factory=dict)
    labelled: Sequence[Utterance] = ()


def _more(args: Any) -> _More:
    from ttscommon.errors import UserError
    from ttscommon.evaluation.conditions import find_utterances

    others = {str(folder): find_utterances(folder) for folder in args.others}
    labelled = find_utterances(args.labelled) if args.labelled else []
    with_text = [one for one in labelled if one.text]
    if labelled and not with_text:
        fix = "transcripts.csv with audio_path,text: every word, and ... for each pause"
        raise UserError("nothing is labelled here", where=args.labelled, fix=fix)
    return _More(others, with_text)


def _with_more(
    result: PatternResult, manners: Mapping[str, list[Any]], more: _More, context: Context
) -> PatternResult:
    """What only others and labelled recordings can tell."""
    from ttscommon.evaluation.detection import Labelled, correct, without_rests
    from ttscommon.evaluation.pattern_protocol import BASE, REAL
    from ttscommon.evaluation.style_identity import identify_style

    if more.others:
        spoken = {name: own for name, own in manners.items() if name != REAL}
        others = {name: context.manners(own) for name, own in more.others.items()}
        style = identify_style(spoken, manners[REAL], others, BASE)
        result = replace(result, style=style)
    if more.labelled:
        known = [one for one in more.labelled if context.measured[one.path].trouble is None]
        labelled = [
            Labelled(
                one.text or "",
                context.manner(replace(one, text=without_rests(one.text or ""))).places,
                context.measured[one.path].heard or "",
            )
            for one in known
        ]
        result = replace(result, corrected=correct(manners, labelled, context.language, REAL))
    return result


def _measure(
    utterances: Mapping[str, Sequence[Utterance]], more: _More, args: Any, cache: Path
) -> tuple[Evaluation, Context]:
    """Numbers of all utterances, and what tells how each is spoken."""
    from ttscommon.evaluation.comparison import Context
    from ttscommon.evaluation.evaluate import evaluate
    from ttscommon.evaluation.measuring import load_instruments, measure_all
    from ttscommon.evaluation.pattern_protocol import BASE, REAL

    instruments = load_instruments(
        args.whisper_model,
        language=args.language or "en",
        device=args.device,
        speaker_encoder=args.speaker_encoder,
    )
    n = args.n_processes
    try:
        evaluation = evaluate(
            utterances, instruments, base=BASE, real=REAL, cache=cache, n_processes=n
        )
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("stopped; the same command goes on from here") from stop
    everything = [*utterances.values(), *more.others.values(), more.labelled]
    paths = [one.path for own in everything for one in own]
    measured = measure_all(paths, instruments, cache=cache, n_processes=n)  # mostly from the cache
    real = [one for one in utterances[REAL] if measured[one.path].trouble is None]
    return evaluation, Context(measured, real, instruments.language)


def _judge(evaluation: Evaluation, manners: Mapping[str, list[Any]]) -> PatternResult:
    from ttscommon.evaluation.pattern_protocol import BASE, judge_patterns

    errors = evaluation.scores[BASE].get("fluent_wer")
    trouble = None
    if errors is not None and errors.value > MOST_ERRORS:
        trouble = (
            f"the base itself is hardly understood (fluent WER {errors.value:.0%}, at most "
            f"{MOST_ERRORS:.0%})"
        )
    return judge_patterns(manners, trouble=trouble)


def _write_pages(
    result: PatternResult,
    evaluation: Evaluation,
    manners: Mapping[str, list[Any]],
    utterances: Mapping[str, Sequence[Utterance]],
    paths: Mapping[str, Path],
    max_clips: int,
) -> None:
    from ttscommon.evaluation.pattern_report import write_blind_test, write_pattern_report

    title = "Does the manner of speaking carry over?"
    write_pattern_report(result, evaluation, manners, paths["patterns.html"], title=title)
    print(f"Read: {paths['patterns.html']}")
    if max_clips > 0:
        title = "Which one hesitates like X?"
        path = paths["blind.html"]
        n = write_blind_test(result, utterances, path, title=title, most_items=max_clips)
        print(f"Listen: {path}, a blind test of {n} texts; tools/score_listening.py counts answers")


def _report(result: PatternResult, evaluation: Evaluation) -> bool:
    """Say what was found; whether a guard rail failed."""
    from ttscommon.evaluation.pattern_protocol import MEAN, over_generated

    for claim in result.claims:
        print(f"{claim.status}: {claim.name} ({claim.reason})")
    for name, scores in result.transfer.items():
        if MEAN in scores:
            print(f"{name}: {scores[MEAN]} of the way from the base to the speaker")
    for measure, why in result.refused.items():
        print(f"not scored: {measure}: {why}")
    if result.style is not None:
        print(f"Whose manner, by a classifier: {result.style.summary(result.roles.system)}")
    for event, own in result.corrected.items():
        told = own.refused or f"{result.roles.system} has {own.ratios.get(result.roles.system)} "
        print(f"{event}, corrected: {told}" + ("" if own.refused else "times as many"))
    for note in result.notes:
        print(f"Note: {note}")
    failed = [rail for rail in evaluation.failures if rail.condition == result.roles.system]
    for rail in failed:
        change = evaluation.differences[rail.condition][rail.metric]
        print(f"guard rail failed: {rail.condition} {rail.metric} {change}")
    wrong = over_generated(result)
    for event, score in wrong.items():
        print(f"guard rail failed: {event} {score} times as often as the speaker")
    return bool(failed or wrong)


if __name__ == "__main__":
    run(main)
