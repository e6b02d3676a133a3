"""Fetching the public files: Sentiment140's tweets and GloVe's vectors of Twitter words."""

import dataclasses
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import pooch
from filelock import FileLock, Timeout

from data_modules.errors import UserError
from data_modules.resuming_downloader import ResumingDownloader

#: Beside the archives: checksums of those that came without one, as first seen.
CHECKSUMS = "checksums.json"


@dataclasses.dataclass(frozen=True)
class Source:
    """An archive on the network.

    Attributes:
        url: Its address.
        file: Name of the archive in the folder.
        members: Files to unpack, each with the most bytes that it may have.
        checksum: ``algorithm:digest``. None where nobody published one: the first download's is
            recorded, and later ones must have the same.
    """

    url: str
    file: str
    members: Mapping[str, int]
    checksum: str | None = None


SOURCES = {
    # Go, Bhayani and Huang 2009.
    "sentiment140": Source(
        "http://cs.stanford.edu/people/alecmgo/trainingandtestdata.zip",
        "trainingandtestdata.zip",
        {
            "training.1600000.processed.noemoticon.csv": 1 << 29,
            "testdata.manual.2009.06.14.csv": 1 << 20,
        },
        "md5:1647eb110dd2492512e27b9a70d5d1bc",
    ),
    # Pennington, Socher and Manning 2014; there are 25, 50 and 100 dimensions as well.
    "glove": Source(
        "https://nlp.stanford.edu/data/glove.twitter.27B.zip",
        "glove.twitter.27B.zip",
        {"glove.twitter.27B.200d.txt": 1 << 32},
    ),
}
GLOVE_DIMENSIONS = (25, 50, 100, 200)


def download(
    to: str | Path,
    names: Sequence[str] = tuple(SOURCES),
    glove_dimension: int = 200,
    sources: Mapping[str, Source] = SOURCES,
    progress: bool = True,
    pause: float = 1.0,
) -> list[Path]:
    """Downloads and unpacks what is not there yet.

    Nothing takes its final name before it is whole and its checksum right. What was cut off is
    kept beside it and continued by the next call.

    Args:
        to: Folder for the archives and the unpacked files.
        names: Which of ``sources``.
        glove_dimension: Dimensions of the vectors to unpack, one of ``GLOVE_DIMENSIONS``.
        sources: Where to find them.
        progress: Whether progress bars show on standard error.
        pause: Seconds to wait after the first interruption, more after later ones.

    Returns:
        The unpacked files.

    Raises:
        UserError: A name is unknown; the network, the server or the disk fails; or what came is
            not what it should be.
    """
    folder = Path(os.path.expanduser(to))
    for name in names:
        if name not in sources:
            raise UserError(f"{name!r} cannot be downloaded: choose from {', '.join(sources)}")
    if glove_dimension not in GLOVE_DIMENSIONS:
        choices = ", ".join(map(str, GLOVE_DIMENSIONS))
        raise UserError(f"glove_dimension is {glove_dimension}: choose from {choices}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for name in names:
            source = sources[name]
            if name == "glove":
                members = {
                    member.replace(".200d.", f".{glove_dimension}d."): size
                    for member, size in source.members.items()
                }
                source = dataclasses.replace(source, members=members)
            with FileLock(folder / f".{source.file}.lock", timeout=0):
                files += _fetch(source, folder, progress, pause)
        return files
    except Timeout as error:
        raise UserError(
            f"another process downloads to {folder} at this moment: wait for its end"
        ) from error
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error}): name another folder") from error


def _fetch(source: Source, folder: Path, progress: bool, pause: float) -> list[Path]:
    archive = folder / source.file
    files = [folder / PurePosixPath(member).name for member in source.members]
    if not archive.exists() and all(file.exists() for file in files):
        return files  # unpacked before, and the archive removed to save its room
    recorded = _recorded(folder)
    checksum = source.checksum or recorded.get(source.file)
    if archive.exists() and not pooch.hashes.hash_matches(archive, checksum):
        archive.unlink()
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(
            source.url,
            checksum,
            fname=source.file,
            path=folder,
            downloader=ResumingDownloader(
                folder / f"{source.file}.part", progress=progress, pause=pause
            ),
        )
    except UserError:
        raise
    except ValueError as error:
        remedy = "Give the same command again, which starts from the beginning."
        if not source.checksum:
            remedy += (
                f" If the file was replaced on the server, remove its line from "
                f"{folder / CHECKSUMS} first."
            )
        raise UserError(
            f"what came from {source.url} has not the checksum {checksum} and was removed: it was "
            f"damaged on its way, or is another file. {remedy}"
        ) from error
    _unpack(archive, source.members, folder)
    if not checksum:
        recorded[source.file] = f"sha256:{pooch.file_hash(archive)}"
        part = folder / f"{CHECKSUMS}.part"
        part.write_text(json.dumps(recorded, indent=2) + "\n")
        os.replace(part, folder / CHECKSUMS)
    return files


def _recorded(folder: Path) -> dict[str, str]:
    """Reads the checksums that were recorded."""
    file = folder / CHECKSUMS
    if not file.exists():
        return {}
    try:
        recorded = json.loads(file.read_text())
        if isinstance(recorded, dict) and all(isinstance(each, str) for each in recorded.values()):
            return recorded
    except ValueError:
        pass
    raise UserError(f"{file} is damaged: remove it, and checksums are recorded anew")


def _unpack(archive: Path, members: Mapping[str, int], folder: Path) -> None:
    """Unpacks some members of an archive; one that is damaged is removed.

    The names of the files are ours, whatever the archive says, and no member is unpacked that
    announces more bytes than it may have; :mod:`zipfile` reads no more than announced.
    """
    try:
        with zipfile.ZipFile(archive) as unzipped:
            for member, most in members.items():
                information = unzipped.getinfo(member)
                file = folder / PurePosixPath(member).name
                size = information.file_size
                if file.exists() and file.stat().st_size == size:
                    continue
                if size > most:
                    raise zipfile.BadZipFile(f"{member} has {size:,} bytes, more than {most:,}")
                if shutil.disk_usage(folder).free < size:
                    raise UserError(
                        f"{folder} has no room for the {size:,} bytes of {member}: free some, and "
                        "give the same command again"
                    )
                part = folder / f"{file.name}.part"
                try:
                    with unzipped.open(information) as packed, open(part, "wb") as plain:
                        shutil.copyfileobj(packed, plain, 1 << 20)
                    os.replace(part, file)
                finally:
                    part.unlink(missing_ok=True)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError) as error:
        archive.unlink()
        raise UserError(
            f"{archive} was removed, since it is not the archive that it should be "
            f"({error.args[0] if error.args else error}). Give the same command again."
        ) from error
