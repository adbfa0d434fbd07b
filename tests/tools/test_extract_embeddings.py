"""The tool as it is typed."""

from __future__ import annotations

import pytest
import torch

from tests.indextts.prepared_clips import write_noise
from tools.extract_embeddings import main
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from indextts.miniature import write_miniature

    folder = tmp_path_factory.mktemp("checkpoint") / "miniature"
    write_miniature(folder)
    return folder


def test_a_speaker_s_voice_is_stored_and_not_replaced_unasked(tmp_path, checkpoint, capsys):
    speaker = Speaker("ozzy", tmp_path)
    for number in range(4):
        write_noise(speaker.audio / f"c{number}.wav", number)
    flags = ["--speaker", "ozzy", "--training-root", str(tmp_path), "--model-dir", str(checkpoint)]
    main([*flags, "--max-files", "2"])
    said = capsys.readouterr().out
    assert "style of 2 clips" in said
    assert f"tools/infer.py --speaker ozzy --training-root {tmp_path}" in said
    kept = torch.load(speaker.speaker_embeddings, weights_only=True)
    assert kept["_metadata"]["source"] in ("c0.wav", "c2.wav")
    with pytest.raises(UserError, match="exists already"):
        main(flags)
    speaker.excluded.write_text("c0.wav\nc2.wav\n", encoding="utf-8")
    main([*flags, "--max-files", "2", "--overwrite"])
    kept = torch.load(speaker.speaker_embeddings, weights_only=True)
    assert kept["_metadata"]["source"] in ("c1.wav", "c3.wav")
    main([*flags, "--overwrite", "--prompt-seconds", "0.6"])
    kept = torch.load(speaker.speaker_embeddings, weights_only=True)
    assert kept["ref_mel"].shape[2] == int(0.6 * 22_050) // 256

    speaker.excluded.write_text("".join(f"c{n}\n" for n in range(4)), encoding="utf-8")
    with pytest.raises(UserError, match=r"no recordings here \(4 are named in excluded\.txt"):
        main([*flags, "--overwrite"])
    elsewhere = tmp_path / "one.pt"
    with pytest.raises(UserError, match=r"no recordings here \(4 are named in excluded\.txt"):
        main(["-a", str(speaker.audio), "-o", str(elsewhere), *flags[4:]])
    main(["-a", str(speaker.audio / "c1.wav"), "-o", str(elsewhere), *flags[4:]])
    assert torch.load(elsewhere, weights_only=True)["_metadata"]["source"] == "c1.wav"


def test_speakers_are_listed(tmp_path, capsys):
    write_noise(Speaker("ozzy", tmp_path).audio / "c.wav", 0)
    main(["--list-speakers", "--training-root", str(tmp_path)])
    assert capsys.readouterr().out == "ozzy  1 clips, no voice stored\n"
    with pytest.raises(UserError, match="no speakers yet"):
        main(["--list-speakers", "--training-root", str(tmp_path / "none")])


def test_a_speaker_without_recordings_is_refused(tmp_path):
    speaker = Speaker("ozzy", tmp_path)
    speaker.audio.mkdir(parents=True)
    with pytest.raises(UserError, match="no recordings here"):
        main(["--speaker", "ozzy", "--training-root", str(tmp_path)])


@pytest.mark.parametrize(
    "flags", [[], ["-a", "x.wav"], ["-s", "ozzy", "-m", "0"], ["-s", "ozzy", "-o", "x.wav"]]
)
def test_wrong_usage_is_told(flags):
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2
