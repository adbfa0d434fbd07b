"""Fetch published checkpoints into checkpoints/, one folder for each system.

Stop it whenever you like; the same command goes on where it was.

Example: python tools/download_checkpoints.py indextts2
Example: python tools/download_checkpoints.py vocos whisper --whisper-model small --dry-run
Example: python tools/download_checkpoints.py indextts2 --verify
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a clone, uninstalled
from ttscommon.catalogue import FAMILIES
from ttscommon.cli import Parser, add_overwrite, run
from ttscommon.downloads import Hub, Plan, check, fetch, make_plan, whisper_plan
from ttscommon.errors import UserError


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, output, machine = map(parser.add_argument_group, ("data", "output", "machine"))
    data.add_argument("families", nargs="*", metavar="SYSTEM", help=", ".join(FAMILIES))
    data.add_argument("--list", action="store_true", help="show the systems and their licences")
    data.add_argument("--whisper-model", default="base", help="which Whisper model")
    data.add_argument("--skip", nargs="+", default=[], metavar="PATTERN",
                      help="files to leave out, such as 'qwen*' (emotion from text)")  # fmt: skip
    data.add_argument("--revision", help="branch, tag or commit of a system's main repository")
    data.add_argument("--dry-run", action="store_true",
                      help="show names, sizes and licences, and fetch nothing")  # fmt: skip
    data.add_argument("--verify", action="store_true",
                      help="check the files that are here, and fetch nothing")  # fmt: skip
    output.add_argument("--output-dir", type=Path, default=Path("checkpoints"),
                        help="folder for the systems' folders")  # fmt: skip
    add_overwrite(output)
    machine.add_argument("--endpoint", help="address of a mirror of the model hub")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    if args.list:
        _list()
        return
    _require_known(parser, args)
    wrong: list[str] = []
    for plan in _plans(args):
        if args.verify:
            wrong += _verify(plan)
        elif args.dry_run:
            _show(plan)
        else:
            _download(plan, overwrite=args.overwrite)
    if wrong:
        again = f"python tools/download_checkpoints.py {' '.join(args.families)} --overwrite"
        raise UserError(f"{len(wrong)} files are wrong: {', '.join(wrong)}", fix=again)


def _require_known(parser: Parser, args: argparse.Namespace) -> None:
    if not args.families:
        parser.error(f"say what to download: {', '.join(FAMILIES)} (or --list)")
    for name in args.families:
        if name not in FAMILIES:
            near = difflib.get_close_matches(name, FAMILIES, n=1)
            parser.error(f"no system '{name}'; {f'did you mean {near[0]}?' if near else '--list'}")
    if args.dry_run and args.verify:
        parser.error("--dry-run and --verify contradict each other")
    if args.revision and len(args.families) > 1:
        parser.error("--revision needs one system, because each has revisions of its own")


def _plans(args: argparse.Namespace) -> Iterator[Plan]:
    hub = Hub(args.endpoint)
    for name in dict.fromkeys(args.families):
        family, folder = FAMILIES[name], args.output_dir / name
        if name == "whisper":
            yield whisper_plan(family, folder, args.whisper_model)
        else:
            yield make_plan(family, folder, hub, revision=args.revision, skip=args.skip)


def _list() -> None:
    for family in FAMILIES.values():
        print(f"{family.name:10} {family.title}")
        for source in family.sources:
            print(f"{'':10}   {source.repo}: {source.licence}")


def _show(plan: Plan) -> None:
    sizes = [file.remote.size if file.remote else None for file in plan.files]
    print(f"{plan.family.title} -> {plan.folder}")
    for file, size in zip(plan.files, sizes, strict=True):
        state = "differs" if file.is_other else "here" if file.is_here else "to fetch"
        licence = str(file.licence)
        if file.hub_licence:
            licence += f"; the hub says {file.hub_licence}"
        print(f"  {_bytes(size):>9}  {state:8}  {file.name}  [{file.origin}: {licence}]")
    known = sum(size or 0 for size in sizes)
    print(f"  {_bytes(known if all(s is not None for s in sizes) else None):>9}  in all")
    if plan.trouble:
        print(f"  sizes unknown: the hub can't be reached ({plan.trouble})")


def _download(plan: Plan, *, overwrite: bool) -> None:
    closed = [] if plan.trouble else [f for f in plan.missing if not f.licence.is_open]
    for licence in dict.fromkeys(file.licence for file in closed):
        origins = dict.fromkeys(file.origin for file in closed if file.licence == licence)
        print(f"Licence of {', '.join(origins)}: {licence}. By using it you accept its terms.")
    n_fetched = 0
    try:
        for file in fetch(plan, overwrite=overwrite):
            n_fetched += 1
            print(f"{file.target}  {_bytes(file.target.stat().st_size)}", flush=True)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("stopped; the same command goes on from here") from stop
    n_here = len(plan.files) - n_fetched
    print(f"{plan.family.title}: {n_fetched} files fetched, {n_here} were there -> {plan.folder}")
    if n_fetched:
        print(f"Next: python tools/download_checkpoints.py {plan.family.name} --verify")


def _verify(plan: Plan) -> list[str]:
    """Print what was found; returns the names of what is wrong."""
    print(f"{plan.family.title} in {plan.folder}")
    if plan.trouble:
        print(f"  the hub can't be reached ({plan.trouble}): comparing with the notes taken "
              "when it was downloaded")  # fmt: skip
    wrong = []
    for file, is_right, what in check(plan):
        print(f"  {'ok' if is_right else 'WRONG':6} {file.name}: {what}", flush=True)
        wrong += [] if is_right else [file.name]
    wrong += _verify_contents(plan)
    return wrong


def _verify_contents(plan: Plan) -> list[str]:
    """Names and shapes of the tensors, for the systems whose networks this clone has."""
    if plan.family.name == "indextts2":
        from indextts.verification import verify_folder  # torch loads here

        wrong = []
        for finding in verify_folder(plan.folder):
            mark = "ok" if finding.is_right else "WRONG"
            print(f"  {mark:6} {finding.name}: {finding.what}", flush=True)
            wrong += [] if finding.is_right else [finding.name]
        return wrong
    if plan.family.name in LOADED and not plan.missing:
        try:
            what = LOADED[plan.family.name](plan.folder)
        except UserError as error:
            print(f"  WRONG  {error}")
            return [plan.folder.name]
        print(f"  ok     {what}")
        return []
    print("  the tensors inside weren't looked at: sizes and checksums are all that is compared")
    return []


def _load_vocos(folder: Path) -> str:
    from lewm.vocoder import load_vocoder  # torch loads here
    from ttscommon.mel import MelRecipe

    load_vocoder(f"vocos:{folder}", MelRecipe())
    return "every tensor of this Vocos is there, made for LeWM's mels"


def _load_wavlm(folder: Path) -> str:
    from ttscommon.evaluation.voices import load_xvector  # torch loads here

    load_xvector(folder)
    return f"every tensor of this WavLM is there: --speaker-encoder {folder}"


LOADED = {"vocos": _load_vocos, "wavlm": _load_wavlm}


def _bytes(size: int | None) -> str:
    if size is None:
        return "unknown"
    unit = next(u for u in ("GB", "MB", "kB", "B") if size >= UNITS[u] or u == "B")
    return f"{size / UNITS[unit]:.{0 if unit == 'B' else 1}f} {unit}"


UNITS = {"GB": 10**9, "MB": 10**6, "kB": 10**3, "B": 1}

if __name__ == "__main__":
    run(main)
