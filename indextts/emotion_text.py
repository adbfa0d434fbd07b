"""What mood a text is in, as the fine-tuned Qwen model beside the official checkpoint reads it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from indextts.emotion import EMOTIONS
from ttscommon.errors import UserError

log = logging.getLogger(__name__)

INSTRUCTION = "文本情感分类"  # the system prompt it was trained with
NAMES = (
    "高兴",
    "愤怒",
    "悲伤",
    "恐惧",
    "反感",
    "低落",
    "惊讶",
    "自然",
)  # of EMOTIONS, in its answers
MAX_VALUE = 1.2
# The model calls these sad; the original swaps the two for texts that say so.
MELANCHOLIC_WORDS = ("低落", "melancholy", "melancholic", "depression", "depressed", "gloomy")
END_OF_THOUGHT = 151_668  # Qwen3's token id for </think>
MAX_NEW_TOKENS = 512  # an answer has about 60; the original lets a lost model write 32768
PAIR = re.compile(r"""["']?([^\s"':,{}，：]+)["']?\s*[:：]\s*["']?(-?\d+(?:\.\d+)?)""")

Answer = Callable[[str], str]


class EmotionReader:
    """Reads a text's mood.

    Args:
        answer: from a text to the language model's answer
    """

    def __init__(self, answer: Answer):
        self.answer = answer

    @classmethod
    def from_folder(cls, folder: Path, device: torch.device) -> EmotionReader:
        """The model in a Hugging Face folder, in half precision on a GPU.

        Raises:
            UserError: if there is none, or it can't be read
        """
        return cls(_language_model(folder, device))

    def vector(self, text: str) -> tuple[float, ...]:
        """Weights of `EMOTIONS`, each from 0 to 1.2; calm when the model finds nothing."""
        vector = parsed(self.answer(text))
        if any(word in text.lower() for word in MELANCHOLIC_WORDS):
            vector = _swapped(vector, "sad", "melancholic")
        log.info(
            "mood: %s", "  ".join(f"{e} {v:.2f}" for e, v in zip(EMOTIONS, vector, strict=True))
        )
        return vector


def parsed(answer: str) -> tuple[float, ...]:
    """The weights in an answer: JSON, or else every `name: number` found in it.

    An answer that only names an emotion, as in {"emotion": "happy"}, counts as 1 of it.
    """
    try:
        found = json.loads(answer)
    except json.JSONDecodeError:
        found = dict(PAIR.findall(answer))
    values = found if isinstance(found, dict) else {}
    known = {**dict(zip(NAMES, EMOTIONS, strict=True)), **{name: name for name in EMOTIONS}}
    weights: dict[str, float] = dict.fromkeys(EMOTIONS, 0.0)
    for key, value in values.items():
        name = known.get(str(key).strip().lower())
        label = known.get(str(value).strip().lower())
        if name:
            weights[name] = min(max(_number(value), 0.0), MAX_VALUE)
        elif label:
            weights[label] = 1.0
    if not any(weights.values()):
        weights["calm"] = 1.0
    return tuple(weights.values())


def _number(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0
    return number if number == number else 0.0


def _swapped(vector: tuple[float, ...], one: str, other: str) -> tuple[float, ...]:
    weights: dict[str, float] = dict(zip(EMOTIONS, vector, strict=True))
    weights[one], weights[other] = weights[other], weights[one]
    return tuple(weights.values())


def _language_model(folder: Path, device: torch.device) -> Answer:
    from transformers import AutoModelForCausalLM, AutoTokenizer  # takes seconds to import

    dtype = torch.float32 if device.type == "cpu" else torch.float16
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"cannot load the text emotion model: {reason}", where=folder) from error
    model = model.to(device).eval()

    @torch.no_grad()
    def answer(text: str) -> str:
        messages = [
            {"role": "system", "content": INSTRUCTION},
            {"role": "user", "content": text},
        ]
        prompt = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        given = tokenizer([prompt], return_tensors="pt").to(device)
        written = model.generate(**given, max_new_tokens=MAX_NEW_TOKENS)[0].tolist()
        written = written[given["input_ids"].shape[1] :]
        if END_OF_THOUGHT in written:
            written = written[len(written) - written[::-1].index(END_OF_THOUGHT) :]
        return str(tokenizer.decode(written, skip_special_tokens=True)).strip()

    return answer
