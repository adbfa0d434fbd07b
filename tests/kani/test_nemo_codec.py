"""Where NeMo is installed, it says the same with the same weights."""

from __future__ import annotations

import pytest
import torch

from tests.kani.golden import tensors
from tests.kani.test_codec import golden_codec


def test_nemo_gives_the_same_codes_and_sound():
    pytest.importorskip("nemo.collections.tts", reason="nemo-toolkit[tts] isn't installed")
    from kani.nemo_codec import NemoCodec

    codec, io = golden_codec(), tensors("codec_tiny_io")
    nemo = NemoCodec(codec)
    sound = 0.1 * torch.randn(2, 9 * 1764, generator=torch.Generator().manual_seed(1))
    assert torch.equal(nemo.encode(sound), codec.encode(sound)[0])
    torch.testing.assert_close(
        nemo.decode(io["dec_tokens"]), codec.decode(io["dec_tokens"]), atol=1e-5, rtol=0
    )
