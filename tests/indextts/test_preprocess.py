"""Clips become what inference makes of the same sound, once, and whole whatever happens."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from indextts.checkpoint import CheckpointFolder
from indextts.clip_encoder import ClipEncoder
from indextts.dataset import PairedPlan, read_clips, require_base, require_fit
from indextts.frontend.text import Segment, plan
from indextts.prepare_config import PrepareConfig
from indextts.preprocess import PrepareReport, prepare
from indextts.references import ReferenceReader
from indextts.utterances import folder_source
from indextts.weights import fingerprint, load_gpt, load_s2mel
from tests.indextts.prepared_clips import RATE, write_noise, write_table
from ttscommon.errors import UserError

CONFIG = PrepareConfig(workers=1)
KINDS = ("codes", "condition", "emo_vec", "text_ids", "w2v")


class Place:
    """Four short clips with texts, and where they are prepared."""

    def __init__(self, folder: Path, encoder: ClipEncoder):
        self.audio, self.table, self.output = folder / "audio", folder / "t.csv", folder / "out"
        self.encoder = encoder
        self.texts = {f"c{number}.wav": f"Clip number {number}." for number in range(4)}
        for number, name in enumerate(self.texts):
            write_noise(self.audio / name, number, 1.0 + 0.1 * number)

    def prepare(self, config: PrepareConfig = CONFIG) -> PrepareReport:
        write_table(self.table, self.texts)
        source = folder_source(self.audio, self.table, config)
        return prepare(source, config, self.encoder, self.output)

    def lines(self) -> list[dict]:
        names = ("train_manifest.jsonl", "val_manifest.jsonl")
        texts = [(self.output / name).read_text(encoding="utf-8") for name in names]
        found = [json.loads(line) for text in texts for line in text.splitlines()]
        return sorted(found, key=lambda line: line["id"])

    def files(self) -> dict[str, tuple[int, bytes]]:
        return {
            path.relative_to(self.output).as_posix(): (path.stat().st_ino, path.read_bytes())
            for path in self.output.rglob("*")
            if path.is_file()
        }

    @property
    def manifests(self) -> list[Path]:
        return [self.output / "train_manifest.jsonl", self.output / "val_manifest.jsonl"]


@pytest.fixture(scope="module")
def checkpoint(miniature):
    return CheckpointFolder.open(miniature)


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return ClipEncoder(checkpoint, torch.device("cpu"))


@pytest.fixture
def place(tmp_path, encoder):
    return Place(tmp_path, encoder)


def test_codes_and_conditions_are_those_that_inference_finds(place, checkpoint):
    place.prepare()
    gpt = load_gpt(checkpoint.gpt, checkpoint.config.gpt)
    reader = ReferenceReader(
        checkpoint, load_s2mel(checkpoint.s2mel, checkpoint.config.s2mel), torch.device("cpu")
    )
    for line in place.lines():
        features = reader.voice(place.audio / f"{line['id']}.wav").features.spk_cond_emb
        assert reader.models is not None
        arrays = {
            kind: np.load(place.output / "features" / f"{line['id']}_{kind}.npy") for kind in KINDS
        }
        codes, _ = reader.models.codec.quantize(features)
        assert arrays["codes"].tolist() == codes[0].tolist()
        speaker, emotion = gpt.speaker_latent(features)[0], gpt.emotion_vector(features)[0]
        assert np.array_equal(arrays["condition"], speaker.numpy())
        assert np.array_equal(arrays["emo_vec"], emotion.numpy())
        assert np.array_equal(arrays["w2v"], features[0].numpy().astype(np.float16))
        (segment,) = plan(place.encoder.tokenizer, line["text"])
        assert isinstance(segment, Segment)
        assert arrays["text_ids"].tolist() == list(segment.ids)


def test_the_files_are_those_of_the_format(place):
    report = place.prepare()
    assert (report.n_train, report.n_val, report.n_made) == (3, 1, 4)
    names = {f"features/{line['id']}_{kind}.npy" for line in place.lines() for kind in KINDS}
    notes = {f"features/{line['id']}.json" for line in place.lines()}
    others = {"dataset_info.json", "train_manifest.jsonl", "val_manifest.jsonl"}
    assert place.files().keys() == names | notes | others
    keys = ("id", "text", "audio_path", "text_ids_path", "codes_path", "condition_path")
    keys += ("emo_vec_path", "text_len", "code_len", "condition_len", "duration", "sample_type")
    for line in place.lines():
        assert tuple(line)[:12] == keys
        assert (place.output / line["audio_path"]).is_file()
        types = {kind: np.load(place.output / "features" / f"{line['id']}_{kind}.npy").dtype
                 for kind in KINDS}  # fmt: skip
        assert {str(types[kind]) for kind in ("text_ids", "codes")} == {"int32"}
        assert {str(types[kind]) for kind in ("condition", "emo_vec")} == {"float32"}
        assert str(types["w2v"]) == "float16"


def test_what_is_prepared_can_be_trained_on(place, checkpoint):
    place.prepare()
    clips = read_clips(place.manifests)
    gpt = load_gpt(checkpoint.gpt, checkpoint.config.gpt)
    require_base(place.manifests, fingerprint(gpt))
    require_fit(clips, gpt.config)
    batches = PairedPlan(clips, batch_size=4)
    batch = batches.load(batches.epoch(0)[0])
    assert gpt(batch.voiced()).mel_logits.isfinite().all()


def test_a_second_run_computes_nothing_and_touches_nothing_but_the_description(place):
    place.prepare()
    before = place.files()
    assert place.prepare().n_made == 0
    after = place.files()
    assert {name for name in after if after[name] != before[name]} <= {"dataset_info.json"}
    assert after["dataset_info.json"][1] == before["dataset_info.json"][1]


def test_only_new_and_changed_clips_are_computed(place):
    place.prepare()
    before = place.files()
    write_noise(place.audio / "c1.wav", 77, 1.2)
    write_noise(place.audio / "c4.wav", 4)
    place.texts["c4.wav"] = "A new clip."
    assert place.prepare().n_made == 2
    after = place.files()
    same = {name for name in before if after.get(name) == before[name]}
    assert {name for name in before if "c0" in name or "c2" in name or "c3" in name} <= same
    assert not any("c1_codes" in name for name in same)
    assert [line["id"] for line in place.lines()] == ["c0", "c1", "c2", "c3", "c4"]


def test_a_changed_text_keeps_what_was_made_of_the_sound(place):
    place.prepare()
    before = place.files()
    place.texts["c2.wav"] = "Corrected by hand."
    assert place.prepare().n_made == 1
    after = place.files()
    changed = {name for name in before if after[name] != before[name]}
    assert {name for name in changed if "features" in name} == {
        "features/c2.json", "features/c2_text_ids.npy"
    }  # fmt: skip
    assert place.lines()[2]["text"] == "Corrected by hand."
    require_fit(read_clips(place.manifests), place.encoder.gpt.config)


def test_clips_that_are_gone_leave_nothing_behind(place):
    place.prepare()
    (place.audio / "c3.wav").unlink()
    del place.texts["c3.wav"]
    place.prepare()
    assert not [name for name in place.files() if "c3" in name]


def test_a_missing_file_is_made_again(place):
    place.prepare()
    (place.output / "features" / "c1_emo_vec.npy").unlink()
    (place.output / "features" / "c2.json").write_text("{", encoding="utf-8")
    assert place.prepare().n_made == 2
    read_clips(place.manifests)


@pytest.mark.parametrize("n_writes", [0, 1, 4, 9, 14])
def test_a_disk_that_fills_leaves_whole_files_and_the_next_run_goes_on(
    place, monkeypatch, n_writes
):
    place.prepare()
    (place.output / "features" / "c0.json").unlink()
    for number in (1, 2):
        write_noise(place.audio / f"c{number}.wav", 50 + number)
    written, real = [], Path.write_bytes

    def write_bytes(path: Path, data) -> int:
        written.append(path)
        if len(written) > n_writes:
            real(path, bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_bytes)
        with pytest.raises(OSError, match="No space left"):
            place.prepare()
    assert not any(manifest.exists() for manifest in place.manifests)
    for name in place.files():
        if name.endswith(".npy"):
            np.load(place.output / name)
    assert not list(place.output.rglob("*.part"))
    assert 0 < place.prepare().n_made <= 3
    require_fit(read_clips(place.manifests), place.encoder.gpt.config)


def test_features_of_another_base_are_computed_again(place, checkpoint, tmp_path, miniature):
    place.prepare()
    state = torch.load(miniature / "gpt.pth", weights_only=True)
    state["model"]["emo_layer.bias"] += 1
    torch.save(state, tmp_path / "tuned.pth")
    before = {line["id"]: line["sha256"] for line in place.lines()}
    place.encoder = ClipEncoder(checkpoint, torch.device("cpu"), tmp_path / "tuned.pth")
    assert place.prepare().n_made == 4
    assert all(line["sha256"] != before[line["id"]] for line in place.lines())
    require_base(place.manifests, place.encoder.fingerprint)


@pytest.fixture
def own(tmp_path, miniature) -> CheckpointFolder:
    """A checkpoint folder that a test may change."""
    return CheckpointFolder.open(shutil.copytree(miniature, tmp_path / "own"))


def test_codes_of_another_codec_of_the_same_size_are_found_again(place, own):
    place.encoder = ClipEncoder(own, torch.device("cpu"))
    place.prepare()
    raw = bytearray(own.semantic_codec.read_bytes())
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    first, last = header["quantizer.quantizers.0.codebook.weight"]["data_offsets"]
    other = np.random.default_rng(1).standard_normal((last - first) // 4).astype(np.float32)
    raw[start + first : start + last] = other.tobytes()
    own.semantic_codec.write_bytes(raw)
    place.encoder = ClipEncoder(own, torch.device("cpu"))
    assert place.prepare().n_made == 4


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_broken_file_of_weights_is_no_clip_s_fault(place, own, name):
    place.encoder = ClipEncoder(own, torch.device("cpu"))
    whole = (own.w2v_bert / name).read_bytes()
    (own.w2v_bert / name).write_bytes(b"{}")
    with pytest.raises(UserError):
        place.prepare()
    assert not place.output.exists()
    (own.w2v_bert / name).write_bytes(whole)
    place.encoder = ClipEncoder(own, torch.device("cpu"))
    assert place.prepare().n_made == 4


def test_the_clips_of_somebody_else_are_not_replaced(place, tmp_path, encoder):
    place.prepare()
    before = place.files()
    (tmp_path / "b").mkdir()
    other = Place(tmp_path / "b", encoder)
    other.output, other.audio = place.output, other.audio.rename(tmp_path / "b" / "bob")
    with pytest.raises(UserError, match=r"are audio's, not bob's.*another --output-dir"):
        other.prepare()
    assert place.files() == before


def test_what_another_program_prepared_is_not_replaced(place):
    (place.output / "features").mkdir(parents=True)
    (place.output / "train_manifest.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="prepared by another program"):
        place.prepare()
    (place.output / "train_manifest.jsonl").unlink()
    theirs = place.output / "features" / "GLOBAL_condition.npy"
    theirs.write_bytes(b"x")
    place.prepare()
    assert theirs.exists()


def test_clips_that_cannot_be_used_are_told_and_not_tried_again(place):
    soundfile.write(place.audio / "quiet.wav", np.zeros(RATE), RATE)
    soundfile.write(
        place.audio / "nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT"
    )
    write_noise(place.audio / "greek.wav", 9)
    write_noise(place.audio / "essay.wav", 10)
    write_noise(place.audio / "some.wav", 11)
    place.texts |= {"quiet.wav": "x y z", "nan.wav": "x y z", "greek.wav": "ѯѱѡ ѯѱ",
                    "essay.wav": "many words " * 300, "some.wav": "word ѯѱѡ word"}  # fmt: skip
    for expected in (5, 0):
        report = place.prepare()
        assert report.n_made == expected
        assert sorted(report.skipped) == [
            ("essay.wav", "a text of more tokens than the model reads, 600"),
            ("greek.wav", "the tokenizer knows nothing of the text"),
            ("nan.wav", "audio holds NaN or infinite samples"),
            ("quiet.wav", "silent"),
        ]
        assert sum(report.unknown.values()) > 0
    assert [line["id"] for line in place.lines()] == ["c0", "c1", "c2", "c3", "some"]


def test_one_clip_is_refused_and_leaves_no_manifest(place):
    place.texts = {"c0.wav": "Alone."}
    with pytest.raises(UserError, match="one clip is too little"):
        place.prepare()
    assert not any(manifest.exists() for manifest in place.manifests)


def test_sound_longer_than_a_reference_is_coded_whole(place):
    write_noise(place.audio / "c0.wav", 5, 16.0)
    place.texts = {"c0.wav": "Long.", "c1.wav": "Short."}
    place.prepare(PrepareConfig(max_duration=20, workers=1))
    assert next(line for line in place.lines() if line["id"] == "c0")["code_len"] > 790


def test_a_marked_pause_is_no_text(encoder):
    assert encoder.read_text("One [pause:0.8] two.")[0].tolist() == (
        encoder.read_text("One two.")[0].tolist()
    )
