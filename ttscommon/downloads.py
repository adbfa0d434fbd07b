"""Fetching published files: a plan of what is needed, transfers that go on where they stopped.

Nothing is half-written: a file grows under a hidden name beside its place and takes it once its
checksum is right. huggingface_hub (2.4) moves the bytes, but throws a part away when it's stopped,
so the parts are kept here.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ttscommon.catalogue import Family, Licence, Source
from ttscommon.download_notes import digest_of, read_notes, write_note
from ttscommon.errors import UserError
from ttscommon.files import require_free_disk

AGAIN = "run the same command again; it goes on where it stopped"


@dataclass(frozen=True)
class Remote:
    """A published file. `digest` is "sha256:..." or git's "sha1:..."; None if it isn't told."""

    url: str
    size: int | None
    digest: str | None


@dataclass(frozen=True)
class Listing:
    """What a repository holds at one commit."""

    commit: str
    licence: str | None
    files: dict[str, Remote]


@dataclass(frozen=True)
class Wanted:
    """One file of a plan.

    Attributes:
        name: path under the system's folder; still a pattern where neither hub nor disk knows more
        origin: repository or address it comes from
        path: its place there
        commit: of the repository; None if unknown
        remote: None while the hub can't be asked
    """

    name: str
    target: Path
    origin: str
    path: str
    licence: Licence
    commit: str | None = None
    hub_licence: str | None = None
    remote: Remote | None = None

    @property
    def is_here(self) -> bool:
        """Something stands at its place."""
        return self.target.exists()

    @property
    def is_other(self) -> bool:
        """What stands there hasn't the published size."""
        size = self.remote.size if self.remote else None
        return self.is_here and size is not None and self.target.stat().st_size != size


@dataclass(frozen=True)
class Plan:
    """What one system needs. `trouble` says why the hub couldn't be asked, if it couldn't."""

    family: Family
    folder: Path
    files: list[Wanted]
    trouble: str | None = None

    @property
    def missing(self) -> list[Wanted]:
        return [file for file in self.files if not file.is_here]


class Hub:
    """The model hub, or a mirror of it at `endpoint`.

    Raises:
        UserError: if `endpoint` is no address
    """

    def __init__(self, endpoint: str | None = None):
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            raise UserError(f"'{endpoint}' is no address", fix="--endpoint https://HOST")
        self.endpoint = endpoint.rstrip("/") if endpoint else None

    def listing(self, repo: str, revision: str | None = None) -> Listing:
        """Names, sizes and checksums of what a repository holds.

        Raises:
            ConnectionError: if the hub can't be reached
            UserError: for a repository or revision that isn't there, or isn't open to everyone
        """
        from huggingface_hub import HfApi, hf_hub_url
        from huggingface_hub import errors as hub_errors

        try:
            found = HfApi(self.endpoint).model_info(repo, revision=revision, files_metadata=True)
        except hub_errors.GatedRepoError as error:
            fix = "accept its terms on the hub's page, then: hf auth login"
            raise UserError("this repository asks for consent", where=repo, fix=fix) from error
        except hub_errors.RevisionNotFoundError as error:
            raise UserError(f"no revision '{revision}'", where=repo, fix="leave it out") from error
        except hub_errors.RepositoryNotFoundError as error:
            raise UserError("the hub has no such repository", where=repo) from error
        except hub_errors.OfflineModeIsEnabled as error:
            raise ConnectionError("HF_HUB_OFFLINE is set") from error
        except _network_errors() as error:
            raise ConnectionError(_first_line(error)) from error
        commit = str(found.sha or revision or "main")
        return Listing(
            commit,
            found.card_data.get("license") if found.card_data else None,
            {
                sibling.rfilename: Remote(
                    hf_hub_url(repo, sibling.rfilename, revision=commit, endpoint=self.endpoint),
                    sibling.size,
                    _digest_of_sibling(sibling),
                )
                for sibling in found.siblings or []
            },
        )


def make_plan(
    family: Family,
    folder: Path,
    hub: Hub,
    *,
    revision: str | None = None,
    skip: Sequence[str] = (),
) -> Plan:
    """What `family` needs in `folder`, from its first source at `revision`.

    A hub that can't be reached leaves the sizes open; it isn't asked twice.

    Raises:
        UserError: for a missing repository or revision, or a repository that lacks a file
    """
    files: list[Wanted] = []
    trouble: str | None = None
    for index, source in enumerate(family.sources):
        listing = None
        if trouble is None:
            try:
                listing = hub.listing(source.repo, revision if index == 0 else None)
            except ConnectionError as error:
                trouble = str(error)
        files += _wanted(source, folder, listing)
    kept = [file for file in files if not any(fnmatch(file.name, pattern) for pattern in skip)]
    return Plan(family, folder, kept, trouble)


def whisper_plan(family: Family, folder: Path, model: str) -> Plan:
    """The one file of a Whisper model, from openai-whisper's own table of addresses and checksums.

    Raises:
        UserError: for a model that openai-whisper doesn't know
    """
    import whisper
    from huggingface_hub import get_session

    url = whisper._MODELS.get(model)
    if url is None:
        names = ", ".join(whisper.available_models())
        raise UserError(f"no Whisper model '{model}'", fix=f"choose one of {names}")
    remote, trouble = Remote(url, None, f"sha256:{url.split('/')[-2]}"), None
    try:
        answer = get_session().head(url, follow_redirects=True)
        answer.raise_for_status()
        remote = replace(remote, size=int(answer.headers["Content-Length"]))
    except (*_network_errors(), KeyError, ValueError) as error:
        trouble = _first_line(error)
    name = f"{model}.pt"
    there = url.rpartition("/")[2]
    file = Wanted(name, folder / name, url, there, Licence("MIT"), remote=remote)
    return Plan(family, folder, [file], trouble)


def fetch(plan: Plan, *, overwrite: bool = False) -> Iterator[Wanted]:
    """Bring what is missing into its place, one file after another; yields each that is done.

    Raises:
        UserError: if the hub can't be reached, the disk is too small, a file that stands there has
            another size and `overwrite` isn't given, or what arrives is damaged
    """
    others = [file for file in plan.files if file.is_other or (overwrite and not _is_right(file))]
    if others and not overwrite:
        names = ", ".join(file.name for file in others)
        fix = "add --overwrite to replace them, or --verify to look closer"
        raise UserError(f"not the published files: {names}", where=plan.folder, fix=fix)
    due = [*plan.missing, *others]
    if plan.trouble and due:
        raise UserError(
            f"the model hub can't be reached ({plan.trouble})", fix=f"place by hand: {by_hand(due)}"
        )
    sizes = [file.remote.size or 0 for file in due if file.remote]
    begun = sum(_draft(file).stat().st_size for file in due if _draft(file).is_file())
    require_free_disk(plan.folder, sum(sizes) - begun)
    for file in due:
        _fetch(file)
        _remember(plan.folder, file)
        yield file


def by_hand(files: Iterable[Wanted]) -> str:
    """Which files of which repositories belong into which folders, in one line."""
    places: dict[tuple[str, Path], list[str]] = {}
    for file in files:
        places.setdefault((file.origin, file.target.parent), []).append(file.path)
    return "; ".join(
        f"{', '.join(names)} of {origin} into {folder}/"
        for (origin, folder), names in places.items()
    )


def check(plan: Plan, *, reads: bool = True) -> Iterator[tuple[Wanted, bool, str]]:
    """Each file of a plan, whether it is as published, and in words what was compared.

    Where the hub can't be asked, the checksums noted at the download stand in.

    Args:
        reads: compare checksums, which takes as long as reading the files; else sizes alone
    """
    noted = read_notes(plan.folder)
    for file in plan.files:
        if not file.is_here:
            yield file, False, "missing"
            continue
        told = file.remote or Remote("", None, None)
        entry = noted.get(file.name, {})
        size, digest = told.size or entry.get("size"), told.digest or entry.get("digest")
        if size is not None and file.target.stat().st_size != size:
            yield file, False, f"{file.target.stat().st_size:,} bytes instead of {size:,}"
        elif digest is None:
            yield file, True, "there; no checksum to compare it with"
        elif not reads:
            yield file, True, "there; of the published size"
        elif digest_of(file.target, digest.partition(":")[0]) != digest:
            yield file, False, "the checksum differs from the published one"
        else:
            yield file, True, "as published (size and checksum)"


def _is_right(file: Wanted) -> bool:
    """Absent, or as published as far as that is known."""
    if not file.is_here or file.remote is None or file.remote.digest is None:
        return True
    return digest_of(file.target, file.remote.digest.partition(":")[0]) == file.remote.digest


def _wanted(source: Source, folder: Path, listing: Listing | None) -> Iterator[Wanted]:
    place = folder / source.folder
    known = Wanted("", place, source.repo, "", source.licence)
    if listing is None:
        for pattern in source.files:
            here = [path for path in sorted(place.glob(pattern)) if path.name[0] != "."]
            for path in here or [place / pattern]:
                name, there = str(path.relative_to(folder)), str(path.relative_to(place))
                yield replace(known, name=name, target=path, path=there)
        return
    matches = {
        pattern: [name for name in listing.files if _matches(name, pattern)]
        for pattern in (*source.files, *source.extras)
    }
    absent = [pattern for pattern in source.files if not matches[pattern]]
    if absent:
        what = f"the repository has no {' and no '.join(absent)}"
        raise UserError(what, where=f"{source.repo} at {listing.commit[:12]}")
    names = dict.fromkeys(name for pattern in matches for name in matches[pattern])
    for name in names:
        yield replace(
            known,
            name=str(Path(source.folder, name)),
            target=place / name,
            path=name,
            commit=listing.commit,
            hub_licence=listing.licence,
            remote=listing.files[name],
        )


def _matches(name: str, pattern: str) -> bool:
    """A star stands for no slash."""
    return fnmatch(name, pattern) and name.count("/") == pattern.count("/")


def _fetch(file: Wanted) -> None:
    from filelock import FileLock, Timeout

    draft = _draft(file)
    draft.parent.mkdir(parents=True, exist_ok=True)
    lock = draft.with_suffix(".lock")
    try:
        with FileLock(lock, timeout=0):
            try:
                _transfer(file, draft)
                draft.replace(file.target)
            finally:
                lock.unlink(missing_ok=True)
        for other in draft.parent.glob(f".{glob.escape(file.target.name)}.*.part"):
            other.unlink()  # of an older revision
    except Timeout as error:
        raise UserError("another process is downloading this", where=file.target) from error
    except _network_errors() as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a disk's complaint, not the network's
        what = f"the download broke off: {_first_line(error)}"
        raise UserError(what, where=file.target, fix=AGAIN) from error


def _transfer(file: Wanted, draft: Path) -> None:
    """Write the rest of `draft`, and refuse it if it isn't what was published."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    remote = file.remote
    assert remote is not None
    begun = draft.stat().st_size if draft.is_file() else 0
    if remote.size is not None and begun > remote.size:
        begun = 0
    if not (begun and remote.size is None and digest_of(draft, "sha256") == remote.digest):
        headers: dict[str, Any] = {"Accept-Encoding": "identity"}
        if file.commit is not None:  # of the hub, whose token is for it alone
            headers = {**build_hf_headers(), **headers}
        with draft.open("ab") as out:
            out.truncate(begun)
            out.seek(begun)
            http_get(
                remote.url,
                out,
                resume_size=begun,
                headers=headers,
                expected_size=remote.size,
                displayed_filename=file.name,
            )
    if remote.digest and digest_of(draft, remote.digest.partition(":")[0]) != remote.digest:
        draft.unlink()
        raise UserError("what arrived is damaged", where=file.target, fix="try again")


def _draft(file: Wanted) -> Path:
    """Named after the content, so that parts of two revisions never mix."""
    digest = file.remote.digest if file.remote else None
    mark = (digest or "unknown").rpartition(":")[2][:12]
    return file.target.with_name(f".{file.target.name}.{mark}.part")


def _digest_of_sibling(sibling: Any) -> str | None:
    if sibling.lfs is not None:
        return f"sha256:{sibling.lfs.sha256}"
    return f"sha1:{sibling.blob_id}" if sibling.blob_id else None


def _remember(folder: Path, file: Wanted) -> None:
    assert file.remote is not None
    entry = {
        "origin": file.origin,
        "commit": file.commit,
        "size": file.target.stat().st_size,
        "digest": file.remote.digest or digest_of(file.target, "sha256"),
        "licence": file.hub_licence or file.licence.name,
    }
    write_note(folder, file.name, entry)


def _network_errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    return HTTPError, OSError


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
