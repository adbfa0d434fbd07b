"""From samples or a speaker's clips to lists of what is learned; the codec hears audio once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from higgs_trainer.chatml import ChatSample, read_samples, refuse_defects
from higgs_trainer.clip_verdicts import Verdicts
from higgs_trainer.clips import (
    TRAIN,
    VALIDATION,
    CodeStore,
    HiggsClip,
    Sound,
    write_clips,
)
from higgs_trainer.codec import Codec
from higgs_trainer.config import PrepareConfig, Streams
from higgs_trainer.conversation import Audio, as_read, unspeakable
from higgs_trainer.statistics import Statistics, write_statistics
from higgs_trainer.text import has_speech, normalised
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.exclusions import read_exclusions
from ttscommon.holdout import hold_out
from ttscommon.ledger import content_key
from ttscommon.manifest import read_manifest
from ttscommon.transcripts import clip_texts
from ttscommon.workspace import Speaker

log = logging.getLogger(__name__)

MOST_BAD = 0.5
LOG_EVERY = 100
Skip = tuple[str, str]  # (what, why)


@dataclass(frozen=True)
class PrepareReport:
    """What there is to train on, and what was left out.

    Attributes:
        n_encoded: audios that the codec heard now; the others it had heard before
        skipped: (what, why)
        verdicts: file with what was found out about each audio
        n_odd: audios with something odd about them, of use or not
    """

    train: Path
    validation: Path
    n_train: int
    n_validation: int
    n_encoded: int
    skipped: list[Skip]
    verdicts: Path
    n_odd: int


def prepare_samples(
    train: Path,
    processed: Path,
    codec: Codec,
    config: PrepareConfig,
    *,
    validation: Path | None = None,
    audio_base: Path | None = None,
) -> PrepareReport:
    """Prepare ChatML samples.

    Args:
        processed: gets codes and lists
        validation: samples to measure with; without them some recordings of `train` are held out

    Raises:
        UserError: if a file can't be read, or most of it is of no use
    """
    lists = [read_samples(path, audio_base) for path in (train, validation) if path is not None]
    for path, samples in zip((train, validation), lists, strict=False):
        refuse_defects(samples, path or train)
    work = _Work(processed, codec, config)
    found = [[one for one in map(work.of_sample, samples) if one] for samples in lists]
    work.require_enough(sum(map(len, found)), train)
    if validation is None:
        found = split(found[0], config)
    return work.publish(found[0], found[1])


def prepare_speaker(
    speaker: Speaker, processed: Path, codec: Codec, config: PrepareConfig
) -> PrepareReport:
    """Prepare a speaker's clips; each gets another clip as its reference when it is learned.

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
    origins = {}
    if speaker.clips_manifest.is_file():
        origins = {clip.id: clip.recording for clip in read_manifest(speaker.clips_manifest)}
    work = _Work(processed, codec, config)
    found = [work.of_clip(speaker, name, text, origins) for name, text in texts.items()]
    clips = [clip for clip in found if clip]
    work.require_enough(len(clips), speaker.clips_folder)
    return work.publish(*split(clips, config))


def split(clips: Sequence[HiggsClip], config: PrepareConfig) -> list[list[HiggsClip]]:
    """Clips to train on and clips to measure with; a recording is on one side only.

    Raises:
        UserError: if there is but one clip
    """
    share, seed = config.validation_share, config.seed
    train, held_out, notes = hold_out(
        clips, share, seed=seed, size=lambda clip: clip.target.n_steps
    )
    for note in notes:
        log.warning("%s", note)
    return [train, held_out]


class _Work:
    """What is known while audio is encoded."""

    def __init__(self, processed: Path, codec: Codec, config: PrepareConfig):
        self.processed, self.codec, self.config = processed, codec, config
        self.store = CodeStore(processed, codec.name)
        codes = {"n_codes": codec.n_codes, "begin_id": codec.n_codes, "end_id": codec.n_codes + 1}
        self.verdicts = Verdicts(
            processed, codec.name, Streams(n_codebooks=codec.n_codebooks, **codes)
        )
        self.sounds: dict[Path, Sound | str] = {}  # the codes of an audio, or why it has none
        self.skipped: list[Skip] = []
        self.n_encoded = 0

    def of_sample(self, sample: ChatSample) -> HiggsClip | None:
        config = self.config.text
        reasons = [*sample.defects, *unspeakable(sample.conversation.turns, config)]
        for note in sample.notes:
            log.info("%s: %s", sample.id, note)
        sounds: list[Sound] = []
        for heard in sample.conversation.audios if not reasons else []:
            assert heard.path is not None
            sound = self.sound(heard.path)
            if isinstance(sound, Sound):
                sounds.append(sound)
            else:
                reasons.append(f"{heard.path.name}: {sound}")
        if not reasons and sounds[-1].key in [sound.key for sound in sounds[:-1]]:
            reasons.append("a reference is the target itself under another name")
        if reasons:
            self.skipped.append((sample.id, "; ".join(reasons)))
            return None
        read, turns, number = as_read(sample.conversation.turns, config), [], 0
        for turn in read:
            parts: list[str | int] = []
            for part in turn.parts:
                parts.append(number if isinstance(part, Audio) else part)
                number += isinstance(part, Audio)
            turns.append((turn.role, tuple(parts)))
        asked = [turn.text for turn in read if turn.role == "user"]
        return HiggsClip(
            id=sample.id,
            speaker=sample.speaker,
            recording=sample.recording,
            text=asked[-1],
            sounds=tuple(sounds),
            turns=tuple(turns),
            learned_from=sample.conversation.learned_from or 0,
        )

    def of_clip(
        self, speaker: Speaker, name: str, text: str, origins: Mapping[str, str]
    ) -> HiggsClip | None:
        path, text = speaker.clips_folder / name, normalised(text, self.config.text)
        sound = self.sound(path) if has_speech(text) else "its text is empty"
        if not isinstance(sound, Sound):
            self.skipped.append((name, sound))
            return None
        return HiggsClip(
            id=name.rpartition(".")[0],
            speaker=speaker.name,
            recording=origins.get(path.stem, name),
            text=text,
            sounds=(replace(sound, audio=name),),
        )

    def sound(self, path: Path) -> Sound | str:
        """The stored codes of an audio, made now if need be; or why there can't be any."""
        if path not in self.sounds:
            try:
                self.sounds[path] = self._encoded(path)
            except UserError as error:
                self.sounds[path] = error.what
        return self.sounds[path]

    def _encoded(self, path: Path) -> Sound:
        config, seconds = self.config, audio.duration(path)
        if seconds > config.max_duration:
            raise UserError(f"{seconds:.1f} s, longer than --max-duration {config.max_duration:g}")
        if seconds < config.min_duration:
            raise UserError(f"{seconds:.1f} s, shorter than --min-duration {config.min_duration:g}")
        key = content_key(path)
        codes, rate = self.store.read(key), self.codec.sample_rate
        is_known = codes is not None and self.verdicts.knows(key)
        heard = None if is_known else audio.load(path, rate)
        if codes is None:
            assert heard is not None
            codes = self.codec.encode(heard)
            self.store.write(key, codes)
            self.n_encoded += 1
            if self.n_encoded % LOG_EVERY == 0:
                log.info("encoded %d audios", self.n_encoded)
        if heard is not None:
            self.verdicts.add(key, heard, rate, codes)
        useless = self.verdicts.useless(key, path.name)
        if useless:
            raise UserError(useless)
        return Sound(path.name, key, codes.shape[1])

    def require_enough(self, n_good: int, where: Path) -> None:
        n_all = n_good + len(self.skipped)
        if self.config.strict and self.skipped:
            (what, why), n_bad = self.skipped[0], len(self.skipped)
            raise UserError(
                f"{n_bad} of {n_all} are of no use, {what} first: {why}",
                where=where,
                fix="mend them or take them out; without --strict they are left out",
            )
        if n_good == 0 or len(self.skipped) > MOST_BAD * n_all:
            why, count = Counter(reason for _, reason in self.skipped).most_common(1)[0]
            raise UserError(
                f"{len(self.skipped)} of {n_all} are of no use, {count} of them: {why}",
                where=where,
                fix="mend them or take them out",
            )
        for name, reason in self.skipped:
            log.warning("left out %s: %s", name, reason)

    def publish(self, train: list[HiggsClip], validation: list[HiggsClip]) -> PrepareReport:
        places = self.processed / TRAIN, self.processed / VALIDATION
        rate = self.codec.frame_rate
        spoken = [(clip.text, clip.target.n_steps / rate) for clip in train]
        write_statistics(self.processed, Statistics.of(spoken, self.config.text))
        for place, clips in zip(places, (train, validation), strict=True):
            write_clips(place, clips, self.codec.name)
        n_odd = self.verdicts.write()
        if n_odd:
            log.warning("%d audios have something odd about them: %s", n_odd, self.verdicts.path)
        counts = len(train), len(validation), self.n_encoded
        return PrepareReport(*places, *counts, list(self.skipped), self.verdicts.path, n_odd)
