"""Conversations as token ids and audio frames: one writer for training and for speaking.

Because both go through it, a training sample up to the place where speech begins is the prompt that
is spoken from, token by token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from higgs_trainer.checkpoint import CONFIG_FILE, DELAY, TOKENIZER_FILE, HiggsCheckpoint
from higgs_trainer.config import Streams
from higgs_trainer.conversation import Audio, Conversation, Turn
from higgs_trainer.delay import IGNORED, delayed, labels_of
from ttscommon.errors import UserError

BEGIN = "<|begin_of_text|>"
HEADER = "<|start_header_id|>{role}<|end_header_id|>\n\n"
END_OF_TURN, END_OF_PART = "<|eot_id|>", "<|eom_id|>"
SPEECH_BEGINS, SPEECH, SPEECH_ENDS = "<|audio_out_bos|>", "<|AUDIO_OUT|>", "<|audio_eos|>"
HEARD = "<|AUDIO|>"
SPOKEN_AUDIO = SPEECH_BEGINS + SPEECH + SPEECH_ENDS
HEARD_AUDIO = f"<|audio_bos|>{HEARD}{SPEECH_ENDS}"
STRUCTURE = (
    *(BEGIN, "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    *(END_OF_TURN, END_OF_PART, "<|audio_bos|>", SPEECH_BEGINS, SPEECH, SPEECH_ENDS, HEARD, DELAY),
)
FORBIDDEN = re.compile("|".join(map(re.escape, STRUCTURE)))


@dataclass(frozen=True)
class Written:
    """A conversation as the network reads it.

    Attributes:
        ids: (L,) long, with one place for each frame
        frames: (F, K) long, of all audios one after the other
        labels: (L,) long, text to be learned, IGNORED elsewhere
        audio_labels: (F, K) long, codes and ends to be learned, IGNORED elsewhere
    """

    ids: Tensor
    frames: Tensor
    labels: Tensor
    audio_labels: Tensor

    @property
    def n_targets(self) -> int:
        """Codes and ends to be learned."""
        return int((self.audio_labels != IGNORED).sum())


class PromptWriter:
    """Writes conversations for one model.

    Attributes:
        ids: of the structure's tokens, by their text

    Raises:
        UserError: if the tokenizer lacks one of them
    """

    def __init__(self, tokenizer: Tokenizer, streams: Streams):
        self.tokenizer, self.streams = tokenizer, streams
        found = {token: tokenizer.token_to_id(token) for token in STRUCTURE}
        lacking = [token for token, number in found.items() if number is None]
        if lacking:
            raise UserError(f"this tokenizer has no {', '.join(lacking)}")
        self.ids = {token: number for token, number in found.items() if number is not None}

    @classmethod
    def of(cls, checkpoint: HiggsCheckpoint) -> PromptWriter:
        """With a checkpoint's own tokenizer.

        Raises:
            UserError: if the tokenizer is missing, broken, or of another model
        """
        path = checkpoint.folder / TOKENIZER_FILE
        if not path.is_file():
            raise UserError("no tokenizer here", where=path, fix="fetch the checkpoint again")
        try:
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises nothing narrower
            raise UserError(f"not a tokenizer: {error}", where=path) from error
        writer = cls(tokenizer, checkpoint.streams)
        network = checkpoint.network
        wanted = {
            SPEECH: network["audio_token_id"],
            SPEECH_BEGINS: network["audio_bos_token_id"],
            DELAY: network["audio_delay_token_id"],
        }
        wrong = [token for token, number in wanted.items() if writer.ids[token] != number]
        if wrong or tokenizer.get_vocab_size() > network["vocab_size"]:
            what = f"the tokenizer isn't this model's: {', '.join(wrong) or 'it has more tokens'}"
            raise UserError(what, where=path, fix=f"take it from the folder of {CONFIG_FILE}")
        return writer

    def prompt(self, conversation: Conversation, codes: Sequence[Tensor] = ()) -> Written:
        """What speech is generated after.

        Args:
            codes: (K, T) of each audio of the conversation, in order
        """
        return self._written(conversation, codes, HEADER.format(role="assistant") + SPEECH_BEGINS)

    def sample(self, conversation: Conversation, codes: Sequence[Tensor]) -> Written:
        """What is learned: the conversation, and labels for what the assistant says in the end."""
        return self._written(conversation, codes, "")

    def _written(
        self, conversation: Conversation, codes: Sequence[Tensor], opening: str
    ) -> Written:
        audios = conversation.audios
        if len(audios) != len(codes):
            raise ValueError(f"{len(audios)} audios, but codes of {len(codes)}")
        for audio, one in zip(audios, codes, strict=True):
            self._require_codes(audio, one)
        text, learned = _rendered(conversation)
        encoding = self.tokenizer.encode(text + opening, add_special_tokens=False)
        return self._expanded(encoding, learned, codes)

    def _expanded(
        self, encoding: Encoding, learned: Sequence[tuple[int, int]], codes: Sequence[Tensor]
    ) -> Written:
        """With a place for every frame, and labels for what stands in the spans `learned`."""
        places = {self.ids[SPEECH], self.ids[HEARD]}
        ids, labels, frames, audio_labels = [], [], [], []
        left = iter(codes)
        for number, (start, _) in zip(encoding.ids, encoding.offsets, strict=True):
            is_learned = any(first <= start < end for first, end in learned)
            if number not in places:
                ids.append(number)
                labels.append(number if is_learned else IGNORED)
                continue
            one = next(left)
            frames.append(delayed(one, self.streams))
            wanted = labels_of(one, self.streams)
            audio_labels.append(wanted if is_learned else torch.full_like(wanted, IGNORED))
            ids += self._audio_ids(len(wanted))
            labels += [IGNORED] * len(wanted)
        empty = torch.zeros(0, self.streams.n_codebooks, dtype=torch.long)
        return Written(
            ids=torch.tensor(ids),
            frames=torch.cat([empty, *frames]),
            labels=torch.tensor(labels),
            audio_labels=torch.cat([empty, *audio_labels]),
        )

    def _audio_ids(self, n_frames: int) -> list[int]:
        """The last frames have another id in transformers' processor; both mean audio."""
        n_last = self.streams.n_codebooks - 1
        return [self.ids[SPEECH]] * (n_frames - n_last) + [self.ids[DELAY]] * n_last

    def _require_codes(self, audio: Audio, codes: Tensor) -> None:
        streams = self.streams
        if codes.ndim != 2 or len(codes) != streams.n_codebooks:
            what = f"codes of shape {list(codes.shape)}, the model has {streams.n_codebooks} rows"
        elif codes.shape[1] == 0:
            what = "no sound: 0 codes"
        elif int(codes.min()) < 0 or int(codes.max()) >= streams.n_codes:
            what = f"codes from {int(codes.min())} to {int(codes.max())}, the model's are below "
            what += str(streams.n_codes)
        else:
            return
        fix = "encode it with the codec that belongs to the model, or leave it out"
        raise UserError(what, where=audio.path, fix=fix)


def _rendered(conversation: Conversation) -> tuple[str, list[tuple[int, int]]]:
    """The text with one mark for each audio, and the spans of characters that are learned."""
    text, learned, turns = BEGIN, [], conversation.turns
    for number, turn in enumerate(turns):
        text += HEADER.format(role=turn.role)
        start = len(text)
        text += _said(turn)
        goes_on = number + 1 < len(turns) and turns[number + 1].role == turn.role == "assistant"
        text += END_OF_PART if goes_on else END_OF_TURN
        if conversation.is_learned(number):
            learned.append((start, len(text)))
    return text, learned


def _said(turn: Turn) -> str:
    found = FORBIDDEN.search(turn.text)
    if found:
        raise UserError(
            f"'{found[0]}' in a text belongs to the structure of conversations: {turn.text[:80]}",
            fix="take it out; audio has its own place in a turn",
        )
    if not turn.has_audio:
        return turn.text.strip()
    mark = SPOKEN_AUDIO if turn.role == "assistant" else HEARD_AUDIO
    return "".join(part if isinstance(part, str) else mark for part in turn.parts)
