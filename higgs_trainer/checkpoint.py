"""A checkpoint folder: which of two formats it has, what the model is, and what it can't do.

The original format is that of Boson AI's own program, the native one that of transformers. Which of
them a folder holds stands in its config.json; names of repositories don't tell, they have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from higgs_trainer.config import Streams
from ttscommon.errors import UserError
from ttscommon.files import read_json

Format = Literal["native", "original"]
FORMATS: dict[str, Format] = {"higgs_audio_v2": "native", "higgs_audio": "original"}
CONFIG_FILE, TOKENIZER_FILE = "config.json", "tokenizer.json"
INDEX_FILE, WEIGHTS_FILE = "model.safetensors.index.json", "model.safetensors"
BEGIN, END_OF_TURN, DELAY = "<|begin_of_text|>", "<|eot_id|>", "<|reserved_special_token_6|>"
# Of the original's text_config, under the same names in the native one.
TEXT_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "vocab_size"),
)
# Those that a native config.json leaves out; codebook_size isn't among them, its default is wrong.
NATIVE_DEFAULTS = {
    "num_codebooks": 8,
    "audio_token_id": 128016,
    "audio_bos_token_id": 128013,
    "audio_delay_token_id": 128014,
    "audio_stream_bos_id": 1024,
    "audio_stream_eos_id": 1025,
    "vocab_size": 128256,
    "pad_token_id": 128001,
    "eos_token_id": 128009,
}
# What the original's program would assume where they are missing is not what the release has.
ORIGINAL_SETTINGS = (
    *("skip_audio_tower", "encode_whisper_embed", "encode_audio_in_tokens", "use_delay_pattern"),
    *("audio_adapter_type", "audio_dual_ffn_layers", "audio_num_codebooks", "audio_codebook_size"),
)
TEXT_OPTIONS = (
    *("head_dim", "rms_norm_eps", "hidden_act", "attention_bias", "mlp_bias"),
    *("initializer_range", "max_position_embeddings"),
)


@dataclass(frozen=True)
class Wishes:
    """What is asked of a checkpoint; None: whatever it is made for.

    Attributes:
        whisper: condition on Whisper's features of references
        delay_pattern: shift the codebooks against each other
    """

    whisper: bool | None = None
    delay_pattern: bool | None = None


@dataclass(frozen=True)
class HiggsCheckpoint:
    """A folder, and what is in it.

    Attributes:
        network: arguments of `transformers.HiggsAudioV2Config`
    """

    folder: Path
    format: Format
    network: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path, wishes: Wishes | None = None) -> HiggsCheckpoint:
        """Read what a folder says about itself; no weights yet.

        Raises:
            UserError: if it is no Higgs Audio v2 checkpoint, one whose model can't be computed
                natively, or one that contradicts what is wished
        """
        config = read_json(folder / CONFIG_FILE)
        kind = config.get("model_type") if isinstance(config, Mapping) else None
        if kind not in FORMATS:
            raise UserError(
                f"no Higgs Audio v2 checkpoint: its model_type is {kind}",
                where=folder / CONFIG_FILE,
                fix="give a folder of bosonai/higgs-audio-v2-generation-3B-base or of its "
                "transformers version",
            )
        format_ = FORMATS[kind]
        if format_ == "original":
            network = _native_of(config, folder / CONFIG_FILE, _added_tokens(folder))
        else:
            own = {k: v for k, v in config.items() if k not in ("model_type", "architectures")}
            network = {**NATIVE_DEFAULTS, **own}
        checkpoint = cls(folder, format_, network)
        checkpoint._require_codebooks()
        checkpoint._refuse(wishes or Wishes())
        return checkpoint

    @property
    def streams(self) -> Streams:
        network = self.network
        return Streams(
            n_codebooks=network["num_codebooks"],
            n_codes=network["codebook_size"] - 2,
            begin_id=network["audio_stream_bos_id"],
            end_id=network["audio_stream_eos_id"],
        )

    @property
    def weight_files(self) -> list[Path]:
        """Of the network, one or several.

        Raises:
            UserError: if there are none, or one that the index names is missing
        """
        index = self.folder / INDEX_FILE
        if not index.is_file():
            whole = self.folder / WEIGHTS_FILE
            if not whole.is_file():
                what = f"no weights: neither {WEIGHTS_FILE} nor {INDEX_FILE}"
                raise UserError(what, where=self.folder, fix="fetch the checkpoint again")
            return [whole]
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
        paths = [self.folder / name for name in names if Path(name).name == name]
        lacking = [path.name for path in paths if not path.is_file()]
        if lacking or len(paths) != len(names) or not paths:
            what = f"files of weights are missing: {', '.join(lacking) or 'all'}"
            raise UserError(what, where=index, fix="fetch the checkpoint again")
        return paths

    def report(self) -> list[str]:
        """How the checkpoint is used, a line each."""
        streams = self.streams
        return [
            f"checkpoint format: {self.format}",
            f"audio: {streams.n_codebooks} codebooks of {streams.n_codes} codes, each a frame "
            "behind the one before (delay pattern on, as the model was trained)",
            "audio tower: none in this checkpoint, so no Whisper features; references are read as "
            "codes",
        ]

    def _require_codebooks(self) -> None:
        begin, end = self.network["audio_stream_bos_id"], self.network["audio_stream_eos_id"]
        rows = self.network.get("codebook_size")
        if rows is None:
            raise UserError("incomplete: no codebook_size", where=self.folder / CONFIG_FILE)
        if sorted((begin, end)) != [rows - 2, rows - 1]:
            raise UserError(
                f"codebook_size is {rows}, but begin and end of a stream are {begin} and {end}",
                where=self.folder / CONFIG_FILE,
                fix=f"codebook_size counts them: {max(begin, end) + 1}",
            )

    def _refuse(self, wishes: Wishes) -> None:
        if wishes.whisper:
            raise UserError(
                "this checkpoint has no audio tower, so Whisper features can't reach its output",
                where=self.folder / CONFIG_FILE,
                fix="leave out --force-whisper; references are read as codes",
            )
        if wishes.delay_pattern is False:
            raise UserError(
                "this model was trained with the delay pattern and generates with it",
                where=self.folder / CONFIG_FILE,
                fix="leave out --no-delay-pattern; without it speech is noise",
            )


def _added_tokens(folder: Path) -> dict[str, int]:
    tokens = read_json(folder / TOKENIZER_FILE).get("added_tokens", [])
    return {token["content"]: token["id"] for token in tokens}


def _native_of(config: Mapping[str, Any], where: Path, tokens: Mapping[str, int]) -> dict[str, Any]:
    """Arguments of the native config for an original one.

    Raises:
        UserError: if the native network couldn't compute the same
    """
    text = config.get("text_config") or {}
    lacking = [f"text_config.{name}" for name in TEXT_SIZES if name not in text]
    lacking += [name for name in ORIGINAL_SETTINGS if name not in config]
    if lacking:
        raise UserError(f"incomplete: no {', '.join(lacking)}", where=where)
    _require_computable(config, text, where)
    for token in (BEGIN, END_OF_TURN, DELAY):
        if token not in tokens:
            raise UserError(f"the tokenizer has no {token}", where=where.parent / TOKENIZER_FILE)
    network = {name: text[name] for name in (*TEXT_SIZES, *TEXT_OPTIONS) if name in text}
    rotary = {**(text.get("rope_scaling") or {"rope_type": "default"})}
    codes = config["audio_codebook_size"]
    return network | {
        "rope_parameters": {**rotary, "rope_theta": text.get("rope_theta", 500000.0)},
        "tie_word_embeddings": False,
        "pad_token_id": config.get("pad_token_id", 128001),
        "bos_token_id": tokens[BEGIN],
        "eos_token_id": tokens[END_OF_TURN],
        "num_codebooks": config["audio_num_codebooks"],
        "codebook_size": codes + 2,
        "audio_token_id": config.get("audio_out_token_idx", 128016),
        "audio_bos_token_id": config.get("audio_out_bos_token_id", 128013),
        "audio_delay_token_id": tokens[DELAY],
        "audio_stream_bos_id": config.get("audio_stream_bos_id", codes),
        "audio_stream_eos_id": config.get("audio_stream_eos_id", codes + 1),
    }


def _require_computable(config: Mapping[str, Any], text: Mapping[str, Any], where: Path) -> None:
    """Refuse what the native network has no counterpart of."""
    n_layers = text["num_hidden_layers"]
    dual = sorted(config["audio_dual_ffn_layers"] or [])
    refusals = {
        "it has an audio tower, which reads Whisper features": not config["skip_audio_tower"]
        or config["encode_whisper_embed"],
        "it reads references without their codes": not config["encode_audio_in_tokens"],
        "it was trained without the delay pattern": not config["use_delay_pattern"],
        f"only {len(dual)} of {n_layers} layers have an audio path": dual != list(range(n_layers))
        or "dual_ffn" not in config["audio_adapter_type"],
        "it averages the embeddings of codebooks": config.get("audio_embed_avg", False),
        "it has layers in front of its heads": config.get("audio_decoder_proj_num_layers", 0) != 0,
        "it predicts codebooks with a transformer of their own": config.get("use_rq_transformer"),
        "it projects embeddings of codes": config.get("use_audio_out_embed_projector", False),
    }
    for what, is_so in refusals.items():
        if is_so:
            raise UserError(
                f"transformers has no network for this checkpoint: {what}",
                where=where,
                fix="use higgs-audio-v2-generation-3B-base",
            )
