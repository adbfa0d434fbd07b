"""How fast the language model's adapters are trained here, and how much memory a step takes.

A case is measured in a process of its own, with random weights and a made-up batch, for neither
speed nor memory depends on the numbers.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from typing import Any, Literal

import torch

from indextts.benchmark import CODES_PER_SECOND, SHORTEST_TEXT, TOKENS_PER_SECOND, Clock, Meter
from indextts.config import GptConfig
from indextts.dataset import VoiceTrainingBatch
from indextts.gpt.model import UnifiedVoice
from indextts.random_networks import Sizes, random_network
from indextts.tasks import VoiceStage
from indextts.train import stage_memory
from indextts.train_config import LoraTrainConfig
from ttscommon import lora
from ttscommon.errors import UserError
from ttscommon.machine import pick_device
from ttscommon.memory import map_large_tensors
from ttscommon.step_memory import StepMemory


@dataclass(frozen=True, kw_only=True)
class TrainingCase:
    """What is trained, and how.

    Attributes:
        preset: of random weights, "full" or "tiny"
        seconds: of sound in each clip
        threads: of the CPU; 0: torch's choice
        repeats: steps of which the median counts
        warmups: steps before, whose time doesn't count; their memory does
    """

    preset: str = "full"
    batch_size: int = 1
    checkpointing: bool = True
    seconds: float = 5.0
    lora_rank: int = 16
    device: str = "cpu"
    amp: Literal["no", "bf16"] = "no"
    threads: int = 0
    clock: Literal["wall", "cpu"] = "wall"
    repeats: int = 1
    warmups: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.batch_size, self.repeats) < 1 or self.warmups < 0:
            raise UserError("batches and repeats are 1 or more, warmups 0 or more")
        if self.seconds <= 0.1:
            raise UserError(f"clips need 0.1 s and more, not {self.seconds}")


@dataclass(frozen=True)
class TrainingSpeed:
    """What a case took.

    Attributes:
        seconds: of one step
        estimate: bytes, as a trainer prints them before its first step
        peak: bytes that the process occupied at most, less what it occupied after it had trained a
            miniature, so without the libraries; on a GPU what its tensors occupied. None where the
            system doesn't tell
    """

    case: TrainingCase
    n_tokens: int
    n_trained: int
    seconds: float
    estimate: int
    estimated: str
    peak: int | None

    @property
    def clips_per_second(self) -> float:
        return self.case.batch_size / max(self.seconds, 1e-9)

    @property
    def estimate_share(self) -> float | None:
        """Of the peak that was estimated."""
        return self.estimate / self.peak if self.peak else None

    def to_dict(self) -> dict[str, Any]:
        derived = {"clips_per_second": self.clips_per_second, "estimate_share": self.estimate_share}
        return {**asdict(self), **derived}


def measured(case: TrainingCase) -> TrainingSpeed:
    """Train a few steps in a new process: what another has occupied must not count.

    Raises:
        UserError: if the device isn't there, or memory doesn't suffice
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        try:
            return processes.submit(trained, case).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"the process that trains with {case.batch_size} clips was killed, probably for "
                "its memory",
                fix="fewer --batch-sizes or --seconds, with --gradient-checkpointing alone",
            ) from error


def trained(case: TrainingCase) -> TrainingSpeed:
    """As `measured`, in this process, which should hold nothing else."""
    device = pick_device(case.device)
    if case.threads:
        torch.set_num_threads(case.threads)
    if device.type == "cpu":
        map_large_tensors()
    _Run(replace(case, preset="tiny", seconds=1.0), device).steps(1)  # brings libraries
    gc.collect()
    clock = time.process_time if case.clock == "cpu" else time.perf_counter
    meter = Meter(device, clock)
    before = meter.held()
    run = _Run(case, device)
    estimate = run.estimate()
    found = meter.measure(lambda: run.steps(case.warmups + case.repeats, clock))
    held = 0 if device.type == "cuda" else before
    return TrainingSpeed(
        case=case,
        n_tokens=run.n_tokens,
        n_trained=sum(p.numel() for p in run.stage.parameters() if p.requires_grad),
        seconds=sorted(found.result[case.warmups :])[case.repeats // 2],
        estimate=estimate.total,
        estimated=str(estimate),
        peak=None if found.peak is None or held is None else found.peak - held,
    )


class _Run:
    """A language model with adapters, an optimizer and a batch, as the trainer has them."""

    def __init__(self, case: TrainingCase, device: torch.device):
        sizes = Sizes.named(case.preset).gpt
        self.case, self.device = case, device
        config = LoraTrainConfig(
            lora_rank=case.lora_rank, gradient_checkpointing=case.checkpointing, amp=case.amp
        )
        gpt = random_network(lambda: UnifiedVoice(replace(sizes, dropout=0.0)), device, case.seed)
        lora.inject(
            gpt,
            lora.find_targets(gpt, config.targets),
            rank=config.lora_rank,
            alpha=config.lora_alpha,
            dropout=config.lora_dropout,
        )
        self.stage = VoiceStage(gpt, config, trains_conditions=False).to(device).train()
        self.batch = made_up_batch(case, sizes, device)
        self.clip_norm = config.grad_clip
        self.trained = [p for p in self.stage.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4, fused=True)

    @property
    def n_tokens(self) -> int:
        """Columns of each clip in the transformer, start and stop tokens included."""
        assert self.batch.speaker is not None
        n_speaker = self.batch.speaker.shape[1] + 2  # and speed
        return n_speaker + self.batch.text.shape[1] + 2 + self.batch.codes.shape[1] + 2

    def estimate(self) -> StepMemory:
        return stage_memory(self.stage, self.batch, self.case.amp, has_average=False)

    def steps(self, n: int, clock: Clock = time.perf_counter) -> list[float]:
        """Seconds that each took."""
        return [self._timed(self._step, clock) for _ in range(n)]

    def _step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.case.amp == "bf16"):
            loss = self.stage(self.batch).total
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, self.clip_norm)
        self.optimizer.step()

    def _timed(self, action: Callable[[], None], clock: Clock) -> float:
        start = clock()
        action()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return clock() - start


def made_up_batch(case: TrainingCase, sizes: GptConfig, device: torch.device) -> VoiceTrainingBatch:
    """Clips of equal length, with stored conditions."""
    chance = torch.Generator().manual_seed(case.seed)
    n_rows = case.batch_size
    n_codes = max(2, round(case.seconds * CODES_PER_SECOND))
    n_text = max(SHORTEST_TEXT, round(case.seconds * TOKENS_PER_SECOND))

    def ids(n: int, end: int) -> torch.Tensor:
        return torch.randint(2, end, (n_rows, n), generator=chance).to(device)

    def lengths(n: int) -> torch.Tensor:
        return torch.full((n_rows,), n, device=device)

    shape = (n_rows, sizes.condition_num_latent, sizes.model_dim)
    speaker = torch.randn(shape, generator=chance).to(device)
    names = tuple(f"clip_{row}" for row in range(n_rows))
    return VoiceTrainingBatch(
        ids=names,
        n_targets=n_rows * (n_codes + 1),
        text=ids(n_text, sizes.number_text_tokens),
        text_lengths=lengths(n_text),
        codes=ids(n_codes, sizes.start_mel_token),
        code_lengths=lengths(n_codes),
        speaker=speaker,
        emotion=speaker[:, 0],
        prompt=None,
        prompt_lengths=None,
        prompt_ids=names,
    )
