"""Sound in pieces: the public schedule, and no seam."""

from __future__ import annotations

import pytest
import torch

from kani.codec import NanoCodec
from kani.streaming import Schedule, pieces
from kani.weights import load_codec
from tests.kani.golden import named


@pytest.fixture(scope="module")
def codec(miniature) -> NanoCodec:
    torch.set_num_threads(1)
    return load_codec(miniature[1])


@pytest.mark.parametrize("case", named("streaming"), ids=lambda case: str(case["n_frames"]))
def test_the_schedule_is_the_public_one(case):
    schedule = Schedule(case["chunk_size"], case["lookback_frames"])
    n_frames = case["n_frames"]
    windows = [window for n in range(1, n_frames + 1) for window in schedule.due(n)]
    windows += list(schedule.due(n_frames, is_over=True))
    assert [[w.start, w.end - w.start] for w in windows] == case["decode_calls_startframe_count"]
    heard = [[w.start + w.n_known, w.end - 1, w.end - w.start - w.n_known] for w in windows]
    assert heard == case["emitted_first_last_count"]
    assert sum(count for *_, count in heard) * 1764 == case["total_samples"]


def test_pieces_add_up_to_the_sound_at_once(codec):
    tokens = torch.randint(0, 4032, (4, 13), generator=torch.Generator().manual_seed(4))
    found = list(pieces(tokens.T, codec, chunk=5))
    assert [len(sound) // 1764 for sound in found] == [5, 5, 3]
    torch.testing.assert_close(torch.cat(found), codec.decode(tokens[None])[0], atol=1e-5, rtol=0)
