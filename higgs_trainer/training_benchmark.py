"""How fast adapters of Higgs Audio are trained here, and how much memory a step takes.

The network has its full width, and as many layers as fit: time and memory grow evenly with them, so
that two depths tell those of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from higgs_trainer.adapter import inject
from higgs_trainer.collator import Collator, HiggsBatch
from higgs_trainer.config import HiggsTrainConfig, Streams
from higgs_trainer.conversation import Audio, request
from higgs_trainer.miniature import NETWORK, byte_tokenizer, mark_ids
from higgs_trainer.prompt import PromptWriter
from higgs_trainer.tasks import HiggsStage, LossWeights
from higgs_trainer.train import recompute_activations
from higgs_trainer.weights import empty_model
from ttscommon.batching import move
from ttscommon.errors import UserError
from ttscommon.step_benchmark import StepCase, Steps, StepSpeed, in_own_process, trained_steps
from ttscommon.step_memory import StepMemory, counted_memory

FULL: dict[str, Any] = {"codebook_size": 1026}  # the rest is as transformers has it
N_LAYERS = 28
FRAME_RATE = 25
TOKENS_PER_SECOND = 4  # of English in the official tokenizer's pieces; an estimate


@dataclass(frozen=True, kw_only=True)
class HiggsCase(StepCase):
    """What is trained, and how.

    Attributes:
        layers: of the network; 0: a miniature
        reference_seconds: of another clip in the prompt; 0: none
    """

    layers: int = 1
    reference_seconds: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 0 or self.reference_seconds < 0:
            raise UserError("layers and seconds of the reference are 0 or more")


def measured(case: HiggsCase) -> StepSpeed:
    """Train a few steps in a new process.

    Raises:
        UserError: if the device isn't there, or memory doesn't suffice
    """
    return in_own_process(trained, case)


def trained(case: HiggsCase) -> StepSpeed:
    """As `measured`, in this process, which should hold nothing else."""
    return trained_steps(case, replace(case, layers=0, seconds=1.0), _steps)


def at_full_depth(less: StepSpeed, more: StepSpeed) -> tuple[StepMemory, float]:
    """Memory of a step of the whole network, and its seconds, from two depths of one case.

    Weights are counted, on a network without numbers; the rest is laid through both points.
    """
    cases = less.case, more.case
    assert all(isinstance(case, HiggsCase) for case in cases)
    depths = [case.layers for case in cases if isinstance(case, HiggsCase)]
    if depths[0] >= depths[1] or replace(cases[1], layers=depths[0]) != cases[0]:  # type: ignore[call-arg]
        raise ValueError("one case in two depths, the smaller one first")
    share = (N_LAYERS - depths[0]) / (depths[1] - depths[0])
    work = less.memory.work + round(share * (more.memory.work - less.memory.work))
    seconds = less.seconds + share * (more.seconds - less.seconds)
    with torch.device("meta"):
        model = _adapted(empty_model(FULL, text_head=True), less.case)
    size = 2 if less.case.amp == "bf16" else 4
    trained = sum(4 * p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(size * p.numel() for p in model.parameters() if not p.requires_grad)
    memory = StepMemory(weights=frozen + trained, optimizer=2 * trained, average=0, work=work)
    return memory, seconds


def made_up_batch(case: HiggsCase, streams: Streams, pad_id: int) -> HiggsBatch:
    """Clips of equal length, each with another one before it."""
    chance = torch.Generator().manual_seed(case.seed)
    writer = PromptWriter(byte_tokenizer(), streams)
    lengths = [s for s in (case.reference_seconds, case.seconds) if s]
    texts = ["x" * max(4, round(seconds * TOKENS_PER_SECOND)) for seconds in lengths]
    said = [(text, Audio()) for text in texts[:-1]]
    asked = request(texts[-1], references=said).answered(Audio())
    samples = []
    for _ in range(case.batch_size):
        shapes = [(streams.n_codebooks, max(2, round(s * FRAME_RATE))) for s in lengths]
        codes = [torch.randint(0, streams.n_codes, shape, generator=chance) for shape in shapes]
        samples.append(writer.sample(asked, codes))
    names = [f"clip_{row}" for row in range(case.batch_size)]
    return Collator(streams, pad_id)(samples, names)


def _steps(case: HiggsCase, device: torch.device) -> Steps:
    """A model with adapters, and a batch, as the trainer has them."""
    from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

    tokens = mark_ids(byte_tokenizer())
    sizes = {**FULL, "num_hidden_layers": case.layers} if case.layers else NETWORK
    torch.manual_seed(case.seed)
    config = HiggsAudioV2Config(**sizes, **tokens)
    dtype = torch.bfloat16 if case.amp == "bf16" else torch.float32
    model: Any = HiggsAudioV2ForConditionalGeneration(config, use_text_head=True)
    model = _adapted(model.to(device=device, dtype=dtype), case)
    if case.checkpointing:
        recompute_activations(model)
    stage = HiggsStage(model, LossWeights()).to(device).train()
    n_codes = config.codebook_size - 2
    streams = Streams(n_codes=n_codes, begin_id=n_codes, end_id=n_codes + 1)
    batch = move(made_up_batch(case, streams, tokens["pad_token_id"]), device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=case.amp == "bf16"):
            loss = stage(batch).total
        loss.backward()

    return Steps(
        stage,
        batch,
        n_tokens=batch.input_ids.shape[1],
        clip_norm=HiggsTrainConfig().grad_clip,
        estimate=lambda: counted_memory(stage, step),
    )


def _adapted(model: Any, case: StepCase) -> Any:
    config = HiggsTrainConfig(lora_rank=case.lora_rank)
    inject(model, config.targets, **config.lora_shape)
    return model
