"""From clips and texts to what the language model trains on: `prepare` fills a folder.

Clip by clip, so that a run that was killed goes on where it was, and after a change only the
changed clips are computed again.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from indextts.clip_encoder import Arrays, ClipEncoder, ClipFault
from indextts.clip_store import SOUND_KINDS, ClipStore, Note
from indextts.clips import INFO_FILE, INFO_FORMAT, TRAIN_MANIFEST, VALIDATION_MANIFEST
from indextts.prepare_config import PrepareConfig
from indextts.utterances import Skip, Source, Utterance, split
from ttscommon.audio import Audio
from ttscommon.config import to_dict
from ttscommon.errors import UserError
from ttscommon.files import read_json, require_free_disk
from ttscommon.machine import processes
from ttscommon.sound_progress import SoundProgress

RULES = 1  # raised when the same input would give other files
PATIENCE = timedelta(days=30)  # one of several machines may have far more to do than another
BYTES_PER_CLIP = 200_000  # the speaker's 32 vectors of 1280 numbers, and a little more
FRAME_RATE = 50  # w2v-bert's
Finish = Callable[[Sequence[Utterance], Mapping[str, Note]], dict[str, Any]]


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did.

    Attributes:
        seconds: of speech in the clips
        n_made: clips that this process computed; the others were there, or are another's
        skipped: (what, why) for everything that was left out
        split: "recording" or "clip", what was parted
        notes: what to know about the split
        unknown: pieces of the texts that the tokenizer doesn't know, with their number
        spent: seconds of this process for each stage
        folder: where all is
    """

    n_train: int
    n_val: int
    seconds: float
    n_made: int
    skipped: list[Skip]
    split: str
    notes: list[str]
    unknown: dict[str, int]
    spent: dict[str, float]
    folder: Path


def prepare(
    source: Source,
    config: PrepareConfig,
    encoder: ClipEncoder,
    output: Path,
    *,
    store: ClipStore | None = None,
    finish: Finish | None = None,
) -> PrepareReport:
    """Fill `output` with features and manifests.

    Under `accelerate launch` every process works on its share of the clips and the first one
    writes the manifests; all return the same report but for `n_made` and `spent`.

    Args:
        store: writes to `output`, if it is to hold more than usual
        finish: does what takes all clips, before manifests name them, and says more to describe

    Raises:
        UserError: if fewer than two clips are of use, the folder is another speaker's, a file of
            weights is broken, or the disk is full
    """
    state = processes(encoder.device.type, patience=PATIENCE)
    store = store or ClipStore(output)
    store.require_own(source.speaker)
    if state.is_main_process:
        store.remove_drafts()
    state.wait_for_everyone()
    mine = source.utterances[state.process_index :: state.num_processes]
    work = _Work(encoder, store, mine)
    seconds = sum(utterance.duration for utterance in work.todo)
    width = encoder.folder.config.gpt.cond_input_dim
    needed = seconds * FRAME_RATE * width * 2 + len(work.todo) * BYTES_PER_CLIP
    require_free_disk(output, int(needed * state.num_processes))
    n_made = work.run(config.workers, is_shown=state.is_main_process)
    state.wait_for_everyone()
    if state.is_main_process:
        _publish(source, config, encoder, store, finish)
    state.wait_for_everyone()
    info = read_json(output / INFO_FILE, format=INFO_FORMAT)
    return PrepareReport(
        n_train=info["n_train"],
        n_val=info["n_val"],
        seconds=info["seconds"],
        n_made=n_made,
        skipped=[(what, why) for what, why in info["skipped"]],
        split=info["split"],
        notes=info["notes"],
        unknown=info["unknown"],
        spent=dict(encoder.seconds),
        folder=output,
    )


class _Work:
    """One process's part of the clips.

    Attributes:
        todo: those that aren't there as they would be made now
    """

    def __init__(self, encoder: ClipEncoder, store: ClipStore, utterances: Sequence[Utterance]):
        self.encoder, self.store = encoder, store
        self._keys = {u.id: _keys(u, encoder) for u in utterances}
        self.todo = [u for u in utterances if not self._is_done(u)]

    def run(self, workers: int, *, is_shown: bool) -> int:
        """Make what is to do; how many clips came of it."""
        seconds = sum(utterance.duration for utterance in self.todo)
        progress = SoundProgress("prepared", seconds, is_shown=is_shown and bool(self.todo))
        n_made = 0
        if any(map(self._needs_sound, self.todo)):
            self.encoder.load_models()
        try:
            for utterance, sound in _read_ahead(self.todo, self._load, workers):
                n_made += self._make(utterance, sound)
                progress.advance(utterance.duration)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt("stopped; the same command goes on from here") from stop
        finally:
            progress.close()
        return n_made

    def _is_done(self, utterance: Utterance) -> bool:
        note = self.store.note(utterance)
        if note is None or note.sha256 != self._keys[utterance.id][1]:
            return False
        return note.why is not None or self.store.is_whole(utterance)

    def _load(self, utterance: Utterance) -> Audio | None:
        return self.encoder.load(utterance.path) if self._needs_sound(utterance) else None

    def _needs_sound(self, utterance: Utterance) -> bool:
        """False if the sound was read before and only the text has changed."""
        note = self.store.note(utterance)
        if note is None or note.why is not None or note.sound != self._keys[utterance.id][0]:
            return True
        return not self.store.is_whole(utterance, SOUND_KINDS)

    def _make(self, utterance: Utterance, sound: Future[Audio | None]) -> bool:
        """Write a clip's files and its note; False if it is of no use."""
        before, (sound_key, sha256) = self.store.note(utterance), self._keys[utterance.id]
        arrays: Arrays = {}
        try:
            with self.encoder.timed("waiting for sound"):
                loaded = sound.result()
            with self.encoder.timed("text"):
                arrays["text_ids"], unknown = self.encoder.read_text(utterance.text)
            if loaded is not None:
                arrays |= self.encoder.read_sound(loaded)
        except ClipFault as error:
            self.store.write(utterance, {}, Note(sound=sound_key, sha256=sha256, why=error.what))
            return False
        code_len = len(arrays["codes"]) if before is None or "codes" in arrays else before.code_len
        note = Note(
            sound=sound_key,
            sha256=sha256,
            text_len=len(arrays["text_ids"]),
            code_len=code_len,
            condition_len=self.encoder.gpt.config.condition_num_latent,
            unknown=dict(unknown),
        )
        with self.encoder.timed("writing"):
            self.store.write(utterance, arrays, note)
        return True


def _keys(utterance: Utterance, encoder: ClipEncoder) -> tuple[str, str]:
    """Names of all that the files of the sound, and all files, are made from."""
    try:
        content = hashlib.sha256(utterance.path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError("the recording can't be read", where=utterance.path) from error
    sound = _digest(RULES, content, encoder.sound_mark)
    return sound, _digest(sound, utterance.text, encoder.tokenizer_sha256)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _read_ahead(
    todo: Sequence[Utterance], load: Callable[[Utterance], Audio | None], workers: int
) -> Iterator[tuple[Utterance, Future[Audio | None]]]:
    """Each clip with its sound, while threads load the next ones."""
    waiting: deque[tuple[Utterance, Future[Audio | None]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for utterance in todo:
            waiting.append((utterance, pool.submit(load, utterance)))
            if len(waiting) > workers:
                yield waiting.popleft()
        yield from waiting


def _publish(
    source: Source,
    config: PrepareConfig,
    encoder: ClipEncoder,
    store: ClipStore,
    finish: Finish | None,
) -> None:
    """Write manifests and description of all that is done."""
    usable: list[Utterance] = []
    notes: dict[str, Note] = {}
    skipped = list(source.skipped)
    for utterance in source.utterances:
        note = store.note(utterance)
        assert note is not None, f"{utterance.id} was not prepared"
        if note.why is not None:
            skipped.append((utterance.name, note.why))
            continue
        usable.append(utterance)
        notes[utterance.id] = note
    if not usable:
        why, count = Counter(why for _, why in skipped).most_common(1)[0]
        raise UserError(f"no clip can be used; {count} x {why}", where=source.folder)
    train, held_out, remarks = split(usable, config)
    more = finish(usable, notes) if finish else {}
    lines = {
        name: "".join(store.line(u, notes[u.id], source.speaker) for u in chosen)
        for name, chosen in ((TRAIN_MANIFEST, train), (VALIDATION_MANIFEST, held_out))
    }
    by_clip = config.split_by == "clip" or len({u.recording for u in usable}) == 1
    info: dict[str, Any] = {
        "base": encoder.fingerprint,
        "tokenizer_sha256": encoder.tokenizer_sha256,
        "config": to_dict(config),
        "speaker": source.speaker,
        "n_train": len(train),
        "n_val": len(held_out),
        "seconds": round(sum(utterance.duration for utterance in usable), 3),
        "skipped": [list(skip) for skip in skipped],
        "split": "clip" if by_clip else "recording",
        "notes": remarks,
        "unknown": dict(sum((Counter(note.unknown) for note in notes.values()), Counter())),
    }
    store.publish(lines, info | more)
    store.remove_others(source.utterances)
