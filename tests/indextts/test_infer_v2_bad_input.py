"""What can't be spoken is refused in one line, before any work, and nothing is written."""

import math
import shutil

import numpy as np
import pytest
import soundfile
import torch

from indextts.frontend.text import Segment
from indextts.infer_v2 import IndexTTS2
from ttscommon.errors import UserError

TEXT = "The cat sat down."
QUICK = {"diffusion_steps": 1, "num_beams": 1, "seed": 1}


@pytest.fixture(scope="module")
def tts(miniature):
    return IndexTTS2(model_dir=miniature, device="cpu")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "me.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(22_050), 22_050)
    return path


def refused(tts, message, *arguments, **options):
    with pytest.raises(UserError, match=message) as caught:
        tts.infer(*arguments, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": ""}, "there is no text to speak"),
        ({"text": " \n "}, "there is no text to speak"),
        ({"text": None}, "there is no text to speak"),
        ({"text": "[pause:2]"}, "there is no text to speak"),
        ({"text": "☃☂"}, "knows none of these characters"),
        ({"text": "Hi [pause:x]"}, r"\[pause:x\] is not a number"),
        ({"emo_vector": [0.1] * 7}, "has 8 values, got 7"),
        ({"emo_vector": [0.1] * 7 + [-1]}, "'calm' is -1"),
        ({"emo_vector": [math.nan] * 8}, "'happy' is nan"),
        ({"emo_vector": [1e38] * 8}, "'happy' is 1e[+]38"),
        ({"emo_alpha": math.nan}, "emo_alpha"),
        ({"emo_alpha": 1e30}, "emo_alpha must be a number from -10 to 10"),
        ({"emo_alpha": "x"}, "emo_alpha must be a number"),
        ({"text": b"abc"}, "the text is a bytes"),
        ({"text": ["abc"]}, "the text is a list"),
        ({"seed": "x"}, "seed must be a whole number, got 'x'"),
        ({"more_segment_before": -4}, "more_segment_before must be a whole number from 0 on"),
        ({"temperature": math.nan}, "temperature must be a number, got nan"),
        ({"repetition_penalty": math.inf}, "repetition_penalty must be a number"),
        ({"length_penalty": math.nan}, "length_penalty must be a number"),
        ({"use_emo_text": True}, "no model to read moods from text"),
        ({"temprature": 0.5}, "no argument 'temprature'. Fix: did you mean 'temperature'?"),
        ({"spk_audio_promt": "x.wav"}, "did you mean 'spk_audio_prompt'"),
        ({"temperature": 0}, "temperature and repetition_penalty must be above 0"),
        ({"num_beams": 2.5}, "num_beams"),
        ({"diffusion_steps": 0}, "diffusion_steps must be 1 or more"),
        ({"duration_factor": 3.0}, "duration_factor must be from 0.5 to 2"),
        ({"prompt_seconds": 0.0}, "prompt_seconds must be above 0"),
        ({"cfg_rate": -0.5}, "cfg_rate must be 0 or more"),
        ({"max_text_tokens_per_segment": 600}, "segments of 600 tokens"),
        ({"max_mel_tokens": 10_000}, "max_mel_tokens 10000"),
        ({"emo_audio_prompt": "nowhere.wav"}, "no such audio file"),
        ({"speaker_embeddings": "nowhere.pt"}, "no stored speaker here"),
        ({"speaker_embeddings": {"style": torch.zeros(1, 10)}}, "lacks spk_cond_emb"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(tts, reference, tmp_path, options, message):
    arguments = {"spk_audio_prompt": reference, "text": TEXT, **options}
    refused(tts, message, output_path=tmp_path / "new" / "out.wav", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_voice_must_be_given(tts):
    refused(tts, "neither a recording nor a stored speaker", None, TEXT)


def test_a_stored_speaker_of_the_wrong_width_is_refused(tts, reference):
    tensors = tts.voice(reference).tensors()
    wide = {**tensors, "style": torch.zeros(1, 192)}
    refused(tts, "style of the stored speaker is 192 wide", None, TEXT, speaker_embeddings=wide)


def test_an_output_that_cannot_be_written_is_refused_before_the_recording_is_read(tts, tmp_path):
    (tmp_path / "file").touch()
    for path, message in [
        (tmp_path / "file" / "out.wav", "cannot write there"),
        (tmp_path / "out.mp3", "speech is written as WAV"),
        (tmp_path / "folder.wav", "a folder stands"),
    ]:
        if path.name == "folder.wav":
            path.mkdir()
        refused(tts, message, "no such recording.wav", TEXT, path)


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 1, "do_sample": False},
        {"num_beams": 1},
        {"num_beams": 1, "typical_sampling": True},
        {"num_beams": 3, "do_sample": False},
        {"num_beams": 3},
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_language_model_without_numbers_is_one_line(tts, reference, tmp_path, options, value):
    head = tts.synthesizer.models.gpt.mel_head
    whole = head.bias.data.clone()
    head.bias.data[3] = value
    try:
        message = "the language model computes NaN or infinity"
        refused(tts, message, reference, TEXT, tmp_path / "out.wav", **{**QUICK, **options})
    finally:
        head.bias.data = whole
    assert list(tmp_path.iterdir()) == []


def test_a_vocoder_without_numbers_is_one_line(tts, reference, tmp_path):
    bias = next(
        p for name, p in tts.synthesizer.models.vocoder.named_parameters() if "bias" in name
    )
    whole = bias.data.clone()
    bias.data[:] = math.nan
    try:
        message = "NaN or infinity instead of sound"
        refused(tts, message, reference, TEXT, tmp_path / "out.wav", **QUICK)
    finally:
        bias.data = whole
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_stays_whole_until_the_new_one_is(tts, reference, tmp_path):
    path = tmp_path / "out.wav"
    path.write_bytes(b"old")

    def give_up(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tts.infer(reference, TEXT, path, progress=give_up, **QUICK)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["out.wav"]
    tts.infer(reference, TEXT, path, **QUICK)
    assert soundfile.info(path).frames > 0


def test_a_text_of_20000_characters_is_spoken_in_segments(tts, reference):
    sentence = "The cat sat down near an old tree, and then it slept well. "
    text = (sentence * 400)[:20_000]
    told = []
    options = {"batch_size": 32, "max_mel_tokens": 3, "prompt_seconds": 0.2}
    request = tts.request(reference, text, **options, **QUICK)
    speech = tts.speak(request, lambda *news: told.append(news[:2]))
    assert request.n_segments == len(request.items) > 30
    assert all(isinstance(item, Segment) and len(item.ids) <= 121 for item in request.items)
    assert told[-1] == (request.n_segments, request.n_segments)
    assert speech.duration > 0.2 * (request.n_segments - 1)


def full(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")


def test_too_little_gpu_memory_for_speaking_is_one_line(tts, reference):
    options = {**QUICK, "max_mel_tokens": 2}
    with pytest.raises(UserError, match="out of GPU memory while speaking, batch_size 4"):
        tts.speak(tts.request(reference, TEXT, **options), full)
    with pytest.raises(UserError, match="out of GPU memory while speaking, batch_size 4"):
        list(tts.infer(reference, TEXT, stream_return=True, progress=full, **options))
    with pytest.raises(UserError, match="out of GPU memory while speaking, batch_size 1"):
        list(tts.infer_stream(reference, TEXT, progress=full, **options))


def test_too_little_gpu_memory_for_reading_or_loading_is_one_line(
    tts, miniature, reference, tmp_path, monkeypatch
):
    tts.voice(reference)
    path = shutil.copy(reference, tmp_path / "another.wav")
    monkeypatch.setattr(tts.references.models, "features", full)
    with pytest.raises(UserError, match="out of GPU memory while the voice or mood was read"):
        tts.request(path, TEXT)
    with pytest.raises(UserError, match="out of GPU memory while the voice was read"):
        tts.voice(path)
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", full)
    with pytest.raises(UserError, match="out of GPU memory while the model was loaded"):
        IndexTTS2(model_dir=miniature, device="cpu")


def test_speech_that_reaches_the_limit_is_reported(tts, reference, caplog):
    speech = tts.speak(tts.request(reference, TEXT, max_mel_tokens=3, **QUICK))
    assert [piece.is_complete for piece in speech.segments] == [False]
    assert "a segment was cut at 3 codes" in caplog.text


def test_a_checkpoint_with_a_broken_or_missing_file_is_refused(miniature, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(miniature, folder)
    whole = (folder / "gpt.pth").read_bytes()
    (folder / "gpt.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="truncated"):
        IndexTTS2(model_dir=folder, device="cpu")
    (folder / "gpt.pth").unlink()
    with pytest.raises(UserError, match=r"1 missing: gpt\.pth"):
        IndexTTS2(model_dir=folder, device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"amp": "fp8"}, "amp is 'fp8'"),
        ({"use_fp16": True, "amp": "bf16"}, "contradict"),
        ({"flow_dtype": "fp16"}, "flow_dtype is 'fp16'"),
        ({"device": "tpu"}, "unknown device"),
        ({"lora_path": "nowhere"}, "no LoRA adapter here"),
        ({"gpt_checkpoint": "nowhere.pth"}, "no such file of weights"),
    ],
)
def test_a_model_that_cannot_be_is_refused(miniature, options, message):
    with pytest.raises(UserError, match=message):
        IndexTTS2(model_dir=miniature, **{"device": "cpu", **options})
