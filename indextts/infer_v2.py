"""IndexTTS2 under the names its users know: the original's constructor and `infer(...)`."""

from __future__ import annotations

import dataclasses
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from indextts import loading
from indextts.checkpoint import CheckpointFolder
from indextts.emotion import Mood, emotion_vector, limited
from indextts.emotion_text import EmotionReader
from indextts.frontend.text import PAUSE
from indextts.gpt.decoding import require_room
from indextts.gpt.fixed import FixedVoice
from indextts.inference import Models, Synthesizer, said
from indextts.loading import Amp, FlowDtype, load_language_model, with_adapter, within_memory
from indextts.lora import Adapter
from indextts.references import ReferenceReader
from indextts.speaker_embeddings import SpeakerEmbeddingStore
from indextts.speech import Piece, Progress, Request, Samples, Speech
from indextts.stored_voice import SpeakerEmbeddings, Voice, read_voice, require_fit
from indextts.vocoder.waveform import silence
from indextts.wishes import checked, no_mood_model
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.machine import pick_device
from ttscommon.outputs import require_writable

log = logging.getLogger(__name__)

IGNORED = {
    "use_cuda_kernel": "the vocoder's activation runs in plain torch, the same everywhere",
    "use_deepspeed": "decoding has a cache of its own",
    "use_accel": "decoding has a cache of its own and writes several segments together",
}


class IndexTTS2:
    """A loaded model; the first ten arguments are the original's.

    Args:
        cfg_path: config.yaml, by default the one in `model_dir`
        model_dir: checkpoint folder; default `checkpoints/`, or else `checkpoints/indextts2/`
        use_fp16: the same as amp="fp16", and not on a CPU, as in the original
        device: "cpu", "cuda", "cuda:1"; None takes a CUDA GPU where there is one
        use_cuda_kernel, use_deepspeed, use_accel: accepted and without effect
        use_torch_compile: fuse the flow's estimator, and on a GPU the decoding step; takes minutes
            at first, and a C++ compiler
        use_qwen_emo: False refuses moods from text
        aux_paths: where other models lie, see `CheckpointFolder.open`
        lora_path: a LoRA adapter's folder; it stays apart from the weights
        lora_scale: how strong it is, 1 as it was trained
        gpt_checkpoint: another language model than the folder's, fully fine-tuned
        amp: precision of the language model; all else stays in float32
        flow_dtype: what the flow's estimator computes in
        offload: whether models that only read references leave the memory after it; by default on
            GPUs of less than 10 GB

    Attributes:
        synthesizer: what speaks
        references: what reads recordings
        gpt_path: file of the language model
        language_model: the weights that speak, the LoRA among them, and their fingerprint

    Raises:
        UserError: for anything missing, broken or of another version
    """

    @within_memory("while the model was loaded")
    def __init__(
        self,
        cfg_path: Path | str | None = None,
        model_dir: Path | str | None = None,
        use_fp16: bool = False,
        device: str | None = None,
        use_cuda_kernel: bool | None = None,
        use_deepspeed: bool = False,
        use_accel: bool = False,
        use_torch_compile: bool = False,
        use_qwen_emo: bool = True,
        aux_paths: Mapping[str, Path | str] | None = None,
        *,
        lora_path: Path | str | None = None,
        lora_scale: float = 1.0,
        gpt_checkpoint: Path | str | None = None,
        amp: Amp = "no",
        flow_dtype: FlowDtype = "fp32",
        offload: bool | None = None,
    ):
        asked = {"use_cuda_kernel": use_cuda_kernel, "use_deepspeed": use_deepspeed}
        for name, wanted in {**asked, "use_accel": use_accel}.items():
            if wanted:
                log.info("%s has no effect: %s", name, IGNORED[name])
        self.device = pick_device(device or "auto")
        self.dtype = loading.gpt_dtype(amp, use_fp16=use_fp16, device=self.device)
        estimator_dtype = loading.flow_dtype(flow_dtype)
        self.folder = CheckpointFolder.open(model_dir, cfg_path=cfg_path, aux_paths=aux_paths)
        if self.folder.config.is_miniature:
            log.warning("a miniature checkpoint: its weights are random, it speaks noise")
        self.gpt_path = Path(gpt_checkpoint) if gpt_checkpoint else self.folder.gpt
        self.language_model = load_language_model(
            self.gpt_path,
            self.folder.config.gpt,
            Path(lora_path) if lora_path else None,
            scale=lora_scale,
            dtype=self.dtype,
            device=self.device,
        )
        models = Models.load(self.folder, self.language_model.gpt, self.device)
        if use_torch_compile:
            models.s2mel.cfm.estimator.compile(dynamic=True)
        # Fixed shapes pay off as CUDA graphs only.
        make_writer = FixedVoice if use_torch_compile and self.device.type == "cuda" else None
        self.synthesizer = Synthesizer(models, flow_dtype=estimator_dtype, make_writer=make_writer)
        releases = loading.is_small(self.device) if offload is None else offload
        self.references = ReferenceReader(self.folder, models.s2mel, self.device, releases=releases)
        self._use_qwen_emo = use_qwen_emo
        self._emotion_reader: EmotionReader | None = None

    def infer(
        self,
        spk_audio_prompt: Path | str | None = None,
        text: str = "",
        output_path: Path | str | None = None,
        emo_audio_prompt: Path | str | None = None,
        emo_alpha: float = 1.0,
        emo_vector: Sequence[float] | None = None,
        use_emo_text: bool = False,
        emo_text: str | None = None,
        use_random: bool = False,
        interval_silence: int = 200,
        verbose: bool = False,
        max_text_tokens_per_segment: int = 120,
        stream_return: bool = False,
        more_segment_before: int = 0,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> Any:
        """Speak a text; arguments and results are the original's.

        Args:
            output_path: a 16-bit WAV; an existing one is replaced when all is ready
            verbose: log what each segment consists of
            more_segment_before: keep segments short within so many first tokens
            options: further arguments of `request`

        Returns:
            the output path; without one, (22050, int16 array (S, 1)); with `stream_return` a
            generator of float tensors (1, S) in 16-bit scale, silence after each segment

        Raises:
            UserError: before any work, for whatever can't be spoken, read or written
        """
        if output_path and not stream_return:
            require_wav(Path(output_path))
        request = self.request(
            spk_audio_prompt,
            text,
            emo_audio_prompt=emo_audio_prompt,
            emo_alpha=emo_alpha,
            emo_vector=emo_vector,
            use_emo_text=use_emo_text,
            emo_text=emo_text,
            use_random=use_random,
            interval_silence=interval_silence,
            max_text_tokens_per_segment=max_text_tokens_per_segment,
            more_segment_before=more_segment_before,
            **options,
        )
        log.log(logging.INFO if verbose else logging.DEBUG, "%s", request.items)
        if stream_return:
            return self._streamed(request, progress)
        speech = self.speak(request, progress)
        log.info("%s", speech.summary)
        if not output_path:
            return speech.sample_rate, speech.samples[:, None]
        audio.save(Path(output_path), speech.samples, speech.sample_rate)
        return output_path

    def infer_stream(
        self,
        spk_audio_prompt: Path | str | None = None,
        text: str = "",
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> Iterator[Samples]:
        """Speak segment by segment: int16 arrays (S,) that put together are what `infer` gives.

        Args:
            options: arguments of `request`; each segment is made when it is asked for
        """
        request = self.request(spk_audio_prompt, text, **{"batch_size": 1, **options})
        return (piece.samples for piece in self._pieces(request, progress))

    def speak(self, request: Request, progress: Progress | None = None) -> Speech:
        """Speak a request; without `progress` a line in the log tells of each segment.

        Raises:
            UserError: if the GPU's memory doesn't suffice
        """
        with _speaking(request):
            return self.synthesizer.synthesize(request, progress or _log_segment)

    @within_memory("while the voice or mood was read")
    def request(
        self,
        spk_audio_prompt: Path | str | None = None,
        text: str = "",
        *,
        emo_audio_prompt: Path | str | None = None,
        emo_alpha: float = 1.0,
        emo_vector: Sequence[float] | None = None,
        use_emo_text: bool = False,
        emo_text: str | None = None,
        use_random: bool = False,
        more_segment_before: int = 0,
        speaker_embeddings: SpeakerEmbeddings | None = None,
        seed: int | None = None,
        **settings: Any,
    ) -> Request:
        """Check everything there is to check, and read the recordings.

        Args:
            spk_audio_prompt: a recording of the voice, its first 15 seconds
            text: may hold pauses, `[pause:0.8]`
            emo_audio_prompt: a recording of the mood; a vector or text comes before it
            emo_alpha: how far to go from the voice's own mood to that one
            emo_vector: weights of `emotion.EMOTIONS`, which leave the rest to the voice's own mood
            use_emo_text: read the weights from `emo_text`, or else from `text`
            use_random: take any speakers' emotions instead of those most like the voice
            speaker_embeddings: a stored voice instead of a recording
            seed: the same one gives the same sound; drawn and reported if there is none
            settings: fields of `SpeechConfig` and `DecodingConfig`, such as `num_beams`,
                `temperature`, `diffusion_steps`, `cfg_rate`, `duration_factor`, `prompt_seconds`

        Raises:
            UserError: for a wrong value, an unknown argument, a text or file of no use
        """
        wishes = checked(text or "", settings, arguments=sorted(ARGUMENTS), emo_alpha=emo_alpha,
                         emo_vector=emo_vector, use_random=use_random, seed=seed,
                         more_segment_before=more_segment_before)  # fmt: skip
        require_room(self.synthesizer.models.gpt.config, wishes.decoding)
        if use_emo_text and self._emotion_reader is None:
            self._load_emotion_reader()
        items = self.synthesizer.plan(text, wishes.speech, quick_tokens=more_segment_before)
        began = self.synthesizer.seconds["reference"]
        with self.synthesizer.timed("reference"):
            voice = self._voice(spk_audio_prompt, speaker_embeddings)
            mood = self._heard(
                wishes.mood, emo_audio_prompt, (emo_text or text) if use_emo_text else None
            )
            self._release()
        return Request(
            items=items,
            voice=voice,
            seed=_drawn() if seed is None else seed,
            mood=mood,
            decoding=wishes.decoding,
            speech=wishes.speech,
            reading=self.synthesizer.seconds["reference"] - began,
        )

    @within_memory("while the voice was read")
    def voice(self, path: Path | str) -> Voice:
        """The voice of a recording, to be stored or spoken with; it says what it was read from.

        Raises:
            UserError: if it can't be read, is silent or shorter than half a second
        """
        return SpeakerEmbeddingStore(self.references).voice([path])

    def load_lora(self, path: Path | str, scale: float = 1.0) -> Adapter:
        """Speak with this adapter from now on, instead of the present one.

        Args:
            scale: how strong it is, 1 as it was trained

        Raises:
            UserError: if there is none, or it belongs to another base; nothing is changed then
        """
        self.language_model = with_adapter(self.language_model, Path(path), scale)
        self.synthesizer.speak_with(self.language_model.gpt)
        assert self.language_model.adapter is not None
        return self.language_model.adapter

    def normalize_emo_vec(
        self, emo_vector: Sequence[float], apply_bias: bool = True
    ) -> list[float]:
        """The weights as the original's web page softens them; `infer` takes them as they are."""
        return list(limited(emotion_vector(emo_vector), apply_bias=apply_bias))

    def _heard(self, mood: Mood, recording: Path | str | None, text: str | None) -> Mood:
        """The mood with what a recording or a text adds to it."""
        if text is not None and self._emotion_reader is not None:
            mood = dataclasses.replace(
                mood, vector=self._emotion_reader.vector(PAUSE.sub(" ", text))
            )
        if recording is None:
            return mood
        if mood.vector is None:
            return dataclasses.replace(mood, features=self.references.mood(recording))
        log.info("the emotion recording is passed over: a vector or text was given")
        return mood

    def _release(self) -> None:
        """Let go of what has done its part, if memory is scarce."""
        if self.references.releases:
            self._emotion_reader = None
        self.references.release()

    def _voice(self, recording: Path | str | None, stored: SpeakerEmbeddings | None) -> Voice:
        if stored is None:
            if not recording:
                raise UserError(
                    "whose voice? There is neither a recording nor a stored speaker",
                    fix="give spk_audio_prompt or speaker_embeddings",
                )
            return self.references.voice(recording)
        if recording:
            log.warning("spk_audio_prompt is passed over: a stored speaker was given")
        voice = read_voice(stored)
        require_fit(voice, self.synthesizer.models.gpt, self.synthesizer.models.s2mel)
        return voice.to(self.device)

    def _load_emotion_reader(self) -> None:
        if not self._use_qwen_emo:
            raise UserError("use_qwen_emo is off, so no mood is read from text")
        if self.folder.qwen_emotion is None:
            raise no_mood_model(self.folder)
        self._emotion_reader = EmotionReader.from_folder(self.folder.qwen_emotion, self.device)

    def _pieces(self, request: Request, progress: Progress | None) -> Iterator[Piece]:
        with _speaking(request):
            yield from self.synthesizer.stream(request, progress)

    def _streamed(self, request: Request, progress: Progress | None) -> Iterator[Tensor]:
        """As the original streams, the silence after the last segment included."""
        for piece in self._pieces(request, progress or _log_segment):
            yield torch.from_numpy(piece.samples).float()[None]
        rate = self.synthesizer.sample_rate
        gap = silence(request.speech.interval_silence / 1000, rate)
        yield torch.from_numpy(gap).float()[None]


def _drawn() -> int:
    seed = secrets.randbits(31)
    log.info("seed %d", seed)
    return seed


def _speaking(request: Request) -> AbstractContextManager[None]:
    return within_memory(f"while speaking, batch_size {request.speech.batch_size}")


def require_wav(path: Path) -> None:
    """Refuse, before any work, an output that couldn't be written.

    Raises:
        UserError: if it isn't named .wav, or can't be made there
    """
    if path.suffix.lower() != ".wav":
        raise UserError("speech is written as WAV", where=path, fix=f"{path.stem or 'speech'}.wav")
    require_writable(path)


def _log_segment(n_done: int, n_segments: int, piece: Piece) -> None:
    if piece.segment is not None:
        log.info(
            "segment %d/%d  %d codes  %s", n_done, n_segments, piece.n_codes, said(piece.segment)
        )


# What a misspelt argument is compared with.
ARGUMENTS = {*IndexTTS2.infer.__annotations__, *IndexTTS2.request.__annotations__} - {
    "options",
    "settings",
    "return",
}
