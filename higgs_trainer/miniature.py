"""A model and a codec of random weights in the released layout, for trying things out in seconds.

They speak noise, but every step is the real one: the same files, classes, tokens and frame rate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from higgs_trainer.checkpoint import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE
from higgs_trainer.prompt import STRUCTURE
from ttscommon.files import atomic_folder, write_json
from ttscommon.seeds import seed_for

MODEL, CODEC = "model", "codec"
MARKS = (*STRUCTURE, "<|recipient|>", "<|scene_desc_start|>", "<|scene_desc_end|>")
RATIOS = [8, 5, 4, 2, 3]  # the released codec's: 960 samples a frame
N_CODES, N_CODEBOOKS, FRAME_RATE = 64, 8, 25
CODE_SIZE = 0.05  # about that of what a random encoder gives
NETWORK: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_codebooks": N_CODEBOOKS,
    "codebook_size": N_CODES + 2,
    "audio_stream_bos_id": N_CODES,
    "audio_stream_eos_id": N_CODES + 1,
}


def write_miniature(folder: Path, *, seed: int = 0) -> tuple[Path, Path]:
    """Write `model/` and `codec/`; the same files for the same seed.

    Returns:
        both folders
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("miniature", seed))
        with atomic_folder(folder / MODEL) as draft:
            _write_model(draft)
        with atomic_folder(folder / CODEC) as draft:
            _write_codec(draft)
    return folder / MODEL, folder / CODEC


def byte_tokenizer() -> Tokenizer:
    """One token for each byte, and those of the structure of conversations."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    return tokenizer


def mark_ids(tokenizer: Tokenizer) -> dict[str, Any]:
    """How the network's config names the structure's tokens."""
    ids = {mark: tokenizer.token_to_id(mark) for mark in MARKS}
    return {
        "bos_token_id": ids["<|begin_of_text|>"],
        "pad_token_id": ids["<|end_of_text|>"],
        "eos_token_id": ids["<|eot_id|>"],
        "audio_token_id": ids["<|AUDIO_OUT|>"],
        "audio_bos_token_id": ids["<|audio_out_bos|>"],
        "audio_delay_token_id": ids["<|reserved_special_token_6|>"],
    }


def _write_model(folder: Path) -> None:
    from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

    tokenizer = byte_tokenizer()
    config = HiggsAudioV2Config(
        **NETWORK, vocab_size=tokenizer.get_vocab_size(), **mark_ids(tokenizer)
    )
    model = HiggsAudioV2ForConditionalGeneration(config, use_text_head=True)
    tokenizer.save(str(folder / TOKENIZER_FILE))
    save_file(model.state_dict(), folder / WEIGHTS_FILE, metadata={"format": "pt"})
    write_json(folder / CONFIG_FILE, {**config.to_dict(), "is_miniature": True})


def _write_codec(folder: Path) -> None:
    from transformers import HiggsAudioV2TokenizerConfig, HiggsAudioV2TokenizerModel

    bits = (N_CODES - 1).bit_length()
    bandwidth = FRAME_RATE * bits * N_CODEBOOKS / 1000
    config = HiggsAudioV2TokenizerConfig(
        target_bandwidths=[bandwidth / 2, bandwidth],
        codebook_size=N_CODES,
        codebook_dim=8,
        acoustic_model_config={
            "model_type": "dac",
            "encoder_hidden_size": 4,
            "downsampling_ratios": RATIOS,
            "decoder_hidden_size": 64,
            "upsampling_ratios": RATIOS,
            "hidden_size": 16,
        },
        semantic_model_config={
            "model_type": "hubert",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "conv_dim": [8] * 7,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
            "mask_time_prob": 0.0,
        },
    )
    model = HiggsAudioV2TokenizerModel(config)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name in [name for name in state if name.endswith("codebook.embed")]:
        state[name] = torch.randn_like(state[name]) * CODE_SIZE  # as made they are all zero
    save_file(state, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    write_json(folder / CONFIG_FILE, {**config.to_dict(), "is_miniature": True})
