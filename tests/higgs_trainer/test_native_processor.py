"""What is written for the model is what transformers' own processor writes for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import DacFeatureExtractor, HiggsAudioV2Processor, PreTrainedTokenizerFast

from higgs_trainer.checkpoint import HiggsCheckpoint
from higgs_trainer.codec import load_codec
from higgs_trainer.conversation import SCENE, SYSTEM, Audio, request
from higgs_trainer.prompt import PromptWriter

# The layout of the published template, in words of our own: its texts are trimmed, too.
TEMPLATE = """{{ bos_token }}
{%- for turn in messages -%}
{%- if turn.role == 'scene' -%}
{{ "\\n\\n<|scene_desc_start|>\\n" + turn.content | trim + "\\n<|scene_desc_end|><|eot_id|>" }}
{%- else -%}
{{ "<|start_header_id|>" + turn.role + "<|end_header_id|>\\n\\n" }}
{%- if turn.role == 'assistant' -%}<|audio_out_bos|><|AUDIO_OUT|><|audio_eos|>
{%- else -%}{{ turn.content | trim }}{%- endif -%}
{%- set is_followed = not loop.last and messages[loop.index].role == 'scene' -%}
{%- if not is_followed -%}<|eot_id|>{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ "<|start_header_id|>assistant<|end_header_id|>\\n\\n<|audio_out_bos|>" }}
{%- endif -%}"""
TEXTS = ("It's a fine day, isn't it?", "Ünïcode – 你好", "two\nlines  and   spaces")


@pytest.fixture(scope="module")
def processor(miniature) -> Any:
    model, codec = miniature
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(model / "tokenizer.json"),
        bos_token="<|begin_of_text|>",
        eos_token="<|end_of_text|>",
        pad_token="<|end_of_text|>",
    )
    extractor = DacFeatureExtractor(feature_size=1, hop_length=1, sampling_rate=24000)
    return HiggsAudioV2Processor(
        extractor,
        tokenizer,
        load_codec(codec).network,
        chat_template=TEMPLATE,
        audio_stream_bos_id=64,
        audio_stream_eos_id=65,
    )


def sound(seed: int, n_samples: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, n_samples).astype(np.float32)


def messages(references: list[str], text: str, *, scene: str, answer: bool) -> list[Any]:
    found = [{"role": "system", "content": SYSTEM}]
    found += [{"role": "scene", "content": scene}] if scene else []
    for said in references:
        found += [{"role": "user", "content": said}, {"role": "assistant", "content": ""}]
    found += [{"role": "user", "content": text}]
    return found + ([{"role": "assistant", "content": ""}] if answer else [])


@pytest.mark.parametrize("answer", [False, True])
@pytest.mark.parametrize("scene", ["", SCENE])
@pytest.mark.parametrize("n_references", [0, 1, 2])
def test_tokens_and_frames_are_the_processors(processor, miniature, n_references, scene, answer):
    said, text = list(TEXTS[1 : 1 + n_references]), TEXTS[0]
    sounds = [sound(i, 9000 + 2000 * i) for i in range(n_references + answer)]
    rendered = processor.apply_chat_template(
        messages(said, text, scene=scene, answer=answer), add_generation_prompt=not answer
    )
    if isinstance(rendered, list):
        rendered = rendered[0]
    options = {"return_tensors": "pt", "add_special_tokens": False}
    native = processor(text=[rendered], audio=sounds or None, **options)
    codec = load_codec(miniature[1])
    held = [codec.encode(one) for one in sounds]
    asked = request(text, references=[(one, Audio()) for one in said], scene=scene)
    writer = PromptWriter.of(HiggsCheckpoint.open(miniature[0]))
    written = writer.sample(asked.answered(Audio()), held) if answer else writer.prompt(asked, held)
    assert torch.equal(written.ids, native["input_ids"][0])
    if sounds:
        assert torch.equal(written.frames, native["audio_input_ids"][0])
    else:
        assert len(written.frames) == 0
