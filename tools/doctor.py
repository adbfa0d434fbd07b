"""Look whether this machine, its checkpoints and a speaker's recordings are fit for the work.

Systems that are named must be able to run; of the others it says what they lack. The exit code is
1 if something needed is missing. Nothing is changed and no network is asked.

Example: python tools/doctor.py
Example: python tools/doctor.py indextts2 --verify --smoke
Example: python tools/doctor.py --speaker ozzy --json health.json
"""

from __future__ import annotations

import argparse
import difflib
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run from a clone, uninstalled
from ttscommon import doctor
from ttscommon.catalogue import FAMILIES
from ttscommon.cli import Parser, add_json, add_overwrite, run
from ttscommon.doctor import Finding
from ttscommon.errors import UserError
from ttscommon.files import write_json
from ttscommon.workspace import TRAINING_ROOT, Speaker, speaker_flags

FORMAT = "voxtune.doctor"
CHECKPOINTS = Path("checkpoints")
MARKS = {"ok": "ok", "note": "note", "wrong": "WRONG"}
TEXT_EMOTION = ("qwen*",)  # IndexTTS2 speaks without it


@dataclass(frozen=True)
class System:
    """What one system does today: what for, with which tool, and which files it can't do without.

    Attributes:
        first: which of its tools to begin with, once a speaker's recordings are there
        better: files of the catalogue with which it does better
        places: flag of its tools -> where below --checkpoint-root its files are
    """

    does: dict[str, str]
    first: str | None = None
    needs: tuple[str, ...] = ()
    better: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)


SYSTEMS = {
    "dataset": System(
        {
            "cuts": "segment_recordings",
            "transcribes": "transcribe_dataset",
            "checks": "validate_dataset",
        },
        first="validate_dataset",
        better=("whisper",),
    ),
    "lewm": System(
        {"prepares": "lewm_preprocess", "trains": "lewm_train", "speaks": "lewm_infer"},
        first="lewm_preprocess",
        better=("vocos", "whisper"),
    ),
    "indextts2": System(
        {
            "speaks": "infer",
            "prepares": "prepare_lora_dataset",
            "trains an adapter": "train_gpt_lora",
            "trains all of it": "train_gpt_finetune",
            "stores a voice": "extract_embeddings",
            "compares": "compare_models",
            "does it all": "train_speaker",
        },
        first="train_speaker",
        needs=("indextts2",),
        places={"--model-dir": ""},
    ),
    "higgs": System(
        {"trains an adapter": "higgs_train", "checks it": "higgs_verify", "speaks": "higgs_infer"},
        first="higgs_train",
        needs=("higgs",),
        places={
            "--model-path": "higgs/higgs-audio-v2-generation-3B-base",
            "--audio-tokenizer-path": "higgs/higgs-audio-v2-tokenizer",
        },
    ),
    "kani": System(
        {"prepares": "kani_prepare", "trains experiments": "kani_train", "speaks": "kani_infer"},
        needs=("kani",),
    ),
    "evaluation": System(
        {"measures": "evaluate", "scores listeners": "score_listening"},
        first="evaluate",
        better=("whisper",),
    ),
}


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data, output = map(parser.add_argument_group, ("data", "output"))
    data.add_argument("systems", nargs="*", metavar="SYSTEM", help=", ".join(SYSTEMS))
    data.add_argument("--speaker", help="folder name under training/, to check its recordings")
    data.add_argument(
        "--training-root", type=Path, default=TRAINING_ROOT, help="where the speakers' folders are"
    )
    data.add_argument(
        "--checkpoint-root", type=Path, default=CHECKPOINTS, help="where systems' files are"
    )
    data.add_argument("--verify", action="store_true", help="also compare checksums; reads it all")
    data.add_argument(
        "--smoke", action="store_true", help="also train and speak a little with tiny networks"
    )
    add_json(output, "found")
    add_overwrite(output)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse(argv)
    if args.json and args.json.exists() and not args.overwrite:
        raise UserError("exists already", where=args.json, fix="--overwrite, or another name")
    for name in args.systems:
        if name not in SYSTEMS:
            near = difflib.get_close_matches(name, SYSTEMS, n=1)
            known = f"did you mean {near[0]}?" if near else ", ".join(SYSTEMS)
            parser.error(f"no system '{name}'; {known}")
    speaker = Speaker(args.speaker, args.training_root) if args.speaker else None
    findings = []
    for finding in _examine(args, speaker):
        _tell(finding, is_first=not findings or findings[-1].area != finding.area)
        findings.append(finding)
    wrong = [finding for finding in findings if finding.status == "wrong"]
    if args.json:
        found = [finding.to_dict() for finding in findings]
        write_json(args.json, {"format": FORMAT, "version": 1, "well": not wrong, "found": found})
    if wrong:
        names = ", ".join(f"{finding.area}: {finding.name}" for finding in wrong)
        raise UserError(f"{len(wrong)} to put right: {names}")
    print("\nAll well.")
    for command in _next_commands(args, speaker, findings):
        print(f"Next: {command}")


def _next_commands(
    args: argparse.Namespace, speaker: Speaker | None, findings: Sequence[Finding]
) -> Iterator[str]:
    """How to begin with the systems that were named, or else with every one that trains here."""
    if speaker is None:
        words = " ".join(["python tools/doctor.py", *args.systems, "--speaker NAME"])
        yield f"{words}   # checks recordings and texts"
        return
    runs = {f.name for f in findings if f.area == "systems" and "can't run" not in f.what}
    for name in args.systems or [n for n, s in SYSTEMS.items() if _trains(s) and n in runs]:
        if (tool := SYSTEMS[name].first) is not None:
            words = ["python", f"tools/{tool}.py", *speaker_flags([speaker])]
            if args.checkpoint_root != CHECKPOINTS:
                for flag, place in SYSTEMS[name].places.items():
                    words += [flag, str(args.checkpoint_root / place)]
            yield f"{' '.join(words)}   # {name}"


def _trains(system: System) -> bool:
    return any(verb.startswith("trains") for verb in system.does)


def _examine(args: argparse.Namespace, speaker: Speaker | None) -> Iterator[Finding]:
    yield from _guarded("versions", doctor.check_versions("voxtune", ROOT / "pyproject.toml"))
    yield from doctor.check_devices()
    yield from _guarded("room", doctor.check_room((args.training_root, args.checkpoint_root)))
    yield from doctor.check_programs()
    checkpoints = {}
    for finding in _checkpoints(args.checkpoint_root, reads=args.verify):
        checkpoints[finding.name] = finding
        yield finding
    for name, system in SYSTEMS.items():
        yield _system(name, system, checkpoints, is_needed=name in args.systems)
    if speaker is not None:
        yield from _guarded("data set", _data_set(speaker))
    if args.smoke:
        for name, attempt in SMOKE.items():
            yield _tried(name, attempt)


def _guarded(area: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The same, but a package that isn't there is a finding too."""
    try:
        yield from findings
    except ImportError as error:
        fix = f"{doctor.SETUP}, then: .venv/bin/python tools/doctor.py"
        yield Finding(area, error.name or "import", "wrong", str(error), fix)


def _tell(finding: Finding, *, is_first: bool) -> None:
    if is_first:
        print(f"\n{finding.area}" if finding.area != "versions" else finding.area)
    fix = f"  Fix: {finding.fix}" if finding.fix else ""
    print(f"  {MARKS[finding.status]:5}  {finding.name:14} {finding.what}{fix}", flush=True)


def _checkpoints(root: Path, *, reads: bool) -> Iterator[Finding]:
    for name, family in FAMILIES.items():
        if family.sources:
            optional = TEXT_EMOTION if name == "indextts2" else ()
            finding = doctor.check_checkpoint(family, root / name, optional=optional, reads=reads)
            looked = [finding]
            if name == "indextts2" and finding.status != "wrong":
                looked = _guarded("checkpoints", _indextts2(finding, root))
            yield from (replace(found, name=name) for found in looked)
    models = sorted(path.name for path in (root / "whisper").glob("*.pt"))
    if models:
        yield Finding("checkpoints", "whisper", "ok", ", ".join(models))
    else:
        fix = "python tools/download_checkpoints.py whisper"
        yield Finding("checkpoints", "whisper", "note", f"not in {root / 'whisper'}", fix)


def _indextts2(finding: Finding, root: Path) -> Iterator[Finding]:
    """The same, after a look at every tensor; the folder may be the root itself."""
    from indextts.checkpoint import CONFIG_FILE
    from indextts.verification import verify_folder  # torch loads here

    folder = next((p for p in (root, root / "indextts2") if (p / CONFIG_FILE).is_file()), None)
    looked = list(verify_folder(folder, accepts_miniature=True)) if folder else []
    wrong = [f"{found.name}: {found.what}" for found in looked if not found.is_right]
    if wrong:
        yield replace(finding, status="wrong", what="; ".join(wrong))
    elif folder == root:
        yield replace(finding, status="ok", what=f"every tensor is right in {folder}", fix=None)
    else:
        yield finding


def _system(
    name: str, system: System, checkpoints: dict[str, Finding], *, is_needed: bool
) -> Finding:
    """What runs now, and what else needs which command."""
    does = [verb for verb, tool in system.does.items() if (ROOT / f"tools/{tool}.py").is_file()]
    blocked = "wrong" if is_needed else "note"
    if not does:
        return Finding("systems", name, blocked, "nothing of it can be run in this version")
    for need in system.needs:
        finding = checkpoints[need]
        if finding.status == "wrong" or finding.what.startswith("not in"):
            what = f"can't run ({', '.join(does)}): {finding.what}"
            return Finding("systems", name, blocked, what, finding.fix)
    absent = [checkpoints[other] for other in system.better if checkpoints[other].status != "ok"]
    tools = ", ".join(f"{verb} ({system.does[verb]}.py)" for verb in does)
    if absent:
        names = " ".join(finding.name for finding in absent)
        what = f"{tools}; better with {names}"
        return Finding(
            "systems", name, "note", what, f"python tools/download_checkpoints.py {names}"
        )
    return Finding("systems", name, "ok", tools)


def _data_set(speaker: Speaker) -> Iterator[Finding]:
    from tqdm import tqdm

    from ttscommon.dataset_check import check_dataset

    if not speaker.folder.is_dir():
        fix = f"put recordings into {speaker.audio}"
        yield Finding("data set", speaker.name, "wrong", f"no folder {speaker.folder}", fix)
        return
    with closing(tqdm(unit="recording", disable=not sys.stderr.isatty(), leave=False)) as bar:
        yield from check_dataset(speaker, lambda: bar.update())


def _tried(name: str, attempt: Callable[[Path], str]) -> Finding:
    began = time.monotonic()
    logging.disable(logging.WARNING)  # what tiny networks warn of is of no interest
    with tempfile.TemporaryDirectory() as folder:
        try:
            what = attempt(Path(folder))
        except Exception as error:  # whatever is broken is what is to be found out
            trouble = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            return Finding("smoke", name, "wrong", trouble, doctor.SETUP)
        finally:
            logging.disable(logging.NOTSET)
    return Finding("smoke", name, "ok", f"{what} in {time.monotonic() - began:.0f} s")


def _train_lewm(folder: Path) -> str:
    from lewm.config import ModelConfig, PreprocessConfig, TrainConfig
    from lewm.preprocess import prepare
    from lewm.train import train
    from ttscommon.workspace import SystemFolder

    _buzzes(folder / "in", 6)
    config = PreprocessConfig(min_seconds=0.5, transcribe="never", workers=1)
    prepared = prepare(None, config, source=folder / "in", output=folder / "processed")
    steps = TrainConfig(
        autoencoder_steps=1, predictor_steps=1, batch_size=2, eval_texts=1, workers=0
    )
    train([prepared.folder], SystemFolder(folder / "out"), ModelConfig.tiny(), steps)
    return "prepared sound and trained a step of both stages"


def _train_indextts2(folder: Path) -> str:
    """A step of adapter training of a miniature, which then speaks with the adapter."""
    import torch

    from indextts.checkpoint import CheckpointFolder
    from indextts.clip_encoder import ClipEncoder
    from indextts.infer_v2 import IndexTTS2
    from indextts.miniature import write_miniature
    from indextts.prepare_config import PrepareConfig
    from indextts.preprocess import prepare
    from indextts.train import Job, train_lora
    from indextts.train_config import LoraTrainConfig
    from indextts.utterances import folder_source
    from ttscommon.workspace import SystemFolder

    write_miniature(folder / "tiny")
    _buzzes(folder / "in", 3)
    config = PrepareConfig(min_duration=0.5)
    source = folder_source(folder / "in", folder / "in/transcripts.csv", config, "me")
    tiny, cpu = CheckpointFolder.open(folder / "tiny"), torch.device("cpu")
    processed = prepare(source, config, ClipEncoder(tiny, cpu), folder / "processed").folder
    train, held_out = (processed / f"{part}_manifest.jsonl" for part in ("train", "val"))
    job = Job([train], [held_out], SystemFolder(folder / "out"), tiny, device="cpu")
    trained = train_lora(job, LoraTrainConfig.tiny(max_steps=1, save_interval=1))
    tts = IndexTTS2(model_dir=folder / "tiny", lora_path=trained.best)
    said = tts.request(
        folder / "in/0.wav", "The cat sat down.", seed=1, diffusion_steps=2, max_mel_tokens=40
    )
    seconds = tts.speak(said).duration
    return f"a miniature trained a step of an adapter and spoke {seconds:.1f} s with it"


def _train_higgs(folder: Path) -> str:
    """A step of adapter training of a miniature, after all checks, and speech with the adapter."""
    from higgs_trainer.config import HiggsTrainConfig, PrepareConfig
    from higgs_trainer.inference import HiggsVoice, Sampling
    from higgs_trainer.jobs import Models, Sources, prepared_job
    from higgs_trainer.miniature import write_miniature
    from higgs_trainer.sample_data import create_sample_data
    from higgs_trainer.train import train
    from ttscommon.workspace import SystemFolder

    model, codec = write_miniature(folder / "tiny")
    samples = create_sample_data(folder / "samples.json", n_samples=3)
    sources, models = Sources(train=samples), Models(checkpoint=model, codec=codec)
    place = SystemFolder(folder / "out")
    job, _, _ = prepared_job(sources, models, place, PrepareConfig(), device="cpu")
    trained = train(job, HiggsTrainConfig.tiny(max_steps=1))
    voice = HiggsVoice.open(model, codec, adapter=trained.best, device="cpu")
    speech = voice.speak(["The cat sat down."], sampling=Sampling(max_steps=25))[0]
    seconds = len(speech.audio) / speech.sample_rate
    return f"a miniature trained a step of an adapter and spoke {seconds:.1f} s with it"


def _buzzes(folder: Path, n: int) -> None:
    """Sounds, and a table of texts for them."""
    for number in range(n):
        _buzz(folder / f"{number}.wav", 150 + 20 * number)
    rows = "".join(f"{number}.wav,words of number {number}\n" for number in range(n))
    (folder / "transcripts.csv").write_text(f"audio_path,text\n{rows}", encoding="utf-8")


def _buzz(path: Path, hertz: float) -> None:
    """A second of something like a voice."""
    import numpy as np

    from ttscommon import audio

    time_axis = np.arange(24_000) / 24_000
    sound = 0.2 * np.sign(np.sin(2 * np.pi * hertz * time_axis)) * (1 + np.sin(20 * time_axis)) / 2
    audio.save(path, sound.astype(np.float32), 24_000)


SMOKE = {"lewm": _train_lewm, "indextts2": _train_indextts2, "higgs": _train_higgs}

if __name__ == "__main__":
    run(main)
