"""Put the trained voice where the tools look for it: half precision, in one small folder.

The averaged weights of the best checkpoint are written as 16-bit numbers and read again: what was
written has to speak as what was trained. Beside them lie sentences to keep the voice fluent with
when it is fine-tuned, and WordNet's notice, which goes with whatever was made from it.

Example: python examples/embedded_voice/export.py --checkpoint training/embedded/predictor
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a clone, uninstalled
from examples.embedded_voice.texts import ROOT, is_speakable, read_texts
from lewm.embedded_voice import EMBEDDED_SPEAKER, EMBEDDED_VOICE
from ttscommon.cli import Parser, add_overwrite, run
from ttscommon.errors import UserError
from ttscommon.files import atomic_folder

MOST_BYTES = 25_000_000  # in git, for good
NOTICE = Path(__file__).with_name("WORDNET_LICENSE.txt")
TEXTS_FILE, N_TEXTS = "texts.txt", 600  # what fine-tuning replays, see lewm/replay.py
TRIED = (
    "Please write your name at the top of the page.",
    "The old lighthouse was painted white again last summer.",
    "How long does it take?",
    "Seven grey geese flew over the frozen river, and nobody saw them.",
)
MOST_DIFFERENCE = 0.05  # nats of mel-DTW between what both precisions say


def export(checkpoint: Path, output: Path, texts: Sequence[str]) -> dict[str, float]:
    """Write the folder; there is the old one or a whole new one at every moment.

    Returns:
        bytes: of the whole folder
        mel_dtw: how far what it says is from what the checkpoint says, in nats

    Raises:
        UserError: if it is too large, or sounds different
    """
    import torch

    from lewm import weights
    from ttscommon.workspace import resolve_checkpoint

    trained = weights.load(resolve_checkpoint(checkpoint))
    model, info = copy.deepcopy(trained)
    if EMBEDDED_SPEAKER not in model.config.speakers:
        what = f"nobody called {EMBEDDED_SPEAKER} speaks in it"
        raise UserError(what, where=checkpoint, fix="train it as README.md says")
    for parameter in model.parameters():  # statistics stay as they are: few, and far from zero
        parameter.data = parameter.data.to(torch.float16)
    with atomic_folder(output) as draft:
        weights.save(draft, model, info)
        (draft / TEXTS_FILE).write_text("\n".join(texts) + "\n", encoding="utf-8")
        (draft / NOTICE.name).write_text(NOTICE.read_text(encoding="utf-8"), encoding="utf-8")
        n_bytes = sum(path.stat().st_size for path in draft.iterdir())
        if n_bytes > MOST_BYTES:
            what = f"{n_bytes / 1e6:.1f} MB, at most {MOST_BYTES / 1e6:.0f} MB belong into git"
            raise UserError(what, where=output, fix="train a smaller preset")
        difference = compare(trained, weights.load(draft))
        if difference > MOST_DIFFERENCE:
            what = f"in half precision it sounds different: {difference:.3f} nats"
            raise UserError(what, where=checkpoint)
    return {"bytes": n_bytes, "mel_dtw": difference}


def compare(one: Any, other: Any) -> float:
    """Mean distance between what two checkpoints say, along the warping path, in nats."""
    import numpy as np

    from lewm.generation import Request, generate
    from ttscommon.metrics import mel_dtw

    requests = [Request(text=text, speaker=EMBEDDED_SPEAKER, reading="letters") for text in TRIED]
    mels = [
        [
            model.decode(said.latents[None])[0].detach().numpy()
            for said in generate(model, info, requests)
        ]
        for model, info in (one, other)
    ]
    return float(np.mean([mel_dtw(a, b) for a, b in zip(*mels, strict=True)]))


def chosen_texts(path: Path, n: int) -> list[str]:
    """The first sentences of the training's texts; lists and single words are left out."""
    texts = (text for _, text in read_texts(path))
    sentences = (text for text in texts if is_speakable(text) and text[-1] in ".?!")
    return [text for text, _ in zip(sentences, range(n), strict=False)]


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--checkpoint", type=Path, default=ROOT / "predictor", help="training folder or checkpoint"
    )
    data.add_argument(
        "--texts", type=Path, default=ROOT / "texts/training.csv", help="what it was trained on"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--output-dir", type=Path, default=EMBEDDED_VOICE, help="folder to make")
    add_overwrite(output)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    if args.output_dir.exists() and not args.overwrite:
        raise UserError("already there", where=args.output_dir, fix="--overwrite")
    texts = chosen_texts(args.texts, N_TEXTS)
    made = export(args.checkpoint, args.output_dir, texts)
    size, difference = made["bytes"] / 1e6, made["mel_dtw"]
    print(f"{args.output_dir}: {size:.1f} MB, {difference:.4f} nats from what was trained")
    print("Next: python examples/embedded_voice/measure.py reading --help")


if __name__ == "__main__":
    run(main)
