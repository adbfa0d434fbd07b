"""Reads tests/golden/higgs: a small random model with the original program's inputs and outputs."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from higgs_trainer.collator import Collator, HiggsBatch, Side
from higgs_trainer.config import Streams
from higgs_trainer.conversation import Audio, Conversation, Turn
from higgs_trainer.prompt import PromptWriter, Written
from higgs_trainer.weights import native_tensors

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "higgs"
STREAMS = Streams(n_codebooks=8, n_codes=64, begin_id=64, end_id=65)
CLOSE = {"atol": 1e-5, "rtol": 0}


@functools.cache
def described(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@functools.cache
def tensors(name: str) -> dict[str, Tensor]:
    """Shared by tests, which leave them unchanged."""
    return load_file(FOLDER / f"{name}.safetensors")


def part(name: str, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors(name).items() if k.startswith(prefix)}


CONVERSATIONS = tuple(described("chatml_tokens")["convs"])
BATCHES = ("b1_plain", "b1_clone", "b2", "b4", "b_mixed")


@functools.cache
def writer() -> PromptWriter:
    return PromptWriter(Tokenizer.from_file(str(FOLDER / "tokenizer.json")), STREAMS)


def conversation(name: str) -> Conversation:
    """With `learned_from` as the original's start_index: None there learns every answer."""
    data = described("chatml_tokens")["convs"][name]
    turns = tuple(Turn(message["role"], _parts(message["content"])) for message in data["messages"])
    return Conversation(turns, data["start_index"] or 0)


def _parts(content: Any) -> tuple[str | Audio, ...]:
    items = content if isinstance(content, list) else [content]
    texts = (item if isinstance(item, str) else item.get("text") for item in items)
    return tuple(Audio() if text is None else text for text in texts)


def codes(name: str) -> list[Tensor]:
    held = part("codes", f"{name}.codes.")
    return [held[str(number)] for number in range(len(held))]


def sample(name: str) -> Written:
    return writer().sample(conversation(name), codes(name))


def samples_of(batch: str) -> list[str]:
    return described("losses")[batch]["samples"]


def collated(batch: str, side: Side = "right") -> HiggsBatch:
    collator = Collator(STREAMS, described("native_config")["pad_token_id"], side)
    return collator([sample(name) for name in samples_of(batch)], samples_of(batch))


@functools.cache
def model() -> Any:
    """Shared by tests, which leave it unchanged."""
    from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

    config = HiggsAudioV2Config(**described("native_config"))
    network = HiggsAudioV2ForConditionalGeneration(config, use_text_head=True)
    network.load_state_dict(native_tensors(tensors("model_original"), FOLDER))
    return network.requires_grad_(False).eval()
