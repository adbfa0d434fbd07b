"""IndexTTS2 checkpoints: reading, checking and refusing them, and writing the language model.

Reading is strict: a tensor that is missing, unexpected or of another shape is an error. Harmless
are, and passed over, only what `gpt_state` drops and the other contents of training checkpoints.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from indextts.checkpoint import CheckpointFolder, require_version
from indextts.config import GptConfig
from indextts.gpt.model import UnifiedVoice
from indextts.s2mel.campplus import HEAD_CHANNELS, HEAD_STRIDE, Campplus
from indextts.s2mel.codec import SemanticCodec
from indextts.s2mel.config import CampplusConfig, CodecConfig, S2MelConfig
from indextts.s2mel.dit import MAX_FRAMES
from indextts.s2mel.model import S2Mel
from indextts.tensors import build, digest, part_of, read_tensors
from indextts.vocoder.bigvgan import BigVGAN
from indextts.vocoder.config import BigVGANConfig
from ttscommon.config import read_mapping
from ttscommon.errors import UserError
from ttscommon.files import atomic, require_free_disk

__all__ = [
    "detect_version",
    "fingerprint",
    "gpt_state",
    "gpt_state_for_saving",
    "load_bigvgan",
    "load_campplus",
    "load_codec",
    "load_gpt",
    "load_matrices",
    "load_s2mel",
    "read_tensors",
    "save_gpt",
]

log = logging.getLogger(__name__)

Device = torch.device | str
# Sinusoids that are computed anew, masks that old versions of transformers stored, the duplicate
# that wrapping for generation makes of the model, and an alias of mel_embedding.
HARMLESS = re.compile(
    r"^inference_model\.|\.embed\.pos_enc\.pe$|^gpt\.h\.\d+\.attn\.(masked_)?bias$"
    r"|^gpt\.wte\.weight$"
)
ADAPTER = re.compile(r"\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)(\.|$)")
TEXT_TABLES = ("text_embedding.weight", "text_head.weight", "text_head.bias")
POSITIONS = "cfm.estimator.input_pos"
S2MEL_PARTS = ("cfm.", "length_regulator.", "gpt_layer.")


def detect_version(names: Iterable[str]) -> str | None:
    """Which IndexTTS a language model's tensors are of: "1.x", "2.0" or "2.5"; None for others.

    1.x has no emotion encoder. 2.5 takes the speaker from a projected speaker vector and has no
    speaker encoder of its own.
    """
    tops = {name.split(".")[0] for name in names}
    if not {"mel_head", "text_head", "gpt"} <= tops:
        return None
    if "emo_conditioning_encoder" not in tops:
        return "1.x"
    return "2.0" if "conditioning_encoder" in tops and "spk_emb_proj" not in tops else "2.5"


def gpt_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The language model's own tensors out of a file, by their official names.

    Accepts what fine-tuners write: names inside "model", behind "module." or peft's
    "base_model.model.", and with ".base_layer" in them. Adapters that weren't merged are dropped
    with a warning.
    """
    state: dict[str, Tensor] = {}
    n_adapters = 0
    for key, value in part_of(tensors, "model.").items():
        name = key.removeprefix("module.").removeprefix("base_model.model.")
        name = name.replace(".base_layer.", ".")
        if ADAPTER.search(name):
            n_adapters += 1
        elif not HARMLESS.search(name):
            state[name] = value
    if n_adapters:
        log.warning("%d tensors of an adapter that wasn't merged are left out", n_adapters)
    return state


def load_gpt(
    path: Path, config: GptConfig, *, dtype: torch.dtype | None = None, device: Device = "cpu"
) -> UnifiedVoice:
    """Read the language model; `fingerprint` of it is that of the file, whatever the precision.

    A text table of another length than `config` says is taken as it is: fine-tuned models have
    their tokenizer's. `speed_emb` may be absent and is zero then, as before any training.

    Raises:
        UserError: if the file can't be read, is of another version, or doesn't fit `config`
    """
    state = gpt_state(read_tensors(path))
    version = detect_version(state)
    if version is None:
        raise UserError("this file isn't an IndexTTS language model", where=path)
    require_version(version, where=path)
    n_text = {len(state[key]) for key in TEXT_TABLES if key in state}
    if len(n_text) == 1 and n_text != {config.number_text_tokens + 1}:
        n_pieces = n_text.pop() - 1
        log.info("the text tables have %d pieces, not %d", n_pieces, config.number_text_tokens)
        config = dataclasses.replace(config, number_text_tokens=n_pieces)
    if "speed_emb.weight" not in state:
        log.warning("no speed_emb in %s; taken as zero", path)
        state["speed_emb.weight"] = torch.zeros(2, config.model_dim)
    mark = digest(state)
    model = build(lambda: UnifiedVoice(config), state, where=path, dtype=dtype, device=device)
    model.file_fingerprint = mark
    return model


def load_s2mel(
    path: Path, config: S2MelConfig, *, dtype: torch.dtype | None = None, device: Device = "cpu"
) -> S2Mel:
    """Read s2mel.pth; its other contents, left from training, are passed over.

    So is the list of positions in it: they are 0, 1, 2 ... and only their number could differ.

    Raises:
        UserError: if the file can't be read or doesn't fit `config`
    """
    state = {}
    for key, value in part_of(read_tensors(path), "net.").items():
        part, _, name = key.partition(".")
        if f"{part}." in S2MEL_PARTS:
            state[f"{part}.{name.removeprefix('module.')}"] = value
    state[POSITIONS] = torch.arange(MAX_FRAMES)
    return build(lambda: S2Mel(config), state, where=path, dtype=dtype, device=device)


def load_codec(
    path: Path, config: CodecConfig, *, dtype: torch.dtype | None = None, device: Device = "cpu"
) -> SemanticCodec:
    """Read the semantic codec, its decoder too.

    Raises:
        UserError: if the file can't be read or doesn't fit `config`
    """
    state = read_tensors(path)
    return build(lambda: SemanticCodec(config), state, where=path, dtype=dtype, device=device)


def load_campplus(
    path: Path, *, dtype: torch.dtype | None = None, device: Device = "cpu"
) -> Campplus:
    """Read the speaker encoder; its sizes are stated nowhere and follow from the tensors.

    Raises:
        UserError: if the file can't be read or isn't a CAM++ speaker encoder
    """
    state = read_tensors(path)
    config = _campplus_config(state, path)
    return build(lambda: Campplus(config), state, where=path, dtype=dtype, device=device)


def load_bigvgan(
    folder: Path, *, dtype: torch.dtype | None = None, device: Device = "cpu"
) -> BigVGAN:
    """Read the vocoder, its weight norm folded.

    Args:
        folder: with config.json and bigvgan_generator.pt

    Raises:
        UserError: if a file can't be read, or they don't fit each other
    """
    config = BigVGANConfig.from_official(read_mapping(folder / "config.json"))
    path = folder / "bigvgan_generator.pt"
    state = part_of(read_tensors(path), "generator.")
    return build(lambda: BigVGAN(config), state, where=path, dtype=dtype, device=device)


def load_matrices(folder: CheckpointFolder) -> tuple[Tensor, Tensor]:
    """The emotions' example speakers: (N, E) speaker vectors and (N, D) emotion vectors, float32.

    N is the sum of `folder.config.emo_num`. A row may be wrapped once more in the file, as in
    (N, 1, E).

    Raises:
        UserError: if a file can't be read or has another shape
    """
    config, n_rows = folder.config, sum(folder.config.emo_num)
    widths = {
        folder.spk_matrix: config.s2mel.dit.style_dim,
        folder.emo_matrix: config.gpt.model_dim,
    }
    matrices = []
    for path, width in widths.items():
        tensors = list(read_tensors(path).values())
        shapes = [list(tensor.shape) for tensor in tensors]
        if [[math.prod(shape[:-1]), *shape[-1:]] for shape in shapes] != [[n_rows, width]]:
            raise UserError(f"expected one matrix of {[n_rows, width]}, found {shapes}", where=path)
        matrices.append(tensors[0].float().reshape(n_rows, width))
    return matrices[0], matrices[1]


def gpt_state_for_saving(gpt: UnifiedVoice) -> dict[str, Tensor]:
    """All tensors by their official names and in their official layout, on the CPU.

    Raises:
        ValueError: if there is an adapter in it, which would be lost
    """
    state = gpt.state_dict()
    if any(ADAPTER.search(key) for key in state):
        raise ValueError("merge or detach the adapter first")
    return {key: value.detach().cpu().contiguous() for key, value in state.items()}


def save_gpt(path: Path, gpt: UnifiedVoice) -> None:
    """Write the language model: as safetensors if `path` says so, else as the official gpt.pth.

    Raises:
        UserError: if the disk hasn't room for it
    """
    state = gpt_state_for_saving(gpt)
    require_free_disk(path.parent, sum(t.numel() * t.element_size() for t in state.values()))
    with atomic(path) as draft:
        if path.suffix == ".safetensors":
            save_file(state, draft, metadata={"format": "pt"})
        else:
            torch.save({"model": state}, draft)


def fingerprint(gpt: UnifiedVoice) -> str:
    """Which weights these are: equal for equal weights, another after any training or merging.

    An adapter that is attached isn't counted: it is that of the base. A model read in half
    precision has the fingerprint of its file.

    Raises:
        ValueError: for a model in half precision that no file was read for
    """
    if gpt.mel_head.weight.dtype == torch.float32:
        state = gpt.state_dict()
        names = {key: key.replace(".base_layer.", ".") for key in state if not ADAPTER.search(key)}
        return digest({name: state[key] for key, name in names.items()})
    if gpt.file_fingerprint is None:
        raise ValueError("rounded weights have no fingerprint")
    return gpt.file_fingerprint


def _campplus_config(state: Mapping[str, Tensor], path: Path) -> CampplusConfig:
    layer = "xvector.block1.tdnnd1"
    try:
        n_init, n_inputs, _ = state["xvector.tdnn.linear.weight"].shape
        growth = len(state[f"{layer}.cam_layer.linear_local.weight"])
        bottleneck = len(state[f"{layer}.linear1.weight"])
        embedding = len(state["xvector.dense.linear.weight"])
    except (KeyError, ValueError) as error:
        raise UserError("this file isn't a CAM++ speaker encoder", where=path) from error
    return CampplusConfig(
        n_mels=n_inputs * HEAD_STRIDE // HEAD_CHANNELS,
        embedding_size=embedding,
        growth_rate=growth,
        bottleneck_size=bottleneck // growth,
        init_channels=n_init,
    )
