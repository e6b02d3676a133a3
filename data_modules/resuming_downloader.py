"""Downloads over HTTP that go on where they were cut off, as a downloader for pooch."""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
import urllib3
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from data_modules.errors import UserError

_PIECE = 1 << 16
#: Answers after which it is worth asking again.
_BUSY = (408, 429, 500, 502, 503, 504)


class _Interrupted(Exception):
    """Not all has come, and asking again may bring more."""


class ResumingDownloader:
    """Downloads a file, asking for the rest (HTTP ``Range``) after each interruption.

    What has arrived lies in a file of its own, with a note of where it came from, so that also
    another process goes on with it. A server that ignores ``Range``, or whose file has changed
    since (``If-Range``; its size), sends it from the beginning. Whether the bytes are the right
    ones is for the caller to check: :func:`pooch.retrieve` does.

    Args:
        part: Where the bytes gather. The note has the same name with ``.json`` behind it.
        progress: Whether a progress bar shows on standard error.
        attempts: Attempts in a row that bring nothing before it gives up.
        pause: Seconds before the second attempt; twice as many before each one after it.
        timeouts: Seconds to wait for a connection, and for the next bytes.
    """

    def __init__(
        self,
        part: Path,
        progress: bool = True,
        attempts: int = 5,
        pause: float = 1.0,
        timeouts: tuple[float, float] = (10.0, 60.0),
    ) -> None:
        self.part, self.progress = part, progress
        self.attempts, self.pause, self.timeouts = attempts, pause, timeouts
        self.note = part.with_name(f"{part.name}.json")

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Downloads, in the form in which pooch calls it.

        Args:
            url: What to download.
            output_file: Where the whole file is put.
            pooch: Not used.
            check_only: Not used.

        Raises:
            UserError: The server cannot be reached, does not have the file or keeps breaking off,
                or the disk is full.
        """
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not self.progress,
        )
        furthest, failures = self._size(), 0
        with bar:
            task = bar.add_task(self.part.name.removesuffix(".part"), total=None)
            while True:
                try:
                    for total, done in self._pieces(url):
                        bar.update(task, total=total, completed=done)
                    break
                except _Interrupted as error:
                    failures = 1 if self._size() > furthest else failures + 1
                    furthest = max(furthest, self._size())
                    if failures >= self.attempts:
                        raise UserError(
                            f"{url}: {error}, {failures} times in a row. Check the network, and "
                            "give the same command again: it goes on from the "
                            f"{self._size():,} bytes that are there."
                        ) from error
                    time.sleep(self.pause * 2 ** (failures - 1))
        os.replace(self.part, output_file)
        self.note.unlink(missing_ok=True)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _pieces(self, url: str) -> Iterator[tuple[int | None, int]]:
        """Appends what comes to ``part``; yields the size of the whole and of what is there."""
        note = self._read_note(url)
        start = self._size() if note else 0
        if start and start == note.get("total"):
            yield start, start
            return
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if note.get("validator"):
                headers["If-Range"] = note["validator"]
        try:
            with (
                _plain_failures(self.timeouts),
                requests.get(url, headers=headers, stream=True, timeout=self.timeouts) as response,
            ):
                start, total = self._beginning(url, response, start, note)
                yield total, start
                if start and start == total:
                    return
                if total is not None and shutil.disk_usage(self.part.parent).free < total - start:
                    raise UserError(
                        f"{self.part.parent} has no room for the {total - start:,} bytes to come: "
                        "free some, or name another folder"
                    )
                with open(self.part, "ab" if start else "wb") as file:
                    for piece in response.raw.stream(_PIECE, decode_content=False):
                        file.write(piece)
                        start += len(piece)
                        yield total, start
        except requests.RequestException as error:
            raise UserError(f"{url} cannot be downloaded: {error}") from error
        except OSError as error:
            raise UserError(
                f"{self.part} cannot be written ({error.strerror}): make room or name another "
                "folder, and give the same command again: it goes on from what is there"
            ) from error
        if total not in (None, start):
            raise _Interrupted("the connection was cut")

    def _beginning(
        self, url: str, response: requests.Response, start: int, note: dict[str, Any]
    ) -> tuple[int, int | None]:
        """Reads the head of an answer; returns where its bytes begin and the size of the whole."""
        status, sent = response.status_code, response.headers
        if status in _BUSY:
            raise _Interrupted(f"the server answers {status} ({response.reason})")
        if status not in (200, 206, 416):
            raise UserError(
                f"{url}: the server answers {status} ({response.reason}). Look for the file's new "
                "address, or put the file into the folder yourself."
            )
        pattern = r"bytes \*/(\d+)" if status == 416 else r"bytes (\d+)-\d+/(\d+)"
        found = re.fullmatch(pattern, sent.get("Content-Range", ""))
        whole = int(found[found.lastindex or 1]) if found else None
        if status != 200 and (
            not found
            or whole != (note.get("total") or whole)
            or sent.get("ETag", note.get("etag")) != note.get("etag")
            or (start != whole if status == 416 else int(found[1]) != start)
        ):
            # Not the rest of what is there: from the beginning.
            self.part.unlink(missing_ok=True)
            raise _Interrupted("the server does not send the rest of the file")
        if status == 200:
            start = 0
            length = sent.get("Content-Length", "")
            whole = int(length) if length.isdecimal() else None
            etag = sent.get("ETag")
            strong = etag if etag and not etag.startswith("W/") else None
            validator = strong or sent.get("Last-Modified")
            self.part.unlink(missing_ok=True)
            self.note.write_text(
                json.dumps({"url": url, "validator": validator, "etag": etag, "total": whole})
            )
        return start, whole

    def _read_note(self, url: str) -> dict[str, Any]:
        """Returns the note on what is there; an empty one where that is of no use."""
        try:
            note = json.loads(self.note.read_text())
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) and note.get("url") == url else {}


@contextlib.contextmanager
def _plain_failures(timeouts: tuple[float, float]) -> Iterator[None]:
    """Turns what network libraries raise on an interruption into words."""
    try:
        yield
    except requests.ConnectTimeout as error:
        raise _Interrupted(f"no connection within {timeouts[0]:g} s") from error
    except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise _Interrupted(f"nothing came for {timeouts[1]:g} s") from error
    except requests.exceptions.SSLError as error:
        raise _Interrupted("no secure connection to the server") from error
    except requests.ConnectionError as error:
        raise _Interrupted("no connection to the server") from error
    except urllib3.exceptions.HTTPError as error:
        raise _Interrupted("the connection was cut") from error
