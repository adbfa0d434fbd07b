"""Recordings of the experiment on speech rest and hesitate where they are said to."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from whisper.model import AudioEncoder

from examples.pattern_experiment import (
    speech_bank,
    speech_corpus,
    speech_measure,
    speech_mel,
    speech_texts,
)
from examples.pattern_experiment.speech_base import (
    fluent_errors,
    gpt_config,
    train_base,
    untrained,
)
from examples.pattern_experiment.speech_codes import Quantiser, load_encoder
from examples.pattern_experiment.speech_corpus import TARGET_VOICES, Clip, Speaker, known_of
from examples.pattern_experiment.speech_patterns import Stack, learn, say_all
from examples.pattern_experiment.speech_stages import Experiment
from examples.pattern_experiment.speech_texts import FILLERS, PHRASES, Habit
from indextts.gpt.model import UnifiedVoice
from indextts.weights import save_gpt
from ttscommon.audio import save
from ttscommon.errors import UserError
from ttscommon.segment import Span
from ttscommon.transcribe import Word

RATE = speech_bank.RATE


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def takes() -> dict[str, list[np.ndarray]]:
    """A hum for each phrase; nothing of it is silent."""
    hum = 0.1 * np.sign(np.cos(np.arange(4800) / 20)).astype(np.float32)
    return {phrase: [hum] * len(speech_bank.PACES) for phrase in (*PHRASES, *FILLERS)}


def test_no_text_of_the_test_is_drawn_for_training(chance):
    held_out = speech_texts.held_out_texts(100, chance)
    drawn = speech_texts.draw_texts(5000, chance, held_out)
    assert len(set(held_out)) == 100
    assert not set(held_out) & set(drawn)
    assert {word for text in held_out for word in speech_texts.text_ids(text)} <= {
        word for text in drawn for word in speech_texts.text_ids(text)
    }


def test_somebody_rests_before_the_words_of_their_habit(chance):
    habit = Habit(pauses=(0.8, 0.1), seconds=0.5, fillers=0.25)
    texts = speech_texts.draw_texts(2000, chance, ())
    pieces = [speech_texts.say(text, habit, chance) for text in texts]
    for share, is_function in zip(habit.pauses, (True, False), strict=True):
        later = [piece for one in pieces for piece in one[1:]]
        own = [p for p in later if speech_texts.is_function(p.phrase) == is_function]
        assert np.mean([p.rest > 0 for p in own]) == pytest.approx(share, abs=0.04)
    rests = [p.rest for one in pieces for p in one if p.rest]
    assert np.median(rests) == pytest.approx(0.5, abs=0.03)
    assert np.mean([bool(p.filler) for one in pieces for p in one]) == pytest.approx(0.25, abs=0.03)


def test_the_pauses_of_a_recording_are_silent_and_all_its_silences_are_known(chance, takes):
    pieces = speech_texts.say(("the old farmer", "opened", "winter gloves"), HESITANT, chance)
    own = speech_bank.recorded(pieces, takes, chance)
    is_quiet = np.abs(own.audio) < 0.01
    for pause in own.pauses:
        assert is_quiet[round(pause.start * RATE) : round(pause.end * RATE)].all()
    for filler in own.fillers:
        assert not is_quiet[round(filler.start * RATE) : round(filler.end * RATE)].any()
    assert len(own.pauses) == 2
    assert len(own.fillers) == 3


def test_frames_of_a_clip_are_named_after_its_sound(chance, takes):
    text = ("the old farmer", "opened", "winter gloves")
    own = speech_bank.recorded(speech_texts.say(text, HESITANT, chance), takes, chance)
    clip = Clip("a", Speaker("somebody", 0, HESITANT, 1), text, own)
    known = known_of(clip, len(own.audio) // 320)
    assert [last - first for first, last in known.pauses] == pytest.approx(
        [50 * pause.duration for pause in own.pauses], abs=1
    )
    loud = np.abs(own.audio[: known.frames * 320]).reshape(-1, 320).max(1) > 0.01
    assert loud[known.kinds == 0].mean() > 0.8  # joins within speech are quiet too
    assert not loud[known.kinds == 1].any()
    assert known.n_words == 6


def test_codes_tell_what_is_said_and_not_by_which_voice():
    sounds = 5 * torch.randn(40, 80, generator=torch.Generator().manual_seed(0))
    said = torch.arange(400) % 40
    voices = [0.0, 30.0]
    features = [sounds[said] + shift for shift in voices]
    quantiser = Quantiser.learned(features, [0, 1], seed=0)
    codes = [quantiser.codes(own, voice) for voice, own in enumerate(features)]
    means = [quantiser.centroids[torch.from_numpy(own).long()] for own in codes]
    assert (means[0] - means[1]).norm(dim=1).max() < 0.01  # there are more codes than sounds
    assert torch.cdist(means[0], means[0])[said[:, None] != said].min() > 1
    apart = quantiser.heard(features[0]).mean(0) - quantiser.heard(features[1]).mean(0)
    assert np.abs(apart).max() > 1


def test_a_quantiser_comes_back_as_it_was_saved(tmp_path):
    features = torch.randn(500, 80, generator=torch.Generator().manual_seed(0))
    kept = Quantiser.learned([features], [0], seed=0)
    kept.save(tmp_path / "q.safetensors")
    again = Quantiser.load(tmp_path / "q.safetensors")
    np.testing.assert_array_equal(again.codes(features, 0), kept.codes(features, 0))


def test_the_encoder_is_read_from_the_file_of_the_recogniser(tmp_path):
    network = AudioEncoder(80, 1500, 128, 2, 4).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.05)
    write_ctranslate2(tmp_path / "model.bin", network)
    sound = np.random.default_rng(0).normal(0, 0.1, 30 * RATE).astype(np.float32)
    found = load_encoder(tmp_path)(sound)
    from whisper.audio import log_mel_spectrogram

    with torch.no_grad():
        network.ln_post = torch.nn.Identity()  # type: ignore[assignment]
        wanted = network(log_mel_spectrogram(sound, 80)[None])[0]
    torch.testing.assert_close(found, wanted, atol=0.05, rtol=0.05)


def test_another_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="no Whisper model"):
        load_encoder(tmp_path / "nowhere")
    (tmp_path / "model.bin").write_bytes(b"\x06\x00\x00\x00\x05\x00None\x00" + bytes(40))
    with pytest.raises(UserError, match="not a Whisper model"):
        load_encoder(tmp_path)


@pytest.fixture
def said() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Codes, and mels that are louder for a lower one."""
    chance = np.random.default_rng(0)
    codes = [chance.integers(0, 4, 80) for _ in range(8)]
    return codes, [np.repeat(-2.0 * own[:, None], 2, 0).repeat(80, 1) for own in codes]


def test_a_network_to_sound_speaks_as_before_when_it_is_read_again(tmp_path, said):
    codes, mels = said
    path = tmp_path / "mel.pt"
    network = speech_mel.train_mel(path, codes, [0] * 8, mels, steps=2, n_codes=4, seed=0)
    sound = speech_mel.spoken(network, codes[0], 0)
    np.testing.assert_array_equal(speech_mel.spoken(speech_mel.load_mel(path), codes[0], 0), sound)
    assert len(sound) == (2 * 80 - 1) * speech_mel.HOP


@pytest.mark.slow
def test_the_network_to_sound_learns_a_code(tmp_path, said):
    codes, mels = said
    options = {"steps": 60, "n_codes": 4, "seed": 0}
    network = speech_mel.train_mel(tmp_path / "mel.pt", codes, [0] * 8, mels, **options)
    made = network(torch.from_numpy(codes[0])[None], torch.tensor([0]))[0].detach().numpy()
    assert np.abs(made - mels[0].T).mean() < 0.8


def test_fillers_are_no_errors_and_missing_words_are():
    assert fluent_errors(["the old farmer"], ["The, um, old farmer."]) == 0
    assert fluent_errors(["the old farmer"], ["The farmer."]) == pytest.approx(1 / 3)


def test_every_voice_has_speakers_and_each_target_a_voice():
    studio = speech_corpus.Studio(Path("nowhere"), seed=0)
    assert {s.voice for s in studio.speakers()} == set(range(len(speech_bank.VOICES)))
    assert len({s.name for s in [*studio.speakers(), *studio.prompters()]}) == 70
    assert {studio.target(name).name for name in speech_texts.targets()} == {"slow", "um"}


HESITANT = Habit(pauses=(1.0, 1.0), seconds=0.4, fillers=1.0)


def write_ctranslate2(path: Path, network: AudioEncoder) -> None:
    """The encoder as CTranslate2 keeps it."""
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    found: dict[str, np.ndarray] = {"position_encodings/encodings": state["positional_embedding"]}

    def put(theirs: str, ours: str, *names: str) -> None:
        for name, own in zip(names, ("weight", "bias"), strict=True):
            found[f"{theirs}/{name}"] = state[f"{ours}.{own}"]

    plain, norm = ("weight", "bias"), ("gamma", "beta")
    for conv in ("conv1", "conv2"):
        put(conv, conv, *plain)
    put("layer_norm", "ln_post", *norm)
    for i in range(4):
        ours, theirs = f"blocks.{i}", f"layer_{i}"
        put(f"{theirs}/self_attention/layer_norm", f"{ours}.attn_ln", *norm)
        put(f"{theirs}/self_attention/linear_1", f"{ours}.attn.out", *plain)
        put(f"{theirs}/ffn/layer_norm", f"{ours}.mlp_ln", *norm)
        put(f"{theirs}/ffn/linear_0", f"{ours}.mlp.0", *plain)
        put(f"{theirs}/ffn/linear_1", f"{ours}.mlp.2", *plain)
        names = [f"{ours}.attn.{name}" for name in ("query", "key", "value")]
        found[f"{theirs}/self_attention/linear_0/weight"] = np.concatenate(
            [state[f"{name}.weight"] for name in names]
        )
        found[f"{theirs}/self_attention/linear_0/bias"] = np.concatenate(
            [state.get(f"{name}.bias", np.zeros(128, np.float32)) for name in names]
        )

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\x00"

    parts = [struct.pack("<I", 6), text("WhisperSpec"), struct.pack("<II", 3, len(found))]
    for name, value in found.items():
        data = value.astype(np.float16)
        parts += [text(f"encoder/{name}"), struct.pack("<B", data.ndim)]
        parts += [struct.pack(f"<{data.ndim}I", *data.shape), struct.pack("<B", 4)]
        parts += [struct.pack("<I", data.nbytes), data.tobytes()]
    path.write_bytes(b"".join(parts))


class Reader:
    """A recogniser that says a word for each loud second, with its time; told of others, "um"."""

    def words(self, audio, sample_rate, language, prompt=""):
        seconds = audio[: len(audio) // RATE * RATE].reshape(-1, RATE)
        loud = np.flatnonzero(np.abs(seconds).max(1) > 0.05)
        word = "um" if prompt else "w"
        return [Word(f"{word}{second}", float(second), second + 0.9) for second in loud]

    def text(self, audio, sample_rate, language):
        raise AssertionError

    def spoken_language(self, audio, sample_rate):
        return "en"


def test_words_heard_together_go_to_the_sentence_they_are_of(tmp_path, chance, monkeypatch):
    monkeypatch.setattr(speech_measure, "speech_spans", lambda sound, rate: [Span(0.0, 1.0)])
    paths = []
    for number, seconds in enumerate((2.5, 1.5, 2.5)):
        paths.append(tmp_path / f"{number}.wav")
        save(paths[-1], chance.normal(0, 0.1, round(seconds * RATE)).astype(np.float32), RATE)
    found = speech_measure.hear(paths, Reader(), tmp_path / "heard")
    assert [len(found[path].words) for path in paths] == [3, 2, 3]
    assert [found[path].seconds for path in paths] == [2.5, 1.5, 2.5]
    assert found[paths[1]].words[0][1] == 0
    assert found[paths[1]].heard.count("um") == 0
    assert found[paths[1]].verbatim.count("um") == 2
    again = speech_measure.hear(paths, None, tmp_path / "heard")  # type: ignore[arg-type]
    assert again == found


class Ear:
    """Stands for an encoder: what it hears is how loud the parts of a frame are."""

    def __call__(self, audio):
        frames = torch.from_numpy(audio[: len(audio) // 320 * 320].reshape(-1, 320))
        chance = torch.Generator().manual_seed(0)
        return frames.abs() @ torch.randn(320, 80, generator=chance)


@pytest.fixture
def stack(tmp_path) -> Stack:
    """Everything but training: speakers with a few recordings, a model that soon falls silent."""

    def speak_all(voice, texts, seed):
        chance = np.random.default_rng(seed)
        waves = [np.cos(np.arange(6000) * chance.random()) for _ in texts]
        return [(0.1 * np.sign(wave)).astype(np.float32) for wave in waves]

    for name in speech_bank.VOICES:
        speech_bank.record_voice(tmp_path / "bank" / f"{name}.npz", name, speak_all, 0)
    studio = speech_corpus.Studio(tmp_path / "bank", seed=0, n_texts=4)
    voices = [speech_bank.VOICES.index(name) for name in TARGET_VOICES.values()]
    own = [speaker for speaker in studio.speakers() if speaker.voice in voices]
    clips = {one.name: list(studio.clips(one, 4)) for one in own}
    clips |= {one.name: list(studio.clips(one)) for one in studio.prompters()}
    some = [clip for own in clips.values() for clip in own[:2]]
    heard = [Ear()(clip.recording.audio) for clip in some]
    quantiser = Quantiser.learned(heard, [clip.speaker.voice for clip in some], 0)
    for name, own in clips.items():
        speech_corpus.encode(own, tmp_path / "corpus" / name, Ear(), quantiser)
    gpt = UnifiedVoice(gpt_config())
    torch.nn.init.constant_(gpt.mel_head.bias[gpt.config.stop_mel_token], 4.0)
    save_gpt(tmp_path / "base.pth", gpt)
    mel = speech_mel.MelNetwork(len(quantiser.centroids), len(speech_bank.VOICES)).eval()
    folders = tmp_path / "corpus", tmp_path / "patterns"
    return Stack(studio, Ear(), quantiser, mel, *folders, tmp_path / "base.pth")


@pytest.mark.slow
def test_all_conditions_say_the_texts_of_the_test(stack, tmp_path):
    learned = {t: learn(stack, t, steps=2, seed=0) for t in speech_texts.targets()}
    spoken = say_all(stack, tmp_path / "spoken", "slow", learned, seed=0)
    sounds = {
        name: [path.read_bytes() for path in sorted(folder.glob("*.wav"))]
        for name, folder in spoken.items()
    }
    assert {len(own) for own in sounds.values()} == {4}
    assert sounds["P0"] == sounds["B0"]
    assert sounds["LP0"] != sounds["B0"] != sounds["L"]
    assert sounds["own prompt"] != sounds["B0"]
    assert len({tuple(own) for own in sounds.values()}) > 3
    outcome = speech_measure.compare("slow", spoken, Reader(), tmp_path / "heard")
    assert outcome.errors["B0"] > 0.5
    assert {c.status for one in outcome.results.values() for c in one.claims} == {"not testable"}
    told = "\n".join(speech_measure.lines(outcome))
    assert all(name in told for name in spoken)


@pytest.mark.slow
def test_a_base_learns_from_the_manifests_of_a_corpus(stack, tmp_path):
    start = tmp_path / "base" / "untrained.pth"
    mark = untrained(start, 0)
    folders = sorted(path for path in stack.corpus.iterdir() if "speaker" in path.name)[:2]
    held_out = dict.fromkeys(folders, 1)
    manifests = speech_corpus.write_manifests(stack.corpus, folders, held_out, mark)
    assert [len(path.read_text().splitlines()) for path in manifests] == [6, 2]
    best = train_base(manifests, start, tmp_path / "base", steps=2, batch_size=2)
    assert best.is_file()


@pytest.mark.parametrize("is_old", [False, True])
def test_a_folder_has_one_seed_and_patterns_may_have_others(tmp_path, is_old):
    """Folders from before the seed was written down are of seed 0."""

    def experiment(seed: int, pattern_seed: int = 0) -> Experiment:
        return Experiment(tmp_path, tmp_path, tmp_path, 1, 1, 1, seed, pattern_seed)

    own = 0 if is_old else 3
    if is_old:
        (tmp_path / "bank").mkdir()
    else:
        experiment(own).require_seed()
    with pytest.raises(UserError, match=f"made with seed {own}.*--seed {own} --pattern-seed 7"):
        experiment(7).require_seed()
    experiment(own, pattern_seed=7).require_seed()
