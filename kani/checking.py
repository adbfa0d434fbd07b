"""Everything that is wrong with a run's files, told before any GPU time is spent."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from kani.config import LAYERS, DatasetConfig, Experiments, ModelConfig
from kani.config_files import Finding, Read, read_folder
from kani.evaluation_config import EvalSet
from kani.hub import looks_local, model_folder, require_upload
from kani.prepared import require_speakers, required_dim, too_long
from kani.sources import Source, columns_of, is_local, lengths_of, require_columns
from kani.tokens import TokenSpace, speaker_prefix
from kani.train import target_layers
from kani.weights import TOKENIZER_FILE, read_config, require_rows
from ttscommon.errors import UserError

# Of LFM2-350M, which the released models were made from: every kind of layer that they have.
RELEASED = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "layer_types": ["conv", "full_attention"],
    "vocab_size": 8,
}


def check(folder: Path) -> list[Finding]:
    """What is wrong with the files, with what they name, and with how they go together."""
    files = read_folder(folder)
    findings = [finding for found in files.values() for finding in found.findings]
    dataset, experiments = files["dataset_config"].value, files["experiments"].value
    model: ModelConfig | None = files["model_config"].value
    paths = {name: str(folder / f"{name}.yaml") for name in files}
    if experiments is not None:
        space = model.space if model else TokenSpace()
        findings += _of_experiments(experiments, dataset, paths["experiments"], space)
    if files["eval_config"].value is not None:
        try:
            require_upload(files["eval_config"].value.huggingface)
        except UserError as error:
            where = f"{paths['eval_config']}: huggingface"
            findings.append(Finding(where, error.what, error.fix or ""))
    if dataset is not None:
        findings += _of_data(dataset, model or ModelConfig(), paths["dataset_config"])
        findings += _of_sentences(dataset, files["eval_set"], paths["eval_set"])
    return findings


def _of_experiments(
    found: Experiments, dataset: DatasetConfig | None, where: str, space: TokenSpace
) -> Iterator[Finding]:
    config: dict[str, Any] = RELEASED
    if looks_local(found.base_model):
        try:
            base = model_folder(found.base_model)
            config = read_config(base)
            require_rows(config, space, base)
            if not (base / TOKENIZER_FILE).is_file():
                raise UserError(f"no {TOKENIZER_FILE} in this folder", where=base)
            if dataset is not None:
                required_dim(dataset, base)
                yield from _of_languages(dataset, config, where)
        except UserError as error:
            yield Finding(f"{where}: base_model", _what(error), error.fix or "")
            config = RELEASED
    network = _network(config)
    for number, one in enumerate(found.experiments, 1):
        for name in one.lora_args.target_modules:
            try:
                target_layers(network, (name,))
            except UserError as error:
                key = f"experiments[{number}].lora_args.target_modules"
                yield Finding(f"{where}: {key}", error.what, error.fix or "")
    for package, is_wanted in (
        ("wandb", found.report_to == "wandb"),
        ("optuna", found.sweep is not None),
    ):
        if is_wanted and importlib.util.find_spec(package) is None:
            yield Finding(where, f"{package} isn't installed", "uv sync --inexact --all-extras")


def _of_languages(
    dataset: DatasetConfig, config: Mapping[str, Any], where: str
) -> Iterator[Finding]:
    """Languages that a base doesn't list: slips of the pen, or to be learned."""
    known = (config.get("language_settings") or {}).get("language_tags_list") or []
    tags = {one.language_tag.lower() for one in dataset.hf_datasets if one.language_tag}
    for tag in sorted(tags - {str(one).lower() for one in known}) if known else ():
        what = f"the base knows {', '.join(map(str, known))}, and learns {tag} from these clips"
        yield Finding(f"{where}: base_model", what, is_remark=True)


def _network(config: dict[str, Any]) -> Any:
    """The layers of a model by their names, without memory for them."""
    import torch
    from transformers import Lfm2Config, Lfm2ForCausalLM

    sizes = {k: v for k, v in config.items() if k not in ("model_type", "architectures")}
    with torch.device("meta"):
        return Lfm2ForCausalLM(Lfm2Config(**sizes))


def _of_data(found: DatasetConfig, model: ModelConfig, where: str) -> Iterator[Finding]:
    sources: list[Source] = []
    for number, config in enumerate(found.hf_datasets, 1):
        key = f"{where}: hf_datasets[{number}]"
        try:
            if not is_local(config):
                require_columns(config, columns_of(config))
                continue
            source = Source(config)
            rows = source.rows
        except UserError as error:
            yield Finding(key, _what(error), error.fix or "")
            continue
        sources.append(source)
        lengths = lengths_of(rows)
        if too_long(lengths, found, model).all():
            what = f"none of {len(lengths)} clips is left: max_duration_sec is too low"
            yield Finding(key, what)
        if config.max_len is not None and config.max_len > len(lengths):
            what = f"max_len {config.max_len} is more than its {len(lengths)} clips: all are taken"
            yield Finding(key, what, is_remark=True)
        yield from _of_codes(rows, key, model)
    try:
        require_speakers(sources)
    except UserError as error:
        yield Finding(where, error.what, error.fix or "")


def _of_codes(rows: Any, key: str, model: ModelConfig) -> Iterator[Finding]:
    for name in LAYERS if len(rows) else ():
        codes = pc.call_function("list_flatten", [rows.data.table[name]])
        if not len(codes):
            yield Finding(key, f"{name} has no codes")
            continue
        extremes = pc.call_function("min_max", [codes]).as_py()
        last = model.codec.codebook_size - 1
        if extremes["min"] < 0 or extremes["max"] > last:
            low, high = extremes["min"], extremes["max"]
            fix = "encode the recordings with the codec of this model"
            yield Finding(key, f"{name} has codes from {low} to {high}, 0 to {last} are", fix)


def _of_sentences(dataset: DatasetConfig, found: Read[EvalSet], where: str) -> Iterator[Finding]:
    """Sentences that no model was trained to speak: without a speaker, or with a strange one."""
    prefixes = {speaker_prefix(one.prefix) for one in dataset.hf_datasets}
    named = sorted(prefix for prefix in prefixes if prefix)
    if found.value is None or not named:
        return
    for name, sentence in found.value.sentences.items():
        if not any(sentence.lower().startswith(prefix) for prefix in prefixes):
            what = f"begins with none of the speakers that are trained: {', '.join(named)}"
            yield Finding(f"{where}: {name}", what, is_remark=True)


def _what(error: UserError) -> str:
    return f"{error.what} [{error.where}]" if error.where else error.what
