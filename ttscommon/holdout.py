"""Which clips are held out to measure with: whole recordings, and always the same ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from ttscommon.errors import UserError
from ttscommon.seeds import seed_for

ROUNDING = 1e-6


class Recorded(Protocol):
    """A clip that knows which recording it was cut from."""

    @property
    def recording(self) -> str: ...


R = TypeVar("R", bound=Recorded)


class Parted(NamedTuple, Generic[R]):
    """Clips to train on, clips to measure with, and what is to be known of how they were parted."""

    train: list[R]
    held_out: list[R]
    notes: list[str]


def hold_out(
    clips: Sequence[R],
    share: float,
    *,
    seed: int,
    size: Callable[[R], float],
    by: Literal["recording", "clip"] = "recording",
    other: str = "",
) -> Parted[R]:
    """Part clips so that no recording is on both sides, if there are several.

    Recordings are held out in the order of a hash of their names until they make up the share, one
    at least: so those that are added later leave the others where they are, but for the one that
    the share has then grown by. The last clips are held out where there is a single recording.

    Args:
        clips: those of a recording in the order in which they were said; both sides keep the order
        share: of the sizes, to be held out
        size: seconds, or anything that grows like them
        by: clip: the last ones, also of recordings that are trained on
        other: flags that would part them in another way, for the notes

    Raises:
        UserError: if there is but one clip
    """
    if len(clips) < 2:
        raise UserError(
            "one clip is too little: one must be held out to measure with", fix="add recordings"
        )
    recordings: dict[str, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        recordings[clip.recording].append(index)
    sizes = [size(clip) for clip in clips]
    notes = []
    if by == "clip" or len(recordings) == 1:
        if by != "clip":
            notes.append(
                "all clips are of one recording: its last ones are held out, which sound more like "
                "the others than another recording would; the validation loss flatters"
            )
        chosen = _last_clips(recordings, sizes, share)
    else:
        chosen = _whole_recordings(recordings, sizes, share, seed)
        found = sum(sizes[index] for index in chosen) / sum(sizes)
        if found > 2 * share:
            instead = f"; {other} would hold out single clips instead" if other else ""
            notes.append(
                f"{100 * found:.0f} % of the sound is held out, as the shortest recording is that "
                f"long{instead}"
            )
    return Parted(
        [clip for index, clip in enumerate(clips) if index not in chosen],
        [clip for index, clip in enumerate(clips) if index in chosen],
        notes,
    )


def _last_clips(
    recordings: Mapping[str, Sequence[int]], sizes: Sequence[float], share: float
) -> set[int]:
    order = [index for name in sorted(recordings) for index in recordings[name]]
    room, n = share * sum(sizes) + ROUNDING, 0
    while n < len(order) - 1 and (n == 0 or sizes[order[-n - 1]] <= room):
        room -= sizes[order[-n - 1]]
        n += 1
    return set(order[-n:])


def _whole_recordings(
    recordings: Mapping[str, Sequence[int]], sizes: Sequence[float], share: float, seed: int
) -> set[int]:
    whole = {name: sum(sizes[index] for index in mine) for name, mine in recordings.items()}
    names = sorted(recordings, key=lambda name: (seed_for(seed, "split", name), name))
    room, chosen = share * sum(sizes) + ROUNDING, []
    for name in names:
        if whole[name] <= room:
            chosen.append(name)
            room -= whole[name]
    chosen = chosen or [min(names, key=lambda name: (whole[name], name))]
    return {index for name in chosen for index in recordings[name]}
