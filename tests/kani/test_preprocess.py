"""A speaker's clips become a data set of codes, each clip heard once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kani.config import LAYERS, PrepareConfig, SourceConfig
from kani.preprocess import prepare
from kani.sources import Source
from kani.tokens import TokenSpace
from kani.weights import load_codec
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker


@pytest.fixture
def speaker(tmp_path) -> Speaker:
    """Three clips; one has no text."""
    who = Speaker("ozzy", tmp_path / "training")
    random = np.random.default_rng(0)
    for name, seconds in (("a", 0.5), ("b", 0.9), ("c", 0.4)):
        sound = 0.1 * random.standard_normal(int(22050 * seconds)).astype(np.float32)
        audio.save(who.audio / f"{name}.wav", sound, 22050)
    who.transcripts.write_text("audio_path,text\na.wav,Hello.\nb.wav,Good bye.\n", "utf-8")
    return who


def encoded(speaker, miniature, **changes):
    config = PrepareConfig(**{"workers": 1, **changes})
    return prepare(speaker, speaker.kani, miniature[1], config, space=TokenSpace(), device="cpu")


def test_codes_are_those_of_the_codec_and_columns_those_of_the_public_data(speaker, miniature):
    report = encoded(speaker, miniature)
    rows = Source(SourceConfig(reponame=str(report.folder))).rows
    assert rows["text"][:] == ["Hello.", "Good bye."]
    assert rows["encoded_len"][:] == [7, 12]  # 0.5 s and 0.9 s at 12.5 frames a second, rounded up
    assert rows["recording"][:] == ["a.wav", "b.wav"]
    assert rows["speaker"][:] == ["ozzy"] * 2
    sound = torch.from_numpy(audio.load(speaker.audio / "b.wav", 22050))
    codes, _ = load_codec(miniature[1]).encode(sound[None])
    assert [rows[name][1] for name in LAYERS] == codes[0].tolist()
    assert (report.n_clips, report.n_encoded, report.skipped) == (2, 2, [])


def test_what_was_heard_is_not_heard_again(speaker, miniature):
    encoded(speaker, miniature)
    assert encoded(speaker, miniature).n_encoded == 0
    sound = audio.load(speaker.audio / "a.wav", 22050)
    audio.save(speaker.audio / "a.wav", sound[::-1].copy(), 22050)
    assert encoded(speaker, miniature).n_encoded == 1


def test_broken_codes_are_made_again(speaker, miniature):
    report = encoded(speaker, miniature)
    before = Source(SourceConfig(reponame=str(report.folder))).rows[LAYERS[0]][:]
    for path in (speaker.kani.folder / "codes").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:20])
    assert encoded(speaker, miniature).n_encoded == 2
    assert Source(SourceConfig(reponame=str(report.folder))).rows[LAYERS[0]][:] == before


def test_a_clip_of_no_use_is_left_out_with_its_reason_and_many_are_refused(speaker, miniature):
    report = encoded(speaker, miniature, min_duration=0.6)
    assert report.skipped == [("a.wav", "0.5 s, shorter than --min-duration 0.6")]
    with pytest.raises(UserError, match="2 of 2 are of no use"):
        encoded(speaker, miniature, min_duration=2)
    assert Source(SourceConfig(reponame=str(report.folder))).rows.num_rows == 1


def test_a_speaker_without_texts_is_refused(speaker, miniature):
    speaker.transcripts.unlink()
    with pytest.raises(UserError, match="no clip has a text"):
        encoded(speaker, miniature)
    assert not speaker.kani.folder.exists()
