"""A tiny model learns two clips by heart and says their exact codes; with wrong labels it can't."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kani.dataset import IGNORED, KaniBatch, KaniPlan
from kani.generation import Reader, spoken
from kani.sampling import Sampling
from kani.tasks import KaniStage, probed
from kani.tokens import extract, prompt_ids
from kani.train import target_layers
from kani.weights import load_language_model, load_tokenizer
from tests.kani.made_up import TEXTS
from tests.kani.made_up_jobs import EVERYTHING, SPACE, data_of
from ttscommon import lora
from ttscommon.errors import UserError
from ttscommon.probe import require

STEPS = 60


@functools.cache
def by_heart(base: Path, *, packed: bool, loss_on: Any, fault: Any = None) -> KaniStage:
    """Adapters trained on two clips, with labels changed by `fault`; shared by tests."""
    torch.manual_seed(0)
    model = load_language_model(base, space=SPACE)
    layers = target_layers(model, EVERYTHING)
    lora.inject(model, layers, rank=16, alpha=16, use_rslora=True)
    stage = KaniStage(model, SPACE).train()
    plan = KaniPlan(
        data_of(base).rows.select([0, 1]), SPACE, batch_size=2, packing=packed, loss_on=loss_on
    )
    batch = plan.batch([0, 1])
    batch = fault(batch) if fault else batch
    trained = [p for p in stage.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / STEPS)
        optimizer.zero_grad()
        stage(batch).total.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    return stage.eval()


def says_both(stage: KaniStage, base: Path) -> bool:
    """Whether free-running greedy speech gives the exact codes of both clips, and ends."""
    rows, tokenizer = data_of(base).rows.select([0, 1]), load_tokenizer(base)
    prompts = [prompt_ids(text, "alice", tokenizer, SPACE) for text in TEXTS[:2]]
    heard = spoken(Reader(stage.model, SPACE), prompts, Sampling.greedy(max_new_tokens=80), [0, 0])
    wanted = [extract(row["ids"], SPACE).codes for row in rows]
    return all(
        found.complete and found.codes.tolist() == codes.tolist()
        for found, codes in zip(heard, wanted, strict=True)
    )


@pytest.mark.parametrize(
    ("packed", "loss_on"),
    [(False, "all"), pytest.param(True, "audio", marks=pytest.mark.slow)],
)
def test_two_clips_are_said_by_heart(base, packed, loss_on):
    stage = by_heart(base, packed=packed, loss_on=loss_on)
    assert says_both(stage, base)
    plan = KaniPlan(data_of(base).rows.select([0, 1]), SPACE, batch_size=2)
    require(probed(stage, plan.batch([0, 1])))


def early(batch: KaniBatch) -> KaniBatch:
    """Labels one place to the left: the model is asked for what comes after the next id."""
    return replace(batch, labels=batch.labels.roll(-1, dims=1))


def late(batch: KaniBatch) -> KaniBatch:
    """Labels one place to the right: the model is asked for what it has just read."""
    return replace(batch, labels=batch.labels.roll(1, dims=1))


def endless(batch: KaniBatch) -> KaniBatch:
    """The end of speech isn't learned."""
    is_end = batch.labels == SPACE.end_of_speech
    return replace(batch, labels=batch.labels.masked_fill(is_end, IGNORED))


def swapped(batch: KaniBatch) -> KaniBatch:
    """Codes of the first two layers change places."""
    is_code = batch.labels >= SPACE.audio_tokens_start
    labels = batch.labels.clone()
    for row in range(len(labels)):
        places = is_code[row].nonzero().flatten().view(-1, 4)
        first, second = places[:, 0], places[:, 1]
        labels[row, first], labels[row, second] = labels[row, second], labels[row, first]
    return replace(batch, labels=labels)


@pytest.mark.parametrize(
    "fault",
    [early, endless, *(pytest.param(fault, marks=pytest.mark.slow) for fault in (late, swapped))],
)
def test_a_fault_in_the_labels_is_heard(base, fault):
    assert not says_both(by_heart(base, packed=False, loss_on="all", fault=fault), base)


@pytest.mark.parametrize("fault", [early, late])
def test_a_shifted_label_is_found_before_training(base, fault):
    stage = by_heart(base, packed=False, loss_on="all")
    plan = KaniPlan(data_of(base).rows.select([0, 1]), SPACE, batch_size=2)
    with pytest.raises(UserError, match="the labels don't fit"):
        require(probed(stage, fault(plan.batch([0, 1]))))
