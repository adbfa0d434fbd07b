"""From stored codes to batches; a speaker's clip gets another one as its reference, or none."""

from __future__ import annotations

import logging
from collections import defaultdict

import numpy as np

from higgs_trainer.clips import CodeStore, HiggsClip, Prepared, Sound
from higgs_trainer.collator import Collator, HiggsBatch
from higgs_trainer.conversation import Audio, Conversation, request
from higgs_trainer.prompt import PromptWriter, Written
from ttscommon.batching import BatchKey, length_buckets
from ttscommon.checkpoints import fingerprint
from ttscommon.errors import UserError
from ttscommon.seeds import seed_for

log = logging.getLogger(__name__)

UNIT = 2**32  # of the numbers that `seed_for` gives
TEXT_TARGETS = 3  # speech begins, speech ends, the turn ends
MARKS_OF_A_TURN = 8  # at most, its header's included


class SamplePlan:
    """Samples of like length together; everything drawn follows from (seed, epoch).

    Args:
        reference_share: of a speaker's clips, how many get a reference in an epoch; the others
            teach the voice without one
        token_budget: most places of a batch (samples x longest); 0: no limit
        references: clips to draw references from, by default those of `prepared`
        shuffle: False makes all epochs alike, for validation

    Raises:
        UserError: if a sample alone is over the budget
    """

    def __init__(
        self,
        prepared: Prepared,
        writer: PromptWriter,
        collator: Collator,
        *,
        batch_size: int,
        token_budget: int = 0,
        reference_share: float = 0.7,
        references: Prepared | None = None,
        seed: int = 0,
        shuffle: bool = True,
    ):
        self.clips, self.writer, self.collator = prepared.clips, writer, collator
        self.store: CodeStore = prepared.store
        self.text = prepared.statistics.text  # how the clips' texts are written
        self.batch_size, self.token_budget = batch_size, token_budget
        self.reference_share, self.seed, self.shuffle = reference_share, seed, shuffle
        pool = self.clips if references is None else references.clips
        self.pool = [clip for clip in pool if not clip.turns]
        self._choices = self._by_speaker()
        self._n_text = {clip: self._text_length(clip) for clip in [*self.clips, *self.pool]}
        self._warn_of_lonely()
        self._require_budget()
        named = [(clip.id, clip.text, clip.turns, clip.learned_from) for clip in self.clips]
        keys = [[sound.key for sound in clip.sounds] for clip in [*self.clips, *self.pool]]
        self.fingerprint = fingerprint(prepared.codec, named, keys)

    def epoch(self, epoch: int) -> list[BatchKey]:
        drawn = epoch if self.shuffle else 0
        lengths = np.array([self.n_places(item, drawn) for item in range(len(self.clips))])
        keys = length_buckets(
            lengths,
            batch_size=self.batch_size,
            frame_budget=self.token_budget,
            seed=self.seed,
            epoch=drawn,
        )
        return keys if self.shuffle else sorted(keys, key=lambda key: lengths[key.items[0]])

    def load(self, key: BatchKey) -> HiggsBatch:
        samples = [self.sample(item, key.epoch) for item in key.items]
        return self.collator(samples, [self.clips[item].id for item in key.items])

    def sample(self, item: int, epoch: int) -> Written:
        """Sample number `item` as it is learned in this epoch."""
        conversation, sounds = self.asked(item, epoch)
        return self.writer.sample(conversation, [self.store.codes(sound) for sound in sounds])

    def asked(self, item: int, epoch: int) -> tuple[Conversation, list[Sound]]:
        """The conversation with its answer, and the sounds in it."""
        clip = self.clips[item]
        if clip.turns:
            return clip.conversation(), list(clip.sounds)
        other = self.reference_of(item, epoch)
        said = [(other.text, Audio())] if other else []
        sounds = [other.target, clip.target] if other else [clip.target]
        return request(clip.text, references=said).answered(Audio()), sounds

    def reference_of(self, item: int, epoch: int) -> HiggsClip | None:
        """Another clip of the same speaker, if this one is to have a reference in this epoch."""
        clip, drawn = self.clips[item], epoch if self.shuffle else 0
        others = [one for one in self._choices[clip.speaker] if one.target.key != clip.target.key]
        if clip.turns or not others:
            return None
        if seed_for(self.seed, "has reference", drawn, item) >= self.reference_share * UNIT:
            return None
        return others[seed_for(self.seed, "reference", drawn, item) % len(others)]

    def n_places(self, item: int, epoch: int) -> int:
        """Of a sample in the network, a few more or less."""
        clip, streams = self.clips[item], self.writer.streams
        n_places = self._n_text[clip] + sum(streams.n_frames(s.n_steps) for s in clip.sounds)
        other = self.reference_of(item, epoch)
        if other is None:
            return n_places
        return n_places + self._n_text[other] + streams.n_frames(other.target.n_steps)

    @property
    def n_targets(self) -> tuple[int, int]:
        """Codes and text tokens that an epoch teaches, ends and marks included."""
        rows = self.writer.streams.n_codebooks
        n_codes = sum(rows * (clip.target.n_steps + 1) for clip in self.clips)
        return n_codes, TEXT_TARGETS * len(self.clips)

    def _by_speaker(self) -> dict[str, list[HiggsClip]]:
        found: dict[str, list[HiggsClip]] = defaultdict(list)
        for clip in self.pool:
            found[clip.speaker].append(clip)
        return found

    def _text_length(self, clip: HiggsClip) -> int:
        conversation = clip.conversation() if clip.turns else request(clip.text)
        said = "".join(turn.text for turn in conversation.turns)
        n_marks = MARKS_OF_A_TURN * (len(conversation.turns) + 1)
        return n_marks + len(self.writer.tokenizer.encode(said, add_special_tokens=False).ids)

    def _warn_of_lonely(self) -> None:
        lonely = [
            clip.id
            for clip in self.clips
            if not clip.turns
            and all(one.target.key == clip.target.key for one in self._choices[clip.speaker])
        ]
        if lonely and self.reference_share:
            log.warning("%d clips have no other of their speaker as a reference", len(lonely))

    def _require_budget(self) -> None:
        longest = max(map(self._most_places, range(len(self.clips))))
        if self.token_budget and longest > self.token_budget:
            raise UserError(
                f"a sample may take {longest} places, a batch may have {self.token_budget}",
                fix=f"--token-budget {longest}, or more",
            )

    def _most_places(self, item: int) -> int:
        """Whatever its reference is."""
        clip, streams = self.clips[item], self.writer.streams
        own = self._n_text[clip] + sum(streams.n_frames(s.n_steps) for s in clip.sounds)
        others = self._choices[clip.speaker] if not clip.turns else []
        each = [self._n_text[one] + streams.n_frames(one.target.n_steps) for one in others]
        return own + max(each, default=0)
