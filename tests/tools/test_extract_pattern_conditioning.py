"""The tool as it is typed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from indextts.pattern_conditioning import read_conditioning
from tests.indextts.prepared_clips import write_noise
from tools.extract_pattern_conditioning import main
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from indextts.miniature import write_miniature

    folder = tmp_path_factory.mktemp("checkpoint") / "miniature"
    write_miniature(folder)
    return folder


@pytest.fixture
def speaker(tmp_path) -> Speaker:
    speaker = Speaker("ozzy", tmp_path)
    for number, seconds in enumerate((1.0, 1.6, 1.2)):
        write_noise(speaker.audio / f"c{number}.wav", number, seconds)
    return speaker


def flags_of(speaker: Speaker, checkpoint) -> list[str]:
    return [
        *("--speaker", "ozzy", "--training-root", str(speaker.root)),
        *("--model-dir", str(checkpoint)),
    ]


def test_average_is_the_mean_of_all_clips_and_the_others_are_one_clip_s(
    speaker, checkpoint, capsys, tmp_path
):
    flags = flags_of(speaker, checkpoint)
    for method in ("average", "longest", "medoid"):
        main([*flags, "--method", method, "--overwrite", "-o", str(tmp_path / f"{method}.pt")])
    singles = []
    for number in range(3):
        one = tmp_path / f"one{number}.pt"
        folder = tmp_path / f"folder{number}"
        folder.mkdir()
        for name in ("c", "cough"):
            (folder / f"{name}.wav").write_bytes((speaker.audio / f"c{number}.wav").read_bytes())
        (folder / "excluded.txt").write_text("cough.wav\n", encoding="utf-8")
        main(["--audio-dir", str(folder), "--output", str(one), *flags[4:]])
        singles.append(read_conditioning(one))
        assert torch.load(one, weights_only=True)["_metadata"]["num_clips"] == 1
    average = read_conditioning(tmp_path / "average.pt")
    for name in ("gpt_conditioning", "emo_vec"):
        mean = torch.stack([one[name] for one in singles]).mean(0)
        torch.testing.assert_close(average[name], mean)
    longest = read_conditioning(tmp_path / "longest.pt")
    torch.testing.assert_close(longest["gpt_conditioning"], singles[1]["gpt_conditioning"])
    medoid = read_conditioning(tmp_path / "medoid.pt")
    assert any(torch.equal(medoid["gpt_conditioning"], s["gpt_conditioning"]) for s in singles)
    assert "--pattern-conditioning" in capsys.readouterr().out


def test_the_speaker_s_file_is_written_with_arrays_beside_it_and_not_replaced(
    speaker, checkpoint, capsys
):
    flags = flags_of(speaker, checkpoint)
    main([*flags, "--max-files", "2", "--export-npy"])
    said = capsys.readouterr().out
    assert "the average of 2, 2 clips read" in said
    assert "--pattern-conditioning" not in said
    held = torch.load(speaker.pattern_conditioning, weights_only=True)
    assert held["_metadata"]["num_samples"] == 2
    array = np.load(speaker.folder / "pattern_conditioning_gpt_conditioning.npy")
    assert np.array_equal(array, held["gpt_conditioning"].numpy())
    with pytest.raises(UserError, match="exists already"):
        main(flags)


def test_another_base_and_broken_files_are_refused(speaker, checkpoint, tmp_path):
    main(flags_of(speaker, checkpoint))
    with pytest.raises(UserError, match="another base checkpoint"):
        read_conditioning(speaker.pattern_conditioning, "other")
    held = torch.load(speaker.pattern_conditioning, weights_only=True)
    assert read_conditioning(speaker.pattern_conditioning, held["_metadata"]["base"])
    held["emo_vec"][0, 0] = float("nan")
    torch.save(held, tmp_path / "nan.pt")
    with pytest.raises(UserError, match="NaN"):
        read_conditioning(tmp_path / "nan.pt")
    torch.save({"emo_vec": torch.zeros(1, 2)}, tmp_path / "few.pt")
    with pytest.raises(UserError, match="spk_cond_emb, gpt_conditioning missing"):
        read_conditioning(tmp_path / "few.pt")
    with pytest.raises(UserError, match="no such file"):
        read_conditioning(tmp_path / "none.pt")


def test_no_recordings_are_one_line(tmp_path, checkpoint):
    with pytest.raises(UserError, match="no recordings here"):
        main(["--speaker", "nobody", "--training-root", str(tmp_path)])


@pytest.mark.parametrize("flags", [[], ["--audio-dir", "a"], ["-s", "a", "--max-files", "0"]])
def test_half_a_command_is_wrong_usage(flags):
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2
