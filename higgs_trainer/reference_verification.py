"""Does training see what inference sees? Checks with numbers, before the first step.

The score is how many checks passed of those that could tell; there is no other percentage.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from higgs_trainer.codec import Codec
from higgs_trainer.collator import Collator, HiggsBatch
from higgs_trainer.conversation import Conversation, as_read
from higgs_trainer.dataset import SamplePlan
from higgs_trainer.delay import IGNORED, cut, delayed
from higgs_trainer.generation import Sampling, forced, generated
from higgs_trainer.loss import codebook_losses, predictions
from higgs_trainer.prompt import Written
from ttscommon import probe
from ttscommon.batching import move
from ttscommon.probe import Check
from ttscommon.seeds import seed_for

log = logging.getLogger(__name__)

N_SAMPLES = 5
N_STEPS = 6  # generated one by one
TOLERANCES = {torch.float32: 1e-4}  # of the logits' size; what rounding may move
COARSE = 0.05  # in bf16


@dataclass(frozen=True)
class Subject:
    """One sample in all forms that are compared.

    Attributes:
        codes: (K, T) of each audio, the last of them the target's
    """

    id: str
    conversation: Conversation
    codes: Sequence[Tensor]
    written: Written


@dataclass(frozen=True)
class AlignmentReport:
    """Checks and what they found."""

    checks: tuple[Check, ...]

    @property
    def n_passed(self) -> int:
        return sum(check.passed is True for check in self.checks)

    @property
    def n_told(self) -> int:
        """Checks that could tell."""
        return sum(check.passed is not None for check in self.checks)

    @property
    def is_aligned(self) -> bool:
        return self.n_passed == self.n_told

    @property
    def score(self) -> str:
        untold = len(self.checks) - self.n_told
        return f"{self.n_passed} of {self.n_told} checks passed" + (
            f", {untold} can't tell" if untold else ""
        )

    def to_dict(self) -> dict[str, Any]:
        return {"score": self.score, "checks": [vars(check) for check in self.checks]}


def verify(model: Any, plan: SamplePlan, codec: Codec | None = None) -> AlignmentReport:
    """Check a model, with or without an adapter, against samples as they are learned.

    Args:
        model: in eval mode
        codec: whose codes the samples are; without it the sound isn't looked at
    """
    subjects = [_subject(plan, item) for item in range(min(N_SAMPLES, len(plan.clips)))]
    collator = plan.collator
    longest = max(subjects, key=lambda one: one.codes[-1].shape[1])
    with torch.no_grad():
        checks = (
            _check_prompts(plan, subjects),
            _check_labels(plan, subjects),
            _check_delay(plan, subjects),
            _check_native_loss(model, collator, subjects),
            _check_offsets(model, collator, longest),
            _check_causality(model, plan, longest),
            _check_random_codes(model, plan, longest),
            _check_steps(model, plan, longest),
            _check_reference(model, plan, subjects),
            _check_padding(model, collator, subjects),
            _check_codec(codec, plan, subjects),
        )
    return AlignmentReport(checks)


def require(report: AlignmentReport) -> None:
    """Log a report, and refuse to train if a check failed.

    Raises:
        UserError: naming what failed, with its numbers
    """
    probe.require(report.checks)
    log.info("alignment: %s", report.score)


def _subject(plan: SamplePlan, item: int) -> Subject:
    conversation, sounds = plan.asked(item, 0)
    codes = [plan.store.codes(sound) for sound in sounds]
    return Subject(
        plan.clips[item].id, conversation, codes, plan.writer.sample(conversation, codes)
    )


def _check_prompts(plan: SamplePlan, subjects: Sequence[Subject]) -> Check:
    """Is a sample, up to where its speech begins, what inference would be given?"""
    n_tokens = n_wrong = 0
    for one in subjects:
        asked = one.conversation.prompt
        asked = dataclasses.replace(asked, turns=as_read(asked.turns, plan.text))
        n_asked = len(asked.audios)
        prompt = plan.writer.prompt(asked, one.codes[:n_asked])
        pairs = [
            (one.written.ids[: len(prompt.ids)], prompt.ids),
            (one.written.frames[: len(prompt.frames)], prompt.frames),
        ]
        for ours, theirs in pairs:
            n_tokens += theirs.numel()
            n_wrong += int((ours != theirs).sum()) if ours.shape == theirs.shape else theirs.numel()
    numbers = {"samples": len(subjects), "tokens": n_tokens, "different": n_wrong}
    return Check("prompt", n_wrong == 0, _floats(numbers), "" if not n_wrong else "prompts differ")


def _check_labels(plan: SamplePlan, subjects: Sequence[Subject]) -> Check:
    """Is the target learned as a whole, each codebook's end once, and nothing of references?"""
    n_codebooks, n_wrong, n_ends, n_labels = plan.writer.streams.n_codebooks, 0, 0, 0
    for one in subjects:
        learned = one.written.audio_labels
        target = one.codes[-1]
        own = learned[-(target.shape[1] + n_codebooks + 1) :]
        rows = [own[row + 1 : row + 1 + target.shape[1], row] for row in range(n_codebooks)]
        ends = (learned == plan.writer.streams.end_id).sum(0)
        expected = n_codebooks * (target.shape[1] + 1)
        n_labels += one.written.n_targets
        n_ends += int(ends.sum())
        is_right = torch.equal(torch.stack(rows), target) and bool((ends == 1).all())
        n_wrong += not (is_right and one.written.n_targets == expected)
    numbers = {"labels": n_labels, "ends": n_ends, "samples": len(subjects), "wrong": n_wrong}
    note = "" if not n_wrong else "labels aren't the target's codes and one end a codebook"
    return Check("labels", n_wrong == 0, _floats(numbers), note)


def _check_delay(plan: SamplePlan, subjects: Sequence[Subject]) -> Check:
    """Do codes come back from frames?"""
    streams, clips = plan.writer.streams, [codes for one in subjects for codes in one.codes]
    found = [cut(delayed(codes, streams), streams) for codes in clips]
    wrong = [
        not (one.is_sound and torch.equal(one.codes, codes))
        for one, codes in zip(found, clips, strict=True)
    ]
    return Check("delay pattern", not any(wrong), {"clips": len(clips), "wrong": sum(wrong)})


def _check_native_loss(model: Any, collator: Collator, subjects: Sequence[Subject]) -> Check:
    """Is our loss that of transformers' own class, with its weights?"""
    batch = _batch(model, collator, [one.written for one in subjects])
    said = predictions(model, batch)
    ours = float(codebook_losses(said).sum())
    if said.text_logits is not None and said.text_targets is not None:
        ours += float(
            torch.nn.functional.cross_entropy(said.text_logits.float(), said.text_targets)
        )
    native = model(
        input_ids=batch.input_ids,
        attention_mask=batch.mask,
        audio_input_ids=batch.frames,
        audio_input_ids_mask=batch.frame_mask,
        audio_labels=batch.audio_labels,
        labels=batch.labels if model.text_lm_head is not None else None,
    )
    theirs = float(native.loss)
    passed = abs(ours - theirs) <= _tolerance(model) * max(1.0, abs(theirs))
    note = "" if passed else "labels or their shift differ from transformers'"
    return Check("native loss", passed, {"ours": ours, "native": theirs}, note)


def _check_offsets(model: Any, collator: Collator, one: Subject) -> Check:
    """Is the next code what is predicted best, not the one just read?"""
    said = predictions(model, _batch(model, collator, [one.written]), with_text=False)
    targets = said.audio_targets.T.cpu()  # (K, N)
    read = one.written.frames[-targets.shape[1] - 1 : -1].T
    logits = said.audio_logits.transpose(0, 1).cpu()
    return probe.check_offsets(logits, read, targets.clamp(min=0), targets != IGNORED)


def _check_causality(model: Any, plan: SamplePlan, one: Subject) -> Check:
    """Does a code change nothing before it? Of the first codebook, which is ahead of the others."""

    def outputs(first: Tensor) -> Tensor:
        codes = torch.cat([first, one.codes[-1][1:]])
        return _said_of(model, plan, one, codes).audio_logits[:, 0][None].cpu()

    return probe.check_causality(outputs, one.codes[-1][:1], n_tokens=plan.writer.streams.n_codes)


def _check_random_codes(model: Any, plan: SamplePlan, one: Subject) -> Check:
    """Are random codes as hard as chance? Only a model that sees them could do better."""
    codes = one.codes[-1]

    def loss_of(drawn: Tensor) -> Tensor:
        return codebook_losses(_said_of(model, plan, one, drawn)).mean()

    return probe.check_entropy_floor(
        loss_of, codes.shape, n_tokens=plan.writer.streams.n_codes, seed=seed_for(one.id)
    )


def _check_steps(model: Any, plan: SamplePlan, one: Subject) -> Check:
    """Are the logits of speaking, frame by frame with a cache, those of reading all at once?"""
    asked = one.conversation.prompt
    prompt = plan.writer.prompt(asked, one.codes[: len(asked.audios)])
    left = dataclasses.replace(plan.collator, side="left")
    sampling = Sampling.greedy(max_steps=N_STEPS)
    found = generated(model, [prompt], left, sampling)
    frames = found.frames[0]
    at_once = forced(model, prompt, frames, left)[:-1]
    step_by_step = found.logits[0, 1:]
    size = float(step_by_step.abs().max())
    apart = float((at_once - step_by_step).abs().max())
    agreed = float((at_once.argmax(-1) == step_by_step.argmax(-1)).float().mean())
    passed = apart <= _tolerance(model) * max(1.0, size)
    numbers = {"frames": float(len(frames)), "apart": apart, "size": size, "same_choice": agreed}
    note = "" if passed else "training computes something else than speaking"
    return Check("step by step", passed, numbers, note)


def _check_reference(model: Any, plan: SamplePlan, subjects: Sequence[Subject]) -> Check:
    """Does another reference change what is predicted?"""
    with_one = next((one for one in subjects if len(one.codes) > 1), None)
    if with_one is None:
        return Check("reference", None, {}, "no sample has a reference")
    n_codes = plan.writer.streams.n_codes
    others = [(codes + n_codes // 2) % n_codes for codes in with_one.codes[:-1]]
    changed = plan.writer.sample(with_one.conversation, [*others, with_one.codes[-1]])
    pair = [
        predictions(model, _batch(model, plan.collator, [written]), with_text=False).audio_logits
        for written in (with_one.written, changed)
    ]
    moved = float((pair[0] - pair[1]).abs().max())
    note = "" if moved > 0 else "references don't reach the output"
    return Check("reference", moved > 0, {"moved": moved}, note)


def _check_padding(model: Any, collator: Collator, subjects: Sequence[Subject]) -> Check:
    """Does a batch, padded on either side, say what its samples say alone?"""
    few = [one.written for one in subjects]
    alone = [predictions(model, _batch(model, collator, [one])).audio_logits for one in few]
    apart = 0.0
    for side in ("left", "right"):
        padded = _batch(model, dataclasses.replace(collator, side=side), few)
        together = predictions(model, padded).audio_logits
        apart = max(apart, float((together - torch.cat(alone)).abs().max()))
    size = max(float(one.abs().max()) for one in alone)
    passed = apart <= _tolerance(model) * max(1.0, size)
    numbers = {"samples": float(len(few)), "apart": apart, "size": size}
    return Check("padding", passed, numbers, "" if passed else "padding changes the output")


def _check_codec(codec: Codec | None, plan: SamplePlan, subjects: Sequence[Subject]) -> Check:
    """Do stored codes become sound of their length, and come back as codes?"""
    if codec is None:
        return Check("codec", None, {}, "no codec was given")
    if codec.name != plan.store.folder.name:
        note = f"the codes were made by codec {plan.store.folder.name}, this is {codec.name}"
        return Check("codec", False, {}, note)
    wrong, same = 0, []
    for one in subjects:
        codes = one.codes[-1]
        sound = codec.decode(codes)
        again = codec.encode(sound)
        fits = len(sound) == codec.hop_length * codes.shape[1] and again.shape == codes.shape
        wrong += not (fits and bool(torch.isfinite(torch.from_numpy(sound)).all()))
        same += [float((again[0] == codes[0]).float().mean())] if fits else []
    numbers = {"clips": float(len(subjects)), "wrong": float(wrong)}
    if same:
        numbers["same_first_codes"] = sum(same) / len(same)
    note = "" if not wrong else "sound of another length, or codes that don't come back"
    return Check("codec", wrong == 0, numbers, note)


def _said_of(model: Any, plan: SamplePlan, one: Subject, codes: Tensor) -> Any:
    """Predictions for the same conversation with other codes to be said."""
    written = plan.writer.sample(one.conversation, [*one.codes[:-1], codes])
    return predictions(model, _batch(model, plan.collator, [written]), with_text=False)


def _batch(model: Any, collator: Collator, samples: Sequence[Written]) -> HiggsBatch:
    return move(collator.padded(samples), model.audio_lm_head.weight.device)


def _tolerance(model: Any) -> float:
    return TOLERANCES.get(model.audio_lm_head.weight.dtype, COARSE)


def _floats(numbers: dict[str, int]) -> dict[str, float]:
    return {name: float(number) for name, number in numbers.items()}
