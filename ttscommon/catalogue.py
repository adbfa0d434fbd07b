"""Which files each system needs, where they are published, and under what terms."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """The terms of some files, as known when this was written; the hub's page has the last word.

    Attributes:
        is_open: an open licence; terms that aren't are shown before anything is fetched
        note: what they restrict, in a few words
    """

    name: str
    is_open: bool = True
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.note})" if self.note else self.name


@dataclass(frozen=True)
class Source:
    """Files of one repository of the model hub.

    Attributes:
        files: names or patterns; each of them must be there
        extras: patterns of what is taken too where it exists
        folder: where they go, under the system's folder
    """

    repo: str
    files: tuple[str, ...]
    licence: Licence
    folder: str = ""
    extras: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """Everything that one system is downloaded from; `--revision` means its first source."""

    name: str
    title: str
    sources: tuple[Source, ...] = ()


MIT, APACHE = Licence("MIT"), Licence("Apache-2.0")
UNISPEECH = Licence("CC-BY-SA-3.0", note="share alike; of Microsoft's UniSpeech")
ORANGE = Licence("CC-BY-SA-3.0", note="share alike; of Orange/Speaker-wavLM-tbr")
# A community licence each: named as their repositories name them.
BILIBILI = Licence("bilibili Model Use License", False, "not open; commercial use is limited")
AMPHION = Licence("MIT for Amphion's code", False, "terms of the weights: see the model's page")
BOSON = Licence("Boson Higgs Audio 2 Community License", False, "not open; see its terms")
LFM = Licence("LFM Open License v1.0", False, "free below a yearly revenue; see its terms")
NVIDIA = Licence("NVIDIA Open Model License", False, "see its terms")
TRANSFORMERS_FILES = ("config.json", "*.safetensors", "tokenizer*.json")
TRANSFORMERS_EXTRAS = ("*.json", "*.jinja", "merges.txt")

INDEXTTS2 = Family(
    "indextts2",
    "IndexTTS2 2.0 and the models it stands on",
    (
        Source(
            "IndexTeam/IndexTTS-2",
            (
                "config.yaml",
                "gpt.pth",
                "s2mel.pth",
                "bpe.model",
                "wav2vec2bert_stats.pt",
                "feat1.pt",
                "feat2.pt",
                "qwen0.6bemo4-merge/*",
            ),
            BILIBILI,
        ),
        Source(
            "facebook/w2v-bert-2.0",
            ("config.json", "preprocessor_config.json", "model.safetensors"),
            MIT,
            "w2v-bert-2.0",
        ),
        Source("amphion/MaskGCT", ("semantic_codec/model.safetensors",), AMPHION),
        Source("funasr/campplus", ("campplus_cn_common.bin",), APACHE, "campplus"),
        Source(
            "nvidia/bigvgan_v2_22khz_80band_256x",
            ("config.json", "bigvgan_generator.pt"),
            MIT,
            "bigvgan",
        ),
    ),
)
HIGGS = Family(
    "higgs",
    "Higgs-Audio v2 3B and its codec",
    (
        Source(
            "bosonai/higgs-audio-v2-generation-3B-base",
            TRANSFORMERS_FILES,
            BOSON,
            "higgs-audio-v2-generation-3B-base",
            TRANSFORMERS_EXTRAS,
        ),
        # Published as model.pth at first, as model.safetensors later.
        Source(
            "bosonai/higgs-audio-v2-tokenizer",
            ("config.json", "model.*"),
            BOSON,
            "higgs-audio-v2-tokenizer",
            ("*.json",),
        ),
    ),
)
KANI = Family(
    "kani",
    "KaniTTS 400m and NanoCodec",
    (
        Source(
            "nineninesix/kani-tts-400m-0.3-pt",
            TRANSFORMERS_FILES,
            LFM,
            "kani-tts-400m-0.3-pt",
            TRANSFORMERS_EXTRAS,
        ),
        Source(
            "nvidia/nemo-nano-codec-22khz-0.6kbps-12.5fps",
            ("*.nemo",),
            NVIDIA,
            "nemo-nano-codec-22khz-0.6kbps-12.5fps",
        ),
    ),
)
KANI_VOICE = Family(
    "kani-voice",
    "the speaker encoder of kani-tts-2 (--voice-encoder)",
    (Source("nineninesix/speaker-emb-tbr", ("config.json", "model.safetensors"), ORANGE),),
)
VOCOS = Family(
    "vocos",
    "Vocos mel-24khz, the vocoder of LeWM-TTS",
    (Source("charactr/vocos-mel-24khz", ("config.yaml", "pytorch_model.bin"), MIT),),
)
WAVLM = Family(
    "wavlm",
    "WavLM with x-vectors, a second speaker encoder for evaluation (--speaker-encoder)",
    (
        Source(
            "microsoft/wavlm-base-plus-sv",
            ("config.json", "preprocessor_config.json", "pytorch_model.bin"),
            UNISPEECH,
        ),
    ),
)
WHISPER = Family("whisper", "one Whisper model (--whisper-model), for transcripts and evaluation")
FAMILIES = {
    family.name: family for family in (INDEXTTS2, HIGGS, KANI, KANI_VOICE, VOCOS, WAVLM, WHISPER)
}
