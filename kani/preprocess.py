"""From a speaker's clips and texts to a data set of codes, with the columns of the public ones.

The codec hears each clip once. Its codes are kept in a file of their own as soon as they are there,
so a run that was killed goes on where it was; the data set itself is replaced as a whole.
"""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset, Features, Value
from datasets import Sequence as ListOf
from joblib import Parallel, delayed
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from kani.config import LAYERS, PrepareConfig
from kani.sources import save
from kani.speaker_embedding import (
    SPEAKER_EMB,
    encoder_mark,
    load_encoder,
    mean_of,
    save_embedding,
)
from kani.tokens import Ids, TokenSpace, interleave
from kani.weights import load_codec
from ttscommon import audio
from ttscommon.batching import pad
from ttscommon.checkpoints import fingerprint
from ttscommon.config import to_dict
from ttscommon.errors import UserError
from ttscommon.exclusions import read_exclusions
from ttscommon.files import atomic, atomic_folder, write_json
from ttscommon.ledger import Ledger, content_key, weights_key
from ttscommon.machine import pick_device
from ttscommon.manifest import read_manifest
from ttscommon.sound_progress import SoundProgress
from ttscommon.transcripts import clip_texts
from ttscommon.workspace import Speaker, SystemFolder

log = logging.getLogger(__name__)

FORMAT, INFO = "kani.codes", "prepare.json"
VOICE_FILE = "speaker_embedding.safetensors"
STOPPED = "stopped; the same command goes on from here"
MOST_BAD = 0.5  # of the clips; more left out, and the whole set is refused
A_GROUP = 8  # clips that a process encodes at once
PROCESS_COST, ENCODE_COST = 15.0, 0.6  # processor seconds: to start one, and for a second of sound
FEATURES = Features(
    {
        "text": Value("string"),
        **{name: ListOf(Value("int32")) for name in LAYERS},
        "encoded_len": Value("int32"),
        "speaker": Value("string"),
        "id": Value("string"),
        "recording": Value("string"),
        "duration": Value("float32"),
    }
)

EMBEDDED = {SPEAKER_EMB: ListOf(Value("float32"))}


@dataclass(frozen=True)
class PrepareReport:
    """What there is to train on, and what was left out.

    Attributes:
        n_encoded: clips that the codec heard now; the others it had heard before
        seconds: of sound
        duplicate_share: of the frames, those that equal the one before
        skipped: (what, why)
        voice: file of the speaker's embedding, if an encoder was given
    """

    folder: Path
    n_clips: int
    n_encoded: int
    seconds: float
    duplicate_share: float
    skipped: list[tuple[str, str]]
    voice: Path | None = None


class CodeStore:
    """Codes of clips, a file each, below a folder of the codec that made them."""

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def write(self, key: str, codes: torch.Tensor) -> None:
        with atomic(self.path(key)) as draft:
            save_file({"codes": codes.to(torch.int16).contiguous()}, draft)

    def read(self, key: str) -> Ids | None:
        """(K, T), or None if there are none that can be read."""
        try:
            return load_file(self.path(key))["codes"].long().numpy()
        except (FileNotFoundError, SafetensorError, KeyError):
            return None


@dataclass(frozen=True)
class _Clip:
    name: str
    text: str
    recording: str
    path: Path
    key: str
    seconds: float


def prepare(
    speaker: Speaker,
    output: SystemFolder,
    codec: Path,
    config: PrepareConfig,
    *,
    space: TokenSpace,
    speaker_encoder: Path | None = None,
    device: str = "auto",
) -> PrepareReport:
    """Encode a speaker's clips, those that haven't been, and write the data set.

    Args:
        output: its `processed` becomes the data set
        codec: NanoCodec's weights
        speaker_encoder: folder of it; the data set has a column `speaker_emb` then

    Raises:
        UserError: if there are no clips with texts, or most are of no use
    """
    texts = clip_texts(speaker)
    if not texts:
        raise UserError(
            f"no clip has a text{read_exclusions(speaker.clips_folder).remark()}",
            where=speaker.dataset,
            fix=f"python tools/transcribe_dataset.py --speaker {speaker.name}",
        )
    clips, skipped = _usable(speaker, texts, config)
    voice = None
    if speaker_encoder is not None:
        voice = _voice(clips, output, speaker_encoder, pick_device(device))
    store = CodeStore(output.folder / "codes" / _name_of(codec))
    todo = [clip for clip in clips if store.read(clip.key) is None]
    skipped += _encode(todo, store, codec, config, pick_device(device))
    return _publish(speaker, output, codec, config, clips, store, space, skipped, len(todo), voice)


def _usable(
    speaker: Speaker, texts: dict[str, str], config: PrepareConfig
) -> tuple[list[_Clip], list[tuple[str, str]]]:
    origins: dict[str, str] = {}
    if speaker.clips_manifest.is_file():
        origins = {clip.id: clip.recording for clip in read_manifest(speaker.clips_manifest)}
    clips, skipped = [], []
    for name, text in texts.items():
        path = speaker.clips_folder / name
        try:
            if not text.strip():
                raise UserError("its text is empty")
            seconds = audio.duration(path)
            _require_length(seconds, config)
        except UserError as error:
            skipped.append((name, error.what))
            continue
        origin = origins.get(path.stem, name)
        clips.append(_Clip(name, text.strip(), origin, path, content_key(path), seconds))
    return clips, skipped


def _require_length(seconds: float, config: PrepareConfig) -> None:
    if seconds > config.max_duration:
        raise UserError(f"{seconds:.1f} s, longer than --max-duration {config.max_duration:g}")
    if seconds < config.min_duration:
        raise UserError(f"{seconds:.1f} s, shorter than --min-duration {config.min_duration:g}")


def _voice(
    clips: Sequence[_Clip], output: SystemFolder, encoder: Path, device: torch.device
) -> torch.Tensor:
    """(E,) the mean over the speaker's clips, each of which is heard once."""
    kept = Ledger(output.folder / "speaker_embeddings" / f"{encoder_mark(encoder)}.jsonl")
    todo = [clip for clip in clips if clip.key not in kept]
    progress = SoundProgress("listened to", sum(c.seconds for c in todo), is_shown=bool(todo))
    network = load_encoder(encoder, device) if todo else None
    try:
        for clip in todo:
            assert network is not None
            try:
                kept.append(clip.key, network.of_file(clip.path).tolist())
            except UserError as error:
                log.warning("not part of the voice: %s", error)
            progress.advance(clip.seconds)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(STOPPED) from stop
    finally:
        progress.close()
    found = [torch.tensor(kept[clip.key]) for clip in clips if clip.key in kept]
    if not found:
        raise UserError("no clip tells the speaker's voice", where=encoder)
    return mean_of(found)


def _encode(
    clips: Sequence[_Clip],
    store: CodeStore,
    codec: Path,
    config: PrepareConfig,
    device: torch.device,
) -> list[tuple[str, str]]:
    """Write the codes of each clip; those that couldn't be, with the reason."""
    skipped: list[tuple[str, str]] = []
    total = sum(clip.seconds for clip in clips)
    progress = SoundProgress("encoded", total, is_shown=bool(clips))
    ordered = sorted(clips, key=lambda clip: clip.seconds)  # alike in length, little padding
    groups = [ordered[i : i + A_GROUP] for i in range(0, len(ordered), A_GROUP)]
    n = 1 if device.type != "cpu" else int(total * ENCODE_COST / PROCESS_COST)
    n = max(1, min(n, config.workers, len(groups)))
    calls = [delayed(_encoded)(group, store, codec, str(device), n > 1) for group in groups]
    try:
        with Parallel(n_jobs=n, return_as="generator_unordered") as parallel:
            for seconds, bad in cast("Iterator[Any]", parallel(calls)):
                skipped += bad
                progress.advance(seconds)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(STOPPED) from stop
    finally:
        progress.close()
    return skipped


def _encoded(
    group: Sequence[_Clip], store: CodeStore, path: Path, device: str, is_one_of_many: bool
) -> tuple[float, list[tuple[str, str]]]:
    """In a process of its own, where there are several."""
    if is_one_of_many:
        torch.set_num_threads(1)
    codec = _codec(path, device)
    sounds: list[tuple[_Clip, torch.Tensor]] = []
    skipped = []
    for clip in group:
        try:
            sound = audio.load(clip.path, codec.config.sample_rate)
        except UserError as error:
            skipped.append((clip.name, error.what))
            continue
        sounds.append((clip, torch.from_numpy(sound)))
    if sounds:
        padded, mask = pad([sound for _, sound in sounds])
        with torch.inference_mode():
            codes, lengths = codec.encode(padded.to(device), mask.sum(dim=1).to(device))
        for (clip, _), row, length in zip(sounds, codes.cpu(), lengths.tolist(), strict=True):
            store.write(clip.key, row[:, :length])
    return sum(clip.seconds for clip in group), skipped


@functools.lru_cache(maxsize=1)
def _codec(path: Path, device: str) -> Any:
    return load_codec(path, torch.device(device))


def _publish(
    speaker: Speaker,
    output: SystemFolder,
    codec: Path,
    config: PrepareConfig,
    clips: Sequence[_Clip],
    store: CodeStore,
    space: TokenSpace,
    skipped: list[tuple[str, str]],
    n_encoded: int,
    voice: torch.Tensor | None,
) -> PrepareReport:
    rows: list[dict[str, Any]] = []
    n_frames = n_duplicates = 0.0
    for clip in clips:
        codes = store.read(clip.key)
        if codes is None:
            continue  # it is among the skipped
        found = interleave(codes, space)
        n_frames += codes.shape[1]
        n_duplicates += found.duplicate_share * codes.shape[1]
        layers = dict(zip(LAYERS, codes.tolist(), strict=True))
        origin = {"id": clip.name.rpartition(".")[0], "recording": clip.recording}
        known = {"text": clip.text, "speaker": speaker.name, "duration": clip.seconds}
        known |= {} if voice is None else {SPEAKER_EMB: voice.tolist()}
        rows.append({**known, **layers, **origin, "encoded_len": codes.shape[1]})
    _require_enough(len(rows), skipped, speaker.clips_folder)
    features = FEATURES if voice is None else Features({**FEATURES, **EMBEDDED})
    table = {name: [row[name] for row in rows] for name in features}
    report = PrepareReport(
        output.processed,
        len(rows),
        n_encoded,
        float(np.sum(table["duration"])),
        n_duplicates / n_frames,
        skipped,
        None if voice is None else output.folder / VOICE_FILE,
    )
    info = {"format": FORMAT, "version": 1, "codec": _name_of(codec), "config": to_dict(config)}
    told = {k: v for k, v in vars(report).items() if k not in ("folder", "n_encoded", "voice")}
    if voice is not None:
        save_embedding(output.folder / VOICE_FILE, voice)
    with atomic_folder(output.processed) as draft:
        save(Dataset.from_dict(table, features=features), draft)
        write_json(draft / INFO, {**info, **told})
    return report


def _require_enough(n_good: int, skipped: Sequence[tuple[str, str]], where: Path) -> None:
    n_all = n_good + len(skipped)
    if n_good == 0 or len(skipped) > MOST_BAD * n_all:
        why, count = Counter(reason for _, reason in skipped).most_common(1)[0]
        raise UserError(
            f"{len(skipped)} of {n_all} are of no use, {count} of them: {why}",
            where=where,
            fix="mend them or take them out",
        )
    for name, reason in skipped:
        log.warning("left out %s: %s", name, reason)


def _name_of(codec: Path) -> str:
    """Of the codec, by its weights."""
    files = sorted(codec.rglob("*")) if codec.is_dir() else [codec]
    keys = [weights_key(file) for file in files if file.is_file()]
    if not keys:
        raise UserError("no codec here", where=codec, fix="--codec FILE.nemo")
    return fingerprint(*keys)
