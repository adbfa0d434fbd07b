"""Experiments of a few steps on random codes, with a model of few ids and lively outputs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from kani.config import (
    CodecConfig,
    Experiment,
    ExperimentName,
    LoraArgs,
    ModelConfig,
    SpecialTokens,
    TokenizerConfig,
    TrainerArgs,
)
from kani.miniature import NETWORK, byte_tokenizer
from kani.prepared import Prepared, prepare
from kani.train import Job
from tests.kani.made_up import dataset_config, rows, saved

MODEL = ModelConfig(
    tokenizer=TokenizerConfig(vocab_size=264),
    special_tokens=SpecialTokens(
        start_of_speech=265,
        end_of_speech=266,
        start_of_human=267,
        end_of_human=268,
        start_of_ai=269,
        end_of_ai=270,
        pad_token=271,
    ),
    codec=CodecConfig(codebook_size=32, audio_tokens_start=274),
)
SPACE = MODEL.space
EVERYTHING = ("q_proj", "k_proj", "v_proj", "out_proj", "in_proj", "w1", "w2", "w3")


def write_base(folder: Path, seed: int = 0) -> Path:
    """A model of random weights in the released layout, with few ids."""
    from transformers import Lfm2Config, Lfm2ForCausalLM

    torch.manual_seed(seed)
    sizes = {**NETWORK, "vocab_size": SPACE.vocab_size, "tie_word_embeddings": False}
    model: Any = Lfm2ForCausalLM(Lfm2Config(**sizes))
    with torch.no_grad():
        model.lm_head.weight.mul_(10)  # else all ids are nearly equally likely
    model.save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    text = '{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|startoftext|>"}'
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
    return folder


def few_codes(n: int, **columns: Any) -> dict[str, Any]:
    """A data set of a codec with few codes."""
    table = rows(n, **columns)
    layers = {k: [[c % 32 for c in clip] for clip in v] for k, v in table.items() if "nano" in k}
    return {**table, **layers}


@functools.cache
def data_of(base: Path, n: int = 8) -> Prepared:
    """Shared by tests, which leave them unchanged."""
    codes = saved(base.parent / f"codes{n}", n, **few_codes(n))
    config = dataset_config(codes, validation_share=0.2)
    return prepare(config, MODEL, base, base.parent / f"data{n}")


def experiment(
    model_id: str = "tiny", *, lora: dict[str, Any] | None = None, **changes: Any
) -> Experiment:
    quick = {"max_steps": 4, "grad_accumulation": 1, "batch_size": 2, "learning_rate": 1e-3}
    quick |= {"save_interval": 2, "val_interval": 2, "log_interval": 1, "warmup_share": 0.0}
    adapter: dict[str, Any] = {"r": 2, "lora_alpha": 2.0, "target_modules": ("q_proj", "w1")}
    return Experiment(
        base=ExperimentName(model_id=model_id),
        lora_args=LoraArgs(**{**adapter, **(lora or {})}),
        trainer_args=TrainerArgs(**{**quick, **changes}),
    )


def job_of(tmp_path: Path, base: Path, one: Experiment | None = None, **changes: Any) -> Job:
    data = changes.pop("data", None) or data_of(base)
    return Job(
        one or experiment(),
        base=base,
        base_name="made up",
        prepared=data,
        models=tmp_path / "models",
        dataset={},
        device="cpu",
        **changes,
    )
