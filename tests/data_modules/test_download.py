"""Against a server of our own on this machine, which breaks off, lies and forgets as told."""

import hashlib
import io
import json
import random
import socket
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from filelock import FileLock

from data_modules import download as module
from data_modules.download import CHECKSUMS, SOURCES, Source, download
from data_modules.errors import UserError
from data_modules.resuming_downloader import ResumingDownloader

PIECE = 1 << 16
CUT = 3 * PIECE + 100
TWEETS = random.Random(0).randbytes(5 * PIECE)
VECTORS = b"the 1 2\ncat 3 4\n"


def zipped(**members: bytes) -> bytes:
    """Returns an archive; in the names of its members ``__`` stands for a dot."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return file.getvalue()


ARCHIVE = zipped(tweets__csv=TWEETS, readme__txt=b"not asked for")


class Server:
    """Serves one file.

    Attributes:
        body: The file.
        plan: What to do about the next requests, and from then on the file is served properly:
            "cut" breaks off after ``CUT`` bytes, "busy" answers 503, "stall" stops in the middle,
            a number answers that.
        ranges: Whether it heeds ``Range``.
        announced: What it says about the size, if not the truth; None to say nothing.
        tag: The ``ETag``.
        seen: Header ``Range`` of each request (None without one), and ``If-Range``.
    """

    def __init__(self) -> None:
        self.body, self.plan = ARCHIVE, []
        self.ranges, self.tag = True, '"1"'
        self.announced = "truth"
        self.seen, self.conditions = [], []
        self.ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/archive.zip"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked, condition = request.headers["Range"], request.headers["If-Range"]
        self.seen.append(asked)
        self.conditions.append(condition)
        action = self.plan.pop(0) if self.plan else "serve"
        if action == "busy" or isinstance(action, int):
            request.send_error(503 if action == "busy" else action)
            return
        start = 0
        if asked and self.ranges and condition in (None, self.tag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(self.body):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(self.body)}")
                request.end_headers()
                return
            request.send_response(206)
            span = f"{start}-{len(self.body) - 1}/{len(self.body)}"
            request.send_header("Content-Range", f"bytes {span}")
        else:
            request.send_response(200)
        if self.tag:
            request.send_header("ETag", self.tag)
        if self.announced is not None:
            truth = len(self.body) - start
            size = truth if self.announced == "truth" else self.announced
            request.send_header("Content-Length", str(size))
        request.end_headers()
        end = len(self.body) if action == "serve" else start + CUT
        try:
            request.wfile.write(self.body[start:end])
        except ConnectionError:  # the reader had enough
            return
        if action == "stall":
            self.ended.wait(5)


@pytest.fixture
def server():
    server = Server()
    yield server
    server.ended.set()
    server.http.shutdown()
    server.http.server_close()
    server.thread.join()


def source(server: Server, **change) -> Source:
    values = {"url": server.url, "file": "archive.zip", "members": {"tweets.csv": 10**6}}
    return Source(**{**values, **change})


def known(server: Server) -> Source:
    return source(server, checksum=f"md5:{hashlib.md5(ARCHIVE).hexdigest()}")


def fetch(folder, source: Source) -> list:
    return download(folder, ["set"], sources={"set": source}, progress=False, pause=0)


def message(folder, source: Source) -> str:
    with pytest.raises(UserError) as raised:
        fetch(folder, source)
    text = str(raised.value)
    assert "Error" not in text and "object at 0x" not in text
    return text


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


# What goes well ---------------------------------------------------------------------------------


def test_what_is_needed_is_unpacked(server, tmp_path):
    folder = tmp_path / "new" / "folder"
    assert fetch(folder, known(server)) == [folder / "tweets.csv"]
    assert (folder / "tweets.csv").read_bytes() == TWEETS
    assert names(folder) == ["archive.zip", "tweets.csv"]
    assert server.seen == [None]


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    fetch(tmp_path, known(server))
    fetch(tmp_path, known(server))
    (tmp_path / "tweets.csv").unlink()
    fetch(tmp_path, known(server))
    assert (tmp_path / "tweets.csv").read_bytes() == TWEETS
    # The archive may be removed to save its room.
    (tmp_path / "archive.zip").unlink()
    assert fetch(tmp_path, known(server)) == [tmp_path / "tweets.csv"]
    assert server.seen == [None]


def test_a_progress_bar_shows_how_far_it_is(server, tmp_path, capsys):
    download(tmp_path, ["set"], sources={"set": known(server)})
    printed = capsys.readouterr()
    assert "archive.zip" in printed.err and "kB" in printed.err and not printed.out
    (tmp_path / "tweets.csv").unlink()
    (tmp_path / "archive.zip").unlink()
    fetch(tmp_path, known(server))
    assert not capsys.readouterr().err


def test_the_vectors_that_are_asked_for(server, tmp_path):
    server.body = zipped(glove__25d__txt=VECTORS, glove__200d__txt=b"x")
    glove = source(server, members={"glove.200d.txt": 99})
    files = download(tmp_path, ["glove"], 25, {"glove": glove}, progress=False)
    assert files == [tmp_path / "glove.25d.txt"] and files[0].read_bytes() == VECTORS
    with pytest.raises(UserError, match="glove_dimension is 300: choose from 25, 50, 100, 200"):
        download(tmp_path, ["glove"], 300)


def test_the_public_addresses():
    tweets, glove = SOURCES["sentiment140"], SOURCES["glove"]
    assert tweets.checksum == "md5:1647eb110dd2492512e27b9a70d5d1bc"
    assert tweets.url.endswith("cs.stanford.edu/people/alecmgo/trainingandtestdata.zip")
    assert glove.url == "https://nlp.stanford.edu/data/glove.twitter.27B.zip"
    with pytest.raises(
        UserError, match="'word2vec' cannot be downloaded: choose from sentiment140"
    ):
        download("unused", ["word2vec"])


# Interruptions ----------------------------------------------------------------------------------


def test_a_cut_connection_is_continued(server, tmp_path):
    server.plan = ["cut", "busy"]
    fetch(tmp_path, known(server))
    assert (tmp_path / "tweets.csv").read_bytes() == TWEETS
    assert server.seen == [None] + [f"bytes={CUT}-"] * 2
    assert server.conditions == [None, '"1"', '"1"']
    assert names(tmp_path) == ["archive.zip", "tweets.csv"]


def test_as_often_as_something_comes(server, tmp_path):
    content = random.Random(1).randbytes(30 * PIECE)
    server.body, server.plan = zipped(tweets__csv=content), ["cut"] * 9
    [file] = fetch(tmp_path, source(server, members={"tweets.csv": len(content)}))
    assert file.read_bytes() == content
    assert server.seen == [None] + [f"bytes={k * CUT}-" for k in range(1, 10)]


def test_a_rest_whose_end_only_its_head_tells(server, tmp_path):
    """``Content-Range`` without ``Content-Length``: a cut looks like an end."""
    content = random.Random(1).randbytes(8 * PIECE)
    server.body, server.plan = zipped(tweets__csv=content), ["cut", *["busy"] * 5]
    message(tmp_path, source(server))
    server.announced, server.plan = None, ["cut"]
    [file] = fetch(tmp_path, source(server))
    assert file.read_bytes() == content


def test_the_next_call_continues(server, tmp_path):
    server.plan = ["cut", *["busy"] * 5]
    text = message(tmp_path, known(server))
    assert "answers 503 (Service Unavailable), 5 times in a row. Check the network" in text
    assert f"goes on from the {CUT:,} bytes that are there" in text
    assert names(tmp_path) == ["archive.zip.part", "archive.zip.part.json"]
    fetch(tmp_path, known(server))
    assert server.seen[-1] == f"bytes={CUT}-"
    assert names(tmp_path) == ["archive.zip", "tweets.csv"]


def test_what_came_from_elsewhere_is_not_continued(server, tmp_path):
    (tmp_path / "archive.zip.part").write_bytes(b"x" * 1000)
    note = tmp_path / "archive.zip.part.json"
    for content in ["{", "[]", json.dumps({"url": "http://elsewhere/archive.zip"})]:
        note.write_text(content)
        fetch(tmp_path, known(server))
        assert server.seen == [None]
        server.seen.clear()
        (tmp_path / "tweets.csv").unlink()
        (tmp_path / "archive.zip").rename(tmp_path / "archive.zip.part")


def test_what_was_whole_already_is_only_checked(server, tmp_path):
    (tmp_path / "archive.zip.part").write_bytes(ARCHIVE)
    note = {"url": server.url, "total": len(ARCHIVE)}
    (tmp_path / "archive.zip.part.json").write_text(json.dumps(note))
    fetch(tmp_path, known(server))
    assert server.seen == []
    # The same where the server never told the size.
    (tmp_path / "tweets.csv").unlink()
    (tmp_path / "archive.zip").rename(tmp_path / "archive.zip.part")
    (tmp_path / "archive.zip.part.json").write_text(json.dumps({**note, "total": None}))
    fetch(tmp_path, known(server))
    assert server.seen == [f"bytes={len(ARCHIVE)}-"]


def test_a_server_that_ignores_ranges(server, tmp_path):
    server.ranges, server.plan = False, ["cut", "cut"]
    fetch(tmp_path, known(server))
    assert server.seen == [None] + [f"bytes={CUT}-"] * 2
    assert (tmp_path / "tweets.csv").read_bytes() == TWEETS


def test_a_server_that_always_breaks_off(server, tmp_path):
    server.ranges, server.plan = False, ["cut"] * 20
    assert "the connection was cut, 5 times in a row" in message(tmp_path, known(server))
    assert len(server.seen) == 5


@pytest.mark.parametrize("tags", [('"1"', '"2"'), (None, None)])
def test_a_file_that_is_replaced_meanwhile(server, tmp_path, tags):
    """Told by its tag, or else by its size; the halves of two files are never joined."""
    server.tag, second = tags
    server.body, server.plan = b"x" * len(ARCHIVE) + b"y", ["cut", *["busy"] * 5]
    message(tmp_path, source(server))
    server.body, server.tag = ARCHIVE, second
    fetch(tmp_path, source(server))
    assert (tmp_path / "tweets.csv").read_bytes() == TWEETS


def test_a_server_that_falls_silent(server, tmp_path):
    server.plan = ["stall"] * 2
    part = tmp_path / "archive.zip.part"
    downloader = ResumingDownloader(part, False, attempts=1, timeouts=(5, 0.5))
    with pytest.raises(UserError, match="nothing came for 0.5 s, 1 times in a row"):
        downloader(server.url, str(tmp_path / "whole"), None)
    assert not (tmp_path / "whole").exists() and part.stat().st_size == 3 * PIECE


def test_no_network(server, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/archive.zip"
        text = message(tmp_path, source(server, url=url))
    assert text.startswith(f"{url}: no connection to the server, 5 times in a row. Check")
    assert names(tmp_path) == []


# Refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 404])
def test_a_file_that_is_not_there(server, tmp_path, status):
    server.plan = [status]
    text = message(tmp_path, known(server))
    assert f"answers {status} (" in text and "new address" in text
    assert server.seen == [None] and names(tmp_path) == []


def test_an_address_that_is_none(server, tmp_path):
    assert "cannot be downloaded" in message(tmp_path, source(server, url="http:/archive.zip"))


def test_wrong_bytes_never_stay(server, tmp_path):
    server.body = ARCHIVE[:1000] + b"x" + ARCHIVE[1001:]
    text = message(tmp_path, known(server))
    assert "has not the checksum md5:" in text and "was removed" in text
    assert names(tmp_path) == []
    server.body = ARCHIVE
    fetch(tmp_path, known(server))
    assert server.seen == [None, None]


def test_a_damaged_file_in_place_is_replaced(server, tmp_path):
    (tmp_path / "archive.zip").write_bytes(ARCHIVE[:-1])
    fetch(tmp_path, known(server))
    assert (tmp_path / "archive.zip").read_bytes() == ARCHIVE
    (tmp_path / "archive.zip").write_bytes(ARCHIVE[:-1])
    server.plan = [404]
    message(tmp_path, known(server))
    assert names(tmp_path) == ["tweets.csv"]


@pytest.mark.parametrize("announced", [len(ARCHIVE) - 1, 4 * PIECE])
def test_a_size_that_is_too_small(server, tmp_path, announced):
    server.announced = announced
    text = message(tmp_path, source(server))
    assert "was removed, since it is not the archive" in text
    assert names(tmp_path) == []


def test_an_end_that_nobody_announced(server, tmp_path):
    server.announced, server.plan = None, ["cut"]
    message(tmp_path, source(server))
    assert names(tmp_path) == []
    fetch(tmp_path, source(server))
    assert names(tmp_path) == ["archive.zip", CHECKSUMS, "tweets.csv"]


def test_an_unknown_checksum_is_recorded_and_then_holds(server, tmp_path):
    fetch(tmp_path, source(server))
    recorded = json.loads((tmp_path / CHECKSUMS).read_text())
    assert recorded == {"archive.zip": f"sha256:{hashlib.sha256(ARCHIVE).hexdigest()}"}
    for name in ("archive.zip", "tweets.csv"):
        (tmp_path / name).unlink()
    server.body = zipped(tweets__csv=b"others")
    text = message(tmp_path, source(server))
    assert f"remove its line from {tmp_path / CHECKSUMS}" in text
    assert names(tmp_path) == [CHECKSUMS]
    (tmp_path / CHECKSUMS).write_text("{}")
    fetch(tmp_path, source(server))
    assert (tmp_path / "tweets.csv").read_bytes() == b"others"


@pytest.mark.parametrize("content", ["{", "[]", '{"archive.zip": 1}'])
def test_a_damaged_record_is_refused(server, tmp_path, content):
    (tmp_path / CHECKSUMS).write_text(content)
    assert f"{tmp_path / CHECKSUMS} is damaged" in message(tmp_path, source(server))


def test_names_in_an_archive_lead_nowhere(server, tmp_path):
    folder = tmp_path / "data"
    members = {"../outside.csv": b"1", "/tmp/outside.csv": b"2", "deep/../tweets.csv": TWEETS}
    server.body = zipped(**members)
    fetch(folder, source(server, members={"deep/../tweets.csv": 10**6}))
    assert (folder / "tweets.csv").read_bytes() == TWEETS
    fetch(tmp_path / "other", source(server, members={"../outside.csv": 10**6}))
    assert names(tmp_path) == ["data", "other"]
    assert names(tmp_path / "other") == ["archive.zip", CHECKSUMS, "outside.csv"]


def broken_member() -> bytes:
    place = ARCHIVE.index(TWEETS[1000:1100])
    return ARCHIVE[:place] + b"x" * 100 + ARCHIVE[place + 100 :]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"no archive at all", "not a zip file"),
        (b"", "not a zip file"),
        (zipped(tweets__csv=b"x" * (10**6 + 1)), "1,000,001 bytes, more than 1,000,000"),
        (zipped(others__csv=b"x"), "no item named 'tweets.csv'"),
        (broken_member(), "Bad CRC-32 for file 'tweets.csv'"),
    ],
)
def test_an_archive_that_is_not_what_it_should_be(server, tmp_path, body, said):
    server.body = body
    text = message(tmp_path, source(server))
    assert said in text and "Give the same command again." in text
    assert names(tmp_path) == []


# The disk ---------------------------------------------------------------------------------------


def test_no_room_for_the_archive_and_for_what_is_in_it(server, tmp_path, monkeypatch):
    free = [len(ARCHIVE) - 1]
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=free[0]))
    assert f"no room for the {len(ARCHIVE):,} bytes to come" in message(tmp_path, known(server))
    free[0] = len(TWEETS) - 1
    server.plan = ["cut"]
    (tmp_path / "archive.zip").write_bytes(ARCHIVE)
    assert f"no room for the {len(TWEETS):,} bytes of" in message(tmp_path, known(server))
    free[0] = len(TWEETS)
    assert fetch(tmp_path, known(server)) == [tmp_path / "tweets.csv"]


def test_a_disk_that_is_full_meanwhile(server, tmp_path, monkeypatch):
    """A write that fails is told, and what has arrived is kept."""
    full = OSError(28, "No space left on device")

    class Full(io.FileIO):
        def write(self, piece):
            if self.tell() >= PIECE:
                raise full
            return super().write(piece)

    with monkeypatch.context() as patch:
        patch.setattr("data_modules.resuming_downloader.open", Full, raising=False)
        text = message(tmp_path, known(server))
    assert "No space left on device" in text and "goes on from what is there" in text
    assert names(tmp_path) == ["archive.zip.part", "archive.zip.part.json"]
    fetch(tmp_path, known(server))
    assert server.seen == [None, f"bytes={PIECE}-"]


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("")
    assert "name another folder" in message(tmp_path / "file", known(server))


def test_two_processes_do_not_mix(server, tmp_path):
    with FileLock(tmp_path / ".archive.zip.lock"):
        assert "another process downloads" in message(tmp_path, known(server))
    assert server.seen == []
