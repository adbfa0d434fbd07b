"""The one path from text to sound gives what the original's `infer` gave."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import soundfile
import torch

from indextts.checkpoint import CheckpointFolder
from indextts.config import SpeechConfig
from indextts.emotion import EmotionMatrices
from indextts.frontend.text import Pause, Segment
from indextts.inference import Models, Synthesizer
from indextts.references import ReferenceModels, ReferenceReader
from indextts.speech import Conditioning, Request, Utterance
from tests.indextts.acoustic_golden import furthest, golden, pipeline_parts

RATE = 22_050
SEGMENTS = [Segment(("A",), (3,)), Segment(("B",), (4,))]


@pytest.fixture(scope="module")
def data():
    return golden("s2mel_pipeline")


@pytest.fixture(scope="module")
def parts():
    return pipeline_parts()


@pytest.fixture(scope="module")
def voice(data, parts, tmp_path_factory):
    """Read from a file, as a user's is."""
    path = tmp_path_factory.mktemp("reference") / "prompt.wav"
    soundfile.write(path, data["in.prompt_pcm16"].numpy(), RATE, subtype="PCM_16")
    features = (data["in.w2v_hidden17"] - data["in.w2v_mean"]) / data["in.w2v_var"].sqrt()
    reader = ReferenceReader(cast(CheckpointFolder, None), parts.s2mel, torch.device("cpu"))
    reader.models = ReferenceModels(lambda audio: features, parts.codec, parts.campplus)
    return reader.voice(path)


class Recorded(Synthesizer):
    """Speaks codes, latents and noise that were recorded from the original."""

    def __init__(self, data, parts):
        gpt = SimpleNamespace(mel_head=torch.nn.Linear(1, 1))
        emotions = EmotionMatrices(torch.zeros(8, 1), torch.zeros(8, 1), (1,) * 8)
        super().__init__(
            Models(gpt, parts.s2mel, parts.codec, parts.bigvgan, None, emotions)  # type: ignore[arg-type]
        )
        self.data = data

    def conditioning(self, request):
        return Conditioning(torch.zeros(1, 1, 1), torch.zeros(1, 1))

    def write(self, segments, told, request, first=0):
        spoken = []
        for i in range(first, first + len(segments)):
            latents = self.data[f"in.latent{i}"]
            spoken.append(
                Utterance(self.data[f"in.codes{i}"][0, : latents.shape[1]], latents, True)
            )
        return spoken

    def noise(self, n_frames, request, number):
        return self.data[f"in.noise{number}"]


def test_the_voice_of_a_file_equals_the_originals(data, voice):
    for name in ("spk_cond_emb", "style", "prompt_condition", "ref_mel"):
        assert furthest(getattr(voice.features, name), data[f"out.{name}"]) < 5e-5, name


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_result_equals_the_originals_to_the_last_bits(data, parts, voice, batch_size):
    speech = SpeechConfig(batch_size=batch_size)
    request = Request(items=SEGMENTS, voice=voice, seed=0, speech=speech)
    made = Recorded(data, parts).synthesize(request)
    wanted = data["out.int16"][:, 0].numpy().astype(int)
    assert made.samples.dtype == np.int16
    assert made.samples.shape == wanted.shape
    assert np.abs(made.samples - wanted).max() <= 2
    assert made.sample_rate == RATE


def test_a_pause_takes_the_place_of_the_gap(data, parts, voice):
    items = [Pause(0.3), SEGMENTS[0], Pause(0.81), SEGMENTS[1]]
    made = Recorded(data, parts).synthesize(Request(items=items, voice=voice, seed=0))
    silences = [len(piece.samples) for piece in made.pieces if piece.segment is None]
    assert silences == [6615, 17860]
    assert len(made.samples) == 6615 + 344 + 17860 + 240


@pytest.mark.parametrize("milliseconds", [0, -5])
def test_without_an_interval_segments_touch(data, parts, voice, milliseconds):
    speech = SpeechConfig(interval_silence=milliseconds)
    request = Request(items=SEGMENTS, voice=voice, seed=0, speech=speech)
    assert len(Recorded(data, parts).synthesize(request).samples) == 344 + 240


def test_progress_is_told_after_every_segment(data, parts, voice):
    told = []
    request = Request(items=SEGMENTS, voice=voice, seed=0)
    Recorded(data, parts).synthesize(request, lambda *news: told.append(news))
    assert [(n_done, n) for n_done, n, _ in told] == [(1, 2), (2, 2)]
    assert [piece.segment for _, _, piece in told] == SEGMENTS


def test_a_stream_makes_segments_when_they_are_asked_for(data, parts, voice):
    written = []

    class Watched(Recorded):
        def write(self, segments, told, request, first=0):
            written.append(first)
            return super().write(segments, told, request, first)

    speech = SpeechConfig(batch_size=1)
    pieces = Watched(data, parts).stream(
        Request(items=SEGMENTS, voice=voice, seed=0, speech=speech)
    )
    first = next(pieces)
    assert (written, first.segment) == ([0], SEGMENTS[0])
    assert [piece.segment for piece in pieces] == [None, SEGMENTS[1]]
