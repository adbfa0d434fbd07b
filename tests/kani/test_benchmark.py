"""The benchmark compares ways that give the same."""

from __future__ import annotations

import pytest
import torch

from kani.benchmark import plainly_decoded, plainly_encoded
from tests.kani.golden import tensors
from tests.kani.test_codec import golden_codec
from tools.benchmark import main
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.files import read_json


def test_the_plain_way_gives_the_same_codes_and_sound():
    codec, io = golden_codec(), tensors("codec_tiny_io")
    sound = 0.1 * torch.randn(2, 9 * 1764, generator=torch.Generator().manual_seed(1))
    assert torch.equal(plainly_encoded(codec, sound), codec.encode(sound)[0])
    torch.testing.assert_close(
        plainly_decoded(codec, io["dec_tokens"]), codec.decode(io["dec_tokens"]), atol=1e-5, rtol=0
    )


@pytest.fixture
def recordings(tmp_path):
    noise = torch.Generator().manual_seed(0)
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        sound = 0.1 * torch.randn(4000 * (number + 1), generator=noise)
        audio.save(folder / f"{number}.wav", sound.numpy(), 22050)
        (folder / f"{number}.txt").write_text("Hello there.", encoding="utf-8")
    return folder


def measured(recordings, *tasks: str, amp: str = "no") -> list[dict]:
    words = ["kani", "--input", str(recordings), "--layers", "0", "--seconds", "0.5", "--clips=2"]
    words += ["--batch-size", "2", "--repeats", "1", "--warmups", "0", "--threads", "1"]
    report = recordings.parent / "speed.json"
    main([*words, "--amp", amp, "--json", str(report), "--tasks", *tasks])
    return read_json(report)["rows"]


def test_the_codec_and_preparing_are_measured(recordings, capsys):
    rows = measured(recordings, "codec", "prepare")
    codec = [row for row in rows if row["way"] in ("here", "plain")]  # beside NeMo, if it is there
    found = [(row["task"], row["way"]) for row in codec]
    ways = [(task, way) for task in ("encode", "decode") for way in ("here", "plain")]
    assert found == [*ways, ("prepare", "here")]
    assert all(row["rate"] > 0 for row in rows)
    last = [row for row in rows if row["task"] == "encode"][-1]
    assert rows[0]["gain"] == pytest.approx(last["seconds"] / rows[0]["seconds"])
    assert "clips/s" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("amp", ["no", "bf16"])
def test_training_is_measured_in_three_ways(recordings, capsys, amp):
    rows = measured(recordings, "train", amp=amp)
    assert [row["way"] for row in rows] == ["packed", "padded", "one clip at a time"]
    assert rows[-1]["gain"] is None
    assert "tokens/s" in capsys.readouterr().out


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(UserError, match="no recordings with texts"):
        main(["kani", "--input", str(tmp_path), "--layers", "0", "--tasks", "prepare"])
