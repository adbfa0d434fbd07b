"""Choose what the voices say: open-vocabulary English out of WordNet, and everyday sentences.

WordNet's examples and definitions know nearly every English word; `everyday.txt` has what people
say to one another. 100 hard sentences, each with a rare word, and 100 everyday ones are held out.

Example: python examples/embedded_voice/texts.py --wordnet /usr/share/wordnet
"""

from __future__ import annotations

import csv
import itertools
import random
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a clone, uninstalled
from ttscommon.cli import Parser, run
from ttscommon.errors import UserError
from ttscommon.files import atomic
from ttscommon.seeds import seed_for

ROOT = Path("training/embedded")
EVERYDAY = Path(__file__).with_name("everyday.txt")
PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
# Shares of the training texts; everyday sentences come on top.
SHARES = {"rare": 0.45, "definition": 0.25, "example": 0.16, "list": 0.10, "word": 0.04}
PLAIN_WRITING = 0.85  # of the texts: a capital and a full stop; the rest has neither
SENTENCES = ("rare", "definition", "example", "everyday")
TWO_SENTENCES = 0.15  # of the texts: one after the other, with a pause in the middle of a clip
MAX_WORDS, MAX_LETTERS = 14, 85
EVERYDAY_EVERY = 50  # texts between two everyday sentences, as long as there are some
ENOUGH = 2  # a word that was chosen this often is no reason to take a sentence
RARE = 1  # a hard sentence has a word that WordNet's sentences use no more often

_SPEAKABLE = re.compile(r"[A-Za-z]+(?:[ ,'-]+[A-Za-z']+)*[.?!]?")
_BRACKETS = re.compile(r"\([^()]*\)")
_WORD = re.compile(r"[a-z']+")


@dataclass(frozen=True)
class Sources:
    """What there is to choose from, each without duplicates, in the order of the files."""

    examples: tuple[str, ...]
    definitions: tuple[str, ...]
    lemmas: tuple[str, ...]


@dataclass(frozen=True)
class Text:
    """One utterance; `kind` says where it comes from."""

    text: str
    kind: str


@dataclass(frozen=True)
class Choice:
    """No sentence is in two of these."""

    training: tuple[Text, ...]
    hard: tuple[Text, ...]
    plain: tuple[Text, ...]


def read_wordnet(folder: Path) -> Sources:
    """The sentences and words of WordNet's data files.

    Raises:
        UserError: if they aren't there
    """
    examples: dict[str, str] = {}
    definitions: dict[str, str] = {}
    lemmas: dict[str, None] = {}
    for part in PARTS_OF_SPEECH:
        path = folder / f"data.{part}"
        if not path.is_file():
            raise UserError("no such file", where=path, fix="apt-get install wordnet-base")
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):  # the licence
                continue
            fields, _, gloss = line.partition("|")
            lemmas.update(dict.fromkeys(_lemmas(fields)))
            quoted = gloss.split('"')
            for text in filter(is_speakable, (_tidy(piece) for piece in quoted[1::2])):
                examples.setdefault(key(text), text)
            text = _tidy(_BRACKETS.sub("", quoted[0]))
            if is_speakable(text):
                definitions.setdefault(key(text), text)
    return Sources(tuple(examples.values()), tuple(definitions.values()), tuple(lemmas))


def is_speakable(text: str) -> bool:
    """3 to 14 words of plain letters, none of them spelled (UN, USA)."""
    words = text.split()
    return (
        3 <= len(words) <= MAX_WORDS
        and len(text) <= MAX_LETTERS
        and _SPEAKABLE.fullmatch(text) is not None
        and not any(len(word) > 1 and word.isupper() for word in words)
    )


def key(text: str) -> str:
    """The letters alone: texts with the same key are the same text."""
    return "".join(_WORD.findall(text.lower()))


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def choose(
    sources: Sources, everyday: Sequence[str], n_training: int, n_held_out: int, seed: int = 0
) -> Choice:
    """Draw held-out and training texts; a longer choice of the same seed begins with a shorter one.

    Raises:
        UserError: if the sources have too few sentences
    """
    held_out = _draw_hard(sources, n_held_out, seed)
    shuffled = _shuffled(dict.fromkeys(everyday), seed, "everyday")
    plain, spoken = shuffled[:n_held_out], shuffled[n_held_out:]
    if len(held_out) < n_held_out or len(plain) < n_held_out:
        raise UserError(f"too few sentences to hold out {n_held_out} of each kind")
    taken = {key(text) for text in (*held_out, *plain)}
    training = _training(sources, spoken, taken, n_training, seed)
    if len(training) < n_training:
        raise UserError(f"{len(training)} texts to train on, not {n_training}", fix="--training")
    return Choice(
        training=tuple(training),
        hard=tuple(Text(written(text), "hard") for text in held_out),
        plain=tuple(Text(text, "plain") for text in plain),
    )


def written(text: str) -> str:
    """With a capital and an end."""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else ".")


def _draw_hard(sources: Sources, n: int, seed: int) -> list[str]:
    """Examples of 5 to 12 words with a word that is hardly used anywhere."""
    counts = Counter(
        word for text in (*sources.examples, *sources.definitions) for word in set(words(text))
    )
    rare = (
        text
        for text in _shuffled(sources.examples, seed, "hard")
        if 5 <= len(text.split()) <= 12 and min(counts[word] for word in words(text)) <= RARE
    )
    return [text for text, _ in zip(rare, range(n), strict=False)]


def _training(
    sources: Sources, everyday: Sequence[str], taken: set[str], n: int, seed: int
) -> list[Text]:
    texts = _singly(_queues(sources, taken, seed), everyday, seed)
    dice = random.Random(seed_for(seed, "two"))
    chosen: list[Text] = []
    for text in texts:
        second = None
        if text.kind in SENTENCES and dice.random() < TWO_SENTENCES:
            second = next((other for other in texts if other.kind in SENTENCES), None)
        both = (
            text if second is None else Text(f"{written(text.text)} {written(second.text)}", "two")
        )
        chosen.append(both)
        if len(chosen) == n:
            break
    return chosen


def _singly(
    queues: dict[str, Iterator[str | None]], everyday: Sequence[str], seed: int
) -> Iterator[Text]:
    """Everyday sentences every now and then, and between them the kinds by their shares."""
    dice = random.Random(seed_for(seed, "kinds"))
    asked = iter(everyday)
    for number in itertools.count():
        text = next(asked, None) if number % EVERYDAY_EVERY == 0 else None
        if text is not None:
            yield Text(text, "everyday")
            continue
        kind = dice.choices(list(SHARES), list(SHARES.values()))[0]
        for name in dict.fromkeys((kind, "example", "definition", "rare")):
            text = next(queues[name], None)
            if text is not None:
                is_plain = dice.random() < PLAIN_WRITING
                yield Text(written(text) if is_plain else text, name)
                break
        else:
            return


def _queues(sources: Sources, taken: set[str], seed: int) -> dict[str, Iterator[str | None]]:
    """Texts by kind. First sentences with new words are drawn, all others wait in "example"."""
    used = set(taken)
    counts: Counter[str] = Counter()
    left: list[str] = []

    def fresh(texts: Iterable[str], *, must_add: bool) -> Iterator[str]:
        for text in texts:
            if key(text) in used:
                continue
            own = set(words(text))
            if must_add and not any(counts[word] < ENOUGH for word in own):
                left.append(text)
                continue
            used.add(key(text))
            counts.update(own)
            yield text

    def waiting() -> Iterator[str | None]:
        while True:
            yield next(fresh([left.pop()], must_add=False), None) if left else None

    lemmas = [lemma for lemma in sources.lemmas if key(lemma) not in taken]
    names = _shuffled(lemmas, seed, "lemmas")
    half = len(names) // 4
    return {
        "rare": fresh(_shuffled(sources.examples, seed, "examples"), must_add=True),
        "definition": fresh(_shuffled(sources.definitions, seed, "definitions"), must_add=True),
        "example": waiting(),
        "word": iter(names[:half]),
        "list": _lists([name for name in names[half:] if " " not in name], seed),
    }


def _lists(names: Sequence[str], seed: int) -> Iterator[str]:
    dice = random.Random(seed_for(seed, "lists"))
    rest = iter(names)
    while True:
        group = [name for name, _ in zip(rest, range(dice.randint(2, 5)), strict=False)]
        if len(group) < 2:
            return
        yield ", ".join(group)


def _lemmas(fields: str) -> Iterator[str]:
    """The words of one line of a data file, in small letters."""
    columns = fields.split()
    n_words = int(columns[3], 16)
    for name in columns[4 : 4 + 2 * n_words : 2]:
        lemma = name.replace("_", " ")
        if re.fullmatch(r"[a-z]{3,}(?: [a-z]{3,})?", lemma):
            yield lemma


def _tidy(text: str) -> str:
    return " ".join(text.replace(";", ",").replace(" ,", ",").split()).strip(" ,-")


def _shuffled(texts: Iterable[str], seed: int, name: str) -> list[str]:
    shuffled = list(texts)
    random.Random(seed_for(seed, name)).shuffle(shuffled)
    return shuffled


def read_everyday(path: Path = EVERYDAY) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def write_texts(path: Path, texts: Sequence[Text]) -> None:
    """`id,kind,text`, in the order in which they are spoken."""
    with atomic(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "kind", "text"))
        writer.writerows((f"{i:05d}", text.kind, text.text) for i, text in enumerate(texts))


def read_texts(path: Path) -> list[tuple[str, str]]:
    """(id, text) of every line.

    Raises:
        UserError: if the file isn't there
    """
    if not path.is_file():
        raise UserError("no texts", where=path, fix="python examples/embedded_voice/texts.py")
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["id"], row["text"]) for row in csv.DictReader(file)]


def build_parser() -> Parser:
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="WordNet's data files"
    )
    data.add_argument("--training", type=int, default=24000, help="texts to train on")
    data.add_argument("--held-out", type=int, default=100, help="hard and as many plain sentences")
    data.add_argument("--seed", type=int, default=0, help="which texts are drawn")
    output = parser.add_argument_group("output")
    output.add_argument("--output", type=Path, default=ROOT / "texts", help="folder to fill")
    output.add_argument("--overwrite", action="store_true", help="replace other texts there")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse(argv)
    choice = choose(
        read_wordnet(args.wordnet), read_everyday(), args.training, args.held_out, args.seed
    )
    training = args.output / "training.csv"
    if training.is_file() and not args.overwrite:
        old = [text for _, text in read_texts(training)]
        if old != [text.text for text in choice.training]:
            raise UserError("other texts are there", where=training, fix="--overwrite")
    for name in ("training", "hard", "plain"):
        write_texts(args.output / f"{name}.csv", getattr(choice, name))
    kinds = Counter(text.kind for text in choice.training)
    n_words = len({word for text in choice.training for word in words(text.text)})
    print(f"{len(choice.training)} texts, {n_words} different words: {args.output}")
    print("  " + "  ".join(f"{kind} {n}" for kind, n in kinds.most_common()))
    print("Next: python examples/embedded_voice/corpus.py --help")


if __name__ == "__main__":
    run(main)
