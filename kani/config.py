"""What the six YAML files of a run say; the keys are those of the public pipeline and a few more.

A field whose name is another one in the files says so in `FILE_NAMES` of its class. No torch here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from kani.sampling import Sampling
from kani.tokens import TokenSpace
from ttscommon.errors import UserError
from ttscommon.train_settings import TrainSettings, default, setting

if TYPE_CHECKING:
    from ttscommon.task import FitConfig

Scalar = str | int | float | bool
LAYERS = ("nano_layer_1", "nano_layer_2", "nano_layer_3", "nano_layer_4")
# The names under which LFM2's layers can be adapted, as the public pipeline lists them.
MINIMAL = ("q_proj", "v_proj")
BALANCED = ("q_proj", "v_proj", "w1", "w2", "w3")
COMPREHENSIVE = ("q_proj", "k_proj", "v_proj", "out_proj", "w1", "w2", "w3")
FULL = (*COMPREHENSIVE, "in_proj")


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Which clips are encoded, and how."""

    min_duration: float = setting(0.3, "leave out shorter audio, seconds")
    max_duration: float = setting(30.0, "leave out longer audio, seconds")
    workers: int = setting(4, "most processes at a time")

    def __post_init__(self) -> None:
        if not 0 <= self.min_duration < self.max_duration:
            raise UserError(
                f"min_duration {self.min_duration:g} must be 0 or more, and below max_duration "
                f"{self.max_duration:g}",
                fix="--min-duration 0.3 --max-duration 30",
            )
        if self.workers < 1:
            raise UserError(f"workers must be 1 or more, got {self.workers}")


@dataclass(frozen=True, kw_only=True)
class CategoricalFilter:
    """Rows to keep: those with this value in this column, named as it is in the data set."""

    column_name: str
    value: Scalar


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One data set of codes.

    Attributes:
        reponame: a name on the hub, or a local folder or file (Arrow, Parquet, JSON lines)
        encoded_len: null: as long as the first layer
        speaker_id: written before each text; null: the text alone
        language_tag: the same for kani-tts-2, where no name is written but a language
        speaker_emb: the column with the speaker's embedding, for kani-tts-2; null: none
        recording_col_name: what mustn't be both trained on and measured with; each row by itself
            where there is no such column
        max_len: most rows, drawn after the filters; null: all
    """

    reponame: str
    name: str | None = None
    split: str = "train"
    text_col_name: str = "text"
    nano_layer_1: str = "nano_layer_1"
    nano_layer_2: str = "nano_layer_2"
    nano_layer_3: str = "nano_layer_3"
    nano_layer_4: str = "nano_layer_4"
    encoded_len: str | None = "encoded_len"
    speaker_id: str | None = None
    language_tag: str | None = None
    speaker_emb: str | None = None
    recording_col_name: str = "recording"
    max_len: int | None = None
    categorical_filter: CategoricalFilter | None = None

    def __post_init__(self) -> None:
        if self.max_len is not None and self.max_len < 1:
            raise UserError(f"max_len must be 1 or more, or null, got {self.max_len}")
        for name in ("speaker_id", "language_tag", "speaker_emb"):
            value = getattr(self, name)
            if value is not None and not value.strip():
                raise UserError(f"{name} is empty", fix="write null, or leave it out")
        if self.speaker_id is not None and self.language_tag is not None:
            raise UserError(
                "speaker_id and language_tag both stand before the text: one of them",
                fix="language_tag for kani-tts-2, speaker_id for kani-tts-1",
            )

    @property
    def prefix(self) -> str | None:
        """What stands before each text."""
        return self.speaker_id or self.language_tag

    @property
    def layers(self) -> tuple[str, ...]:
        """The columns of the codes, first layer first."""
        return self.nano_layer_1, self.nano_layer_2, self.nano_layer_3, self.nano_layer_4


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """What is trained on.

    Attributes:
        max_duration_sec: longer clips are left out; null: none
        remove_duplicate_frames: leave out frames that equal the one before, as the public pipeline
            does; pauses and held sounds come back shorter then
        validation_share: of the sound, held out to measure with
        n_shards_per_dataset: parts in which one is prepared; null: as many as processes help
    """

    max_duration_sec: float | None = 12.0
    hf_datasets: tuple[SourceConfig, ...]
    remove_duplicate_frames: bool = False
    validation_share: float = 0.05
    seed: int = 42
    n_shards_per_dataset: int | None = None

    def __post_init__(self) -> None:
        if not self.hf_datasets:
            raise UserError("hf_datasets is empty: nothing to train on")
        if self.max_duration_sec is not None and self.max_duration_sec <= 0:
            raise UserError(f"max_duration_sec must be above 0, got {self.max_duration_sec:g}")
        if not 0 < self.validation_share < 1:
            share = self.validation_share
            raise UserError(f"validation_share must be between 0 and 1, got {share:g}")
        if self.n_shards_per_dataset is not None and self.n_shards_per_dataset < 1:
            raise UserError("n_shards_per_dataset must be 1 or more, or null")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    vocab_size: int = 64400


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    start_of_text: int = 1
    end_of_text: int = 2
    start_of_speech: int = 64401
    end_of_speech: int = 64402
    start_of_human: int = 64403
    end_of_human: int = 64404
    start_of_ai: int = 64405
    end_of_ai: int = 64406
    pad_token: int = 64407


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    model_name: str = "nvidia/nemo-nano-codec-22khz-0.6kbps-12.5fps"
    sample_rate: int = 22050
    fps: float = 12.5
    num_codebooks: int = 4
    codebook_size: int = 4032
    audio_tokens_start: int = 64410


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The ids of the tokens, and the codec."""

    tokenizer: TokenizerConfig = TokenizerConfig()
    special_tokens: SpecialTokens = SpecialTokens()
    codec: CodecConfig = CodecConfig()
    codec_layers: tuple[str, ...] = LAYERS

    def __post_init__(self) -> None:
        codec = self.codec
        if codec.num_codebooks != len(LAYERS) or len(self.codec_layers) != len(LAYERS):
            raise UserError(f"a model of Kani has {len(LAYERS)} codebooks and codec_layers")
        assert self.space

    @property
    def space(self) -> TokenSpace:
        return TokenSpace.of(asdict(self))


@dataclass(frozen=True, kw_only=True)
class ExperimentName:
    """`base` of an experiment.

    Attributes:
        model_id: names the folder that the model is saved to
    """

    model_id: str
    run_name: str = ""
    desc: str = ""

    def __post_init__(self) -> None:
        name = self.model_id
        if not name or name in RESERVED or name[0] in ".-" or set(name) & set('/\\:*?"<>|\0'):
            raise UserError(f"'{name}' can't be a model_id: it names a folder", fix="alice-lora16")


# Folders beside those of the models, and beside those of their speech.
RESERVED = ("runs", "data", "base", "real", "dataset")


@dataclass(frozen=True, kw_only=True)
class LoraArgs:
    """The adapters, in peft's words."""

    r: int = 16
    lora_alpha: float = 16.0
    lora_dropout: float = 0.1
    target_modules: tuple[str, ...] = BALANCED
    bias: Literal["none"] = "none"
    modules_to_save: None = None
    task_type: Literal["CAUSAL_LM"] = "CAUSAL_LM"
    use_rslora: bool = True

    def __post_init__(self) -> None:
        if self.r < 1:
            raise UserError(f"r must be 1 or more, got {self.r}")
        if self.lora_alpha <= 0:
            raise UserError(f"lora_alpha must be above 0, got {self.lora_alpha:g}")
        if not 0 <= self.lora_dropout < 1:
            raise UserError(f"lora_dropout must be from 0 to below 1, got {self.lora_dropout:g}")
        if not self.target_modules:
            raise UserError("target_modules is empty: nothing would be trained")

    @property
    def scale(self) -> float:
        """What the product of the two factors is multiplied by."""
        return self.lora_alpha / (math.sqrt(self.r) if self.use_rslora else self.r)


@dataclass(frozen=True, kw_only=True)
class TrainerArgs(TrainSettings):
    """How it is trained; what the public pipeline hands to transformers, in the same words."""

    FILE_NAMES: ClassVar[Mapping[str, str]] = {
        "epochs": "num_train_epochs",
        "batch_size": "per_device_train_batch_size",
        "grad_accumulation": "gradient_accumulation_steps",
        "grad_clip": "max_grad_norm",
        "schedule": "lr_scheduler_type",
        "warmup_share": "warmup_ratio",
        "log_interval": "logging_steps",
        "val_interval": "eval_steps",
        "save_interval": "save_steps",
        "num_workers": "dataloader_num_workers",
        "amp": "",  # as bf16 says
    }

    epochs: int = default("epochs", 2)
    grad_accumulation: int = default("grad_accumulation", 4)
    learning_rate: float = default("learning_rate", 5e-5)
    weight_decay: float = default("weight_decay", 0.02)
    warmup_share: float = default("warmup_share", 0.1)
    final_share: float = default("final_share", 0.0)
    gradient_checkpointing: bool = default("gradient_checkpointing", False)
    log_interval: int = default("log_interval", 10)
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = setting(
        "cosine", "how the learning rate falls"
    )
    optim: Literal["adamw_torch", "adamw_torch_fused"] = setting("adamw_torch", "both are AdamW")
    bf16: bool = setting(True, "compute in bfloat16 on a GPU; a CPU computes in float32")
    loss_on: Literal["all", "audio"] = setting(
        "all", "all: prompt and answer, as the public pipeline; audio: the answer alone"
    )
    packing: bool = setting(False, "lay the clips of a batch end to end instead of padding them")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.amp != "no":
            raise ValueError("amp follows from bf16")

    def precision(self, device: str) -> Literal["no", "bf16"]:
        """Of the computations on a device of this kind."""
        return "bf16" if self.bf16 and device == "cuda" else "no"

    def fit_config(self, n_batches: int, *, device: str, **options: Any) -> FitConfig:
        config = super().fit_config(n_batches, device=device, **options)
        warmup = 0 if self.schedule == "constant" else config.warmup_steps
        schedule = "constant" if self.schedule == "constant_with_warmup" else self.schedule
        return replace(config, schedule=schedule, warmup_steps=warmup, betas=(0.9, 0.999))


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One model to train."""

    base: ExperimentName
    lora_args: LoraArgs = LoraArgs()
    trainer_args: TrainerArgs = TrainerArgs()


@dataclass(frozen=True, kw_only=True)
class SweepRange:
    """What a setting may be: one of the choices, or a number from low to high."""

    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        is_range = self.low is not None and self.high is not None and self.low < self.high
        if bool(self.choices) == is_range or (self.low is None) != (self.high is None):
            raise UserError("a range has either choices, or low and a higher high")
        if self.log and (self.low is None or self.low <= 0):
            raise UserError("a logarithmic range begins above 0")


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """A search by Optuna for the settings of the lowest validation loss.

    Attributes:
        lora_args, trainer_args: a range for each setting that is searched
        model_id: begins the names of the models; a number follows
    """

    model_id: str = "sweep"
    n_trials: int = 10
    warmup_trials: int = 3
    seed: int = 42
    lora_args: dict[str, SweepRange] | None = None
    trainer_args: dict[str, SweepRange] | None = None


@dataclass(frozen=True, kw_only=True)
class Experiments:
    """Models to train, one after the other, all from one base and on one data set.

    Attributes:
        base_model: a local folder, or a name on the hub
        report_to: who draws the curves; both keep local files, wandb sends them as well
    """

    base_model: str = "nineninesix/kani-tts-400m-0.3-pt"
    project_name: str = "voxtune-kani"
    report_to: Literal["tensorboard", "wandb"] = "tensorboard"
    experiments: tuple[Experiment, ...]
    sweep: SweepConfig | None = None

    def __post_init__(self) -> None:
        names = [one.base.model_id.lower() for one in self.experiments]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"two experiments have the model_id '{twice[0]}'")
        if not self.experiments and self.sweep is None:
            raise UserError("experiments is empty: nothing to train")


@dataclass(frozen=True, kw_only=True)
class InferenceModel:
    device_map: str = "auto"
    torch_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "bfloat16"


@dataclass(frozen=True, kw_only=True)
class GenerationArgs:
    max_new_tokens: int = 1200
    do_sample: bool = True
    temperature: float = 0.6
    top_p: float = 0.95
    repetition_penalty: float = 1.1
    num_return_sequences: int = 1

    def sampling(self, **changes: Any) -> Sampling:
        """The same as the sampler takes it, with changes."""
        found = {
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature if self.do_sample else 0.0,
            "top_p": self.top_p,
            "repetition_penalty": self.repetition_penalty,
        }
        return Sampling(**{**found, **changes})


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """How a trained model speaks."""

    model: InferenceModel = InferenceModel()
    generation: GenerationArgs = GenerationArgs()
