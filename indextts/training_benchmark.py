"""How fast the language model's adapters are trained here, and how much memory a step takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from indextts.benchmark import CODES_PER_SECOND, SHORTEST_TEXT, TOKENS_PER_SECOND
from indextts.config import GptConfig
from indextts.dataset import VoiceTrainingBatch
from indextts.gpt.model import UnifiedVoice
from indextts.random_networks import Sizes, random_network
from indextts.tasks import VoiceStage
from indextts.train import stage_memory
from indextts.train_config import LoraTrainConfig
from ttscommon import lora
from ttscommon.step_benchmark import StepCase, Steps, StepSpeed, in_own_process, trained_steps


@dataclass(frozen=True, kw_only=True)
class TrainingCase(StepCase):
    """What is trained, and how.

    Attributes:
        preset: of random weights, "full" or "tiny"
    """

    preset: str = "full"


def measured(case: TrainingCase) -> StepSpeed:
    """Train a few steps in a new process.

    Raises:
        UserError: if the device isn't there, or memory doesn't suffice
    """
    return in_own_process(trained, case)


def trained(case: TrainingCase) -> StepSpeed:
    """As `measured`, in this process, which should hold nothing else."""
    return trained_steps(case, replace(case, preset="tiny", seconds=1.0), _steps)


def _steps(case: TrainingCase, device: torch.device) -> Steps:
    """A language model with adapters, and a batch, as the trainer has them."""
    sizes = Sizes.named(case.preset).gpt
    config = LoraTrainConfig(
        lora_rank=case.lora_rank, gradient_checkpointing=case.checkpointing, amp=case.amp
    )
    gpt = random_network(lambda: UnifiedVoice(replace(sizes, dropout=0.0)), device, case.seed)
    lora.inject(gpt, lora.find_targets(gpt, config.targets), **config.lora_shape)
    stage = VoiceStage(gpt, config, trains_conditions=False).to(device).train()
    batch = made_up_batch(case, sizes, device)
    assert batch.speaker is not None
    n_speaker = batch.speaker.shape[1] + 2  # and speed
    return Steps(
        stage,
        batch,
        n_tokens=n_speaker + batch.text.shape[1] + 2 + batch.codes.shape[1] + 2,
        clip_norm=config.grad_clip,
        estimate=lambda: stage_memory(stage, batch, case.amp, has_average=False),
    )


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
