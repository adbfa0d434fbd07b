"""A checkpoint folder in the official layout: what is in it, what is missing, which version.

Version 2.0 keeps its own files at the root and fetches four other models from the Hugging Face hub.
Here those lie beside them, or are taken from a Hugging Face cache when they are there already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indextts.config import GptConfig
from indextts.s2mel.config import CodecConfig, S2MelConfig
from ttscommon.config import read_mapping
from ttscommon.errors import UserError

VERSION = "2.0"
PLACES = (Path("checkpoints"), Path("checkpoints/indextts2"))
CONFIG_FILE = "config.yaml"
FETCH = "python tools/download_checkpoints.py indextts2"
# Key in config.yaml -> the name it has in the published file.
FILES = {
    "gpt_checkpoint": "gpt.pth",
    "s2mel_checkpoint": "s2mel.pth",
    "w2v_stat": "wav2vec2bert_stats.pt",
    "emo_matrix": "feat2.pt",
    "spk_matrix": "feat1.pt",
    "qwen_emo_path": "qwen0.6bemo4-merge/",
}
TOKENIZER = "bpe.model"
# Widths between the GPT's and the codec's; written into the original's program, not its files.
GPT_LAYER_INNER = (256, 128)


@dataclass(frozen=True)
class Auxiliary:
    """A model of others that IndexTTS2 is built on.

    Attributes:
        repository: on the Hugging Face hub
        place: file or folder inside a checkpoint folder
        files: names in the repository; those of a folder lie in `place`, a single one is `place`
    """

    repository: str
    place: str
    files: tuple[str, ...]

    @property
    def is_folder(self) -> bool:
        return len(self.files) > 1


AUXILIARIES = {
    "w2v_bert": Auxiliary(
        "facebook/w2v-bert-2.0",
        "w2v-bert-2.0",
        ("config.json", "preprocessor_config.json", "model.safetensors"),
    ),
    "semantic_codec": Auxiliary(
        "amphion/MaskGCT",
        "semantic_codec/model.safetensors",
        ("semantic_codec/model.safetensors",),
    ),
    "campplus": Auxiliary(
        "funasr/campplus", "campplus/campplus_cn_common.bin", ("campplus_cn_common.bin",)
    ),
    "bigvgan": Auxiliary(
        "nvidia/bigvgan_v2_22khz_80band_256x", "bigvgan", ("config.json", "bigvgan_generator.pt")
    ),
}


@dataclass(frozen=True, kw_only=True)
class OfficialConfig:
    """What `config.yaml` says about the networks.

    Attributes:
        version: "2.0"
        gpt, s2mel, codec: sizes; those of BigVGAN stand in its own config.json
        emo_num: rows of the emotion and speaker matrices that belong to each of the emotions
        files: key in `config.yaml` -> file name
        is_miniature: random weights that `make_tiny_checkpoint` wrote; they speak noise
    """

    version: str
    gpt: GptConfig
    s2mel: S2MelConfig
    codec: CodecConfig
    emo_num: tuple[int, ...]
    files: Mapping[str, str]
    is_miniature: bool = False

    @classmethod
    def read(cls, path: Path) -> OfficialConfig:
        """Read an official config.yaml; sections of no use here are passed over.

        Raises:
            UserError: if the file is broken or incomplete, or describes another version
        """
        restore = f"restore it: {FETCH}"
        try:
            data = read_mapping(path)
            if data.get("version") or data.get("gpt_checkpoint"):  # a cut file isn't an old release
                require_version(config_version(data), where=path)
            return cls._of(data)
        except UserError as error:
            where, fix = error.where or path, error.fix or restore
            raise UserError(error.what, where=where, fix=fix) from error

    @classmethod
    def _of(cls, data: Mapping[str, Any]) -> OfficialConfig:
        sections = {}
        for name in ("gpt", "semantic_codec", "s2mel"):
            if not isinstance(section := data.get(name), Mapping):
                raise UserError(f"incomplete: no section '{name}'")
            sections[name] = section
        gpt = GptConfig.from_official(sections["gpt"])
        codec = CodecConfig.from_official(sections["semantic_codec"])
        if codec.hidden_size != gpt.cond_input_dim:
            raise UserError(
                f"semantic_codec.hidden_size {codec.hidden_size} isn't the width of the features "
                f"that the GPT reads, {gpt.cond_input_dim}"
            )
        dims = (gpt.model_dim, *GPT_LAYER_INNER, codec.hidden_size)
        emo_num = data.get("emo_num")
        if not isinstance(emo_num, list) or not all(type(n) is int and n > 0 for n in emo_num):
            raise UserError(f"emo_num must be a list of row counts, got {emo_num}")
        vocoder = (data.get("vocoder") or {}).get("type", "bigvgan")
        if vocoder != "bigvgan":
            raise UserError(f"vocoder.type is {vocoder}, but only bigvgan is known")
        files = {key: str(data.get(key, name)) for key, name in FILES.items()}
        files["bpe_model"] = str((data.get("dataset") or {}).get("bpe_model", TOKENIZER))
        return cls(
            version=VERSION,
            gpt=gpt,
            s2mel=S2MelConfig.from_official(sections["s2mel"], dims),
            codec=codec,
            emo_num=tuple(emo_num),
            files=files,
            is_miniature=bool(data.get("miniature", False)),
        )


@dataclass(frozen=True, kw_only=True)
class CheckpointFolder:
    """Everything IndexTTS2 reads; all of it was there when the folder was opened.

    Attributes:
        root: the folder
        config: its config.yaml
        gpt, s2mel, tokenizer, w2v_stat, emo_matrix, spk_matrix: files of the official release
        w2v_bert, bigvgan: folders of the auxiliary models
        semantic_codec, campplus: their files
        qwen_emotion: folder of the model that reads an emotion out of text; None if not there
    """

    root: Path
    config: OfficialConfig
    gpt: Path
    s2mel: Path
    tokenizer: Path
    w2v_stat: Path
    emo_matrix: Path
    spk_matrix: Path
    w2v_bert: Path
    semantic_codec: Path
    campplus: Path
    bigvgan: Path
    qwen_emotion: Path | None

    @classmethod
    def open(
        cls,
        model_dir: Path | str | None = None,
        *,
        cfg_path: Path | str | None = None,
        aux_paths: Mapping[str, Path | str] | None = None,
    ) -> CheckpointFolder:
        """Find every file, without reading any but config.yaml.

        Args:
            model_dir: default `checkpoints/`, or `checkpoints/indextts2/` if it has no config.yaml
            cfg_path: another config.yaml than the folder's; without `model_dir` the folder is the
                one it lies in, or the default if the language model isn't there
            aux_paths: where auxiliary models lie instead: w2v_bert, semantic_codec, campplus,
                bigvgan; each may be the folder or the file

        Raises:
            UserError: with all that is missing, or for a checkpoint of another version
        """
        root = _root(model_dir)
        config_path = root / CONFIG_FILE if cfg_path is None else Path(cfg_path)
        if not config_path.is_file():
            raise UserError("no IndexTTS2 checkpoint here: config.yaml is missing",
                            where=config_path, fix=FETCH)  # fmt: skip
        config = OfficialConfig.read(config_path)
        if cfg_path is not None and model_dir is None:
            beside, gpt = config_path.parent, config.files["gpt_checkpoint"]
            root = next((p for p in (beside, *PLACES) if (p / gpt).is_file()), beside)
        own = {key: root / name for key, name in config.files.items()}
        qwen = own.pop("qwen_emo_path")
        missing = [path for path in own.values() if not path.is_file()]
        auxiliary = _auxiliaries(root, aux_paths or {}, missing)
        if missing:
            names = ", ".join(_shown(path, root) for path in missing)
            raise UserError(f"{len(missing)} missing: {names}", where=root, fix=FETCH)
        return cls(
            root=root,
            config=config,
            gpt=own["gpt_checkpoint"],
            s2mel=own["s2mel_checkpoint"],
            tokenizer=own["bpe_model"],
            w2v_stat=own["w2v_stat"],
            emo_matrix=own["emo_matrix"],
            spk_matrix=own["spk_matrix"],
            qwen_emotion=qwen if qwen.is_dir() else None,
            **auxiliary,
        )


def config_version(data: Mapping[str, Any]) -> str:
    """Which release a config.yaml belongs to: "1.x", "2.0", "2.5", or what it says itself.

    The first releases stated no version; they had no emotion encoder.
    """
    stated = str(data.get("version", "")).strip()
    if stated.startswith("1"):
        return "1.x"
    if not stated:
        gpt = data.get("gpt")
        has_emotion = isinstance(gpt, Mapping) and "emo_condition_module" in gpt
        return VERSION if has_emotion else "1.x"
    return VERSION if stated in {"2", "2.0"} else stated


def require_version(version: str, *, where: Path) -> None:
    """Refuse everything but 2.0.

    Raises:
        UserError: that says which version it is and what can be done
    """
    if version == VERSION:
        return
    what = f"this is IndexTTS {version}, and only {VERSION} can be read"
    reason = {"1.x": "another codec and vocoder", "2.5": "another codec, of 25 codes a second"}
    if version in reason:
        what += f" ({version} has {reason[version]})"
    raise UserError(what, where=where, fix=f"put {VERSION} into a folder of its own: {FETCH}")


def _root(model_dir: Path | str | None) -> Path:
    if model_dir is not None:
        root = Path(model_dir)
        if not root.is_dir():
            raise UserError("no such checkpoint folder", where=root, fix=FETCH)
        return root
    return next((place for place in PLACES if (place / CONFIG_FILE).is_file()), PLACES[-1])


def _auxiliaries(
    root: Path, given: Mapping[str, Path | str], missing: list[Path]
) -> dict[str, Path]:
    """Where each auxiliary model is; what isn't anywhere is added to `missing`."""
    if unknown := sorted(set(given) - set(AUXILIARIES)):
        known = ", ".join(AUXILIARIES)
        raise UserError(f"aux_paths has unknown names: {', '.join(unknown)}", fix=f"known: {known}")
    found = {}
    for name, auxiliary in AUXILIARIES.items():
        if name in given:
            place = Path(given[name])
            if not auxiliary.is_folder and place.is_dir():
                place = place / Path(auxiliary.place).name
        else:
            place = root / auxiliary.place
        absent = [path for path in _files_in(place, auxiliary) if not path.is_file()]
        cached = _cached(root, auxiliary) if absent and name not in given else None
        found[name] = cached or place
        missing += absent if cached is None else []
    return found


def _files_in(place: Path, auxiliary: Auxiliary) -> list[Path]:
    return [place / name for name in auxiliary.files] if auxiliary.is_folder else [place]


def _cached(root: Path, auxiliary: Auxiliary) -> Path | None:
    """The model in a Hugging Face cache, if it is whole there; nothing is fetched."""
    from huggingface_hub import try_to_load_from_cache  # takes a moment to import

    for cache in (root / "hf_cache", None):
        paths = [
            try_to_load_from_cache(auxiliary.repository, name, cache_dir=cache)
            for name in auxiliary.files
        ]
        if all(isinstance(path, str) for path in paths):
            file = Path(str(paths[0]))
            return file.parent if auxiliary.is_folder else file
    return None


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
