"""``python -m pipelines.serve --model models:/<name>@champion``: a model that answers over HTTP.

MLflow's clients can ask it: ``/invocations``, ``/ping``, ``/health`` and ``/version`` are those of
``mlflow models serve``. Only the weights and the JSON of the model are read; the code is the
installed one. A new champion is taken up while the server runs.
"""

import functools
import ipaddress
import os
import re
import shlex
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from data_modules.errors import UserError
from pipelines.command_line import ArgumentParser
from pipelines.experiment import user_errors

if TYPE_CHECKING:
    from starlette.applications import Starlette

#: Characters of a body that is printed: terminals may cut what is pasted, that of macOS at 1,024.
LONGEST_PASTE = 900
#: Workers that are started unasked, at most: each needs half a GiB.
MAX_WORKERS = 4
#: Seconds that a worker may need to answer its parent: it may just be loading a model.
_WORKER_PATIENCE = 120
#: Seconds that requests have to end when the server is told to.
_LAST_PATIENCE = 120
#: What goes to the log: what we say, with the time; what MLflow advises its own users does not.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s [%(process)d] %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {
        "pipelines": {"handlers": ["stderr"], "level": "INFO"},
        "uvicorn": {"handlers": ["stderr"], "level": "WARNING"},
        "mlflow": {"level": "ERROR"},
        "urllib3": {"level": "ERROR"},
    },
}


@dataclass(frozen=True)
class Settings:
    """What each worker must know.

    Attributes:
        uri: What the user asked for.
        name: The model that this was when the server started.
        folder: Its weights and JSON: a worker that is started anew needs no registry.
        workers: How many there are.
        max_request_bytes: Largest body of a request.
        max_waiting: Requests that may wait in a worker.
        reload_seconds: How often each asks for a new champion.
        parent: Number of the process that starts the workers.
    """

    uri: str
    name: str
    folder: Path
    workers: int
    max_request_bytes: int
    max_waiting: int
    reload_seconds: float
    parent: int


def parser() -> ArgumentParser:
    """Returns the command line of this pipeline."""
    serve_parser = ArgumentParser(
        prog="python -m pipelines.serve",
        allow_abbrev=False,
        description="Serves a model over HTTP, for MLflow's clients and any other.",
    )
    options: tuple[tuple[str, Any, Any, str], ...] = (
        ("--host", str, "127.0.0.1", "Address to listen at; 0.0.0.0 lets other machines ask, too."),
        ("--port", NonNegativeInt, 5001, "Port to listen at; 0 takes a free one."),
        ("--workers", PositiveInt, min(MAX_WORKERS, _cores()), "Processes that answer."),
        ("--max_request_bytes", PositiveInt, 4 * 1024**2, "Largest body of a request."),
        ("--max_waiting", NonNegativeInt, 64, "Requests that may wait in each worker."),
        ("--reload_seconds", PositiveFloat, 10.0, "How often a new champion is looked for."),
    )
    serve_parser.add_argument(
        "--model",
        type=str,
        required=True,
        help="models:/<name>@champion (a new champion is taken up), models:/<name>/<version>, "
        "runs:/<run id>, or a folder with a saved model.",
    )
    for option, kind, default, text in options:
        serve_parser.add_argument(option, type=kind, default=default, help=text)
    return serve_parser


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find(uri: str, temporary: Path) -> tuple[str, Path]:
    """Finds a model.

    Args:
        uri: As the user wrote it.
        temporary: Where a copy may go.

    Returns:
        What replies call the model, and the folder with its weights and JSON.

    Raises:
        UserError: If there is none; says what there is.
    """
    from mlflow.exceptions import MlflowException

    from pipelines.packaging import fetch_model
    from pipelines.reloading import present_address
    from pipelines.saved import find_saved_model

    if not re.match(r"\w{2,}:/", uri):
        folder = Path(os.path.expanduser(uri))
        # Its path is nothing that clients need to know.
        return folder.resolve().name, find_saved_model(folder, uri)
    try:
        address = present_address(uri)
    except MlflowException:
        address = uri  # which says, below, what there is
    return address, fetch_model(address, temporary)


def build(settings: Settings) -> "Starlette":
    """Returns the application of one worker, with its model loaded."""
    import torch

    from pipelines.devices import end_with_parent
    from pipelines.reloading import Reloader
    from pipelines.scoring import ScoredModel
    from pipelines.scoring_server import ScoringServer

    if settings.workers > 1:
        end_with_parent(settings.parent)
    # Together the workers use every core once, unless the environment says less.
    share = max(1, _cores() // settings.workers)
    torch.set_num_threads(min(share, torch.get_num_threads()))
    reloader = Reloader(
        settings.uri, ScoredModel(settings.folder, settings.name), settings.reload_seconds
    )
    # The champion may have changed since the server started, if this worker replaces another.
    reloader.check()
    return ScoringServer(reloader, settings.max_request_bytes, settings.max_waiting).app()


def bind(host: str, port: int) -> socket.socket:
    """Returns a socket that has an address; it listens when there is somebody to answer.

    Raises:
        UserError: If the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only of a socket that says it is TCP does asyncio turn off Nagle's algorithm, by which a reply
    # waits 40 ms for the client to acknowledge its first part.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(
            f"{host}:{port} cannot be listened at ({error}): give another --port or --host"
        ) from error
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def request(url: str, body: str, folder: Path) -> str:
    """Returns a command that asks the server, to be pasted into a shell.

    Args:
        url: Of ``/invocations``.
        body: Of the request, JSON.
        folder: Receives a body that is too long for a terminal.
    """
    if len(body) > LONGEST_PASTE:
        file = folder / "request.json"
        file.write_text(body, encoding="utf-8")
        body = f"@{file}"
    return f"curl {url} -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def run(settings: Settings, listener: socket.socket) -> None:
    """Serves until it is told to end, and answers what it has begun to answer."""
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    config = uvicorn.Config(
        functools.partial(build, settings),
        factory=True,
        workers=settings.workers,
        log_config=LOGGING,
        log_level=None,
        access_log=False,
        timeout_worker_healthcheck=_WORKER_PATIENCE,
        timeout_graceful_shutdown=_LAST_PATIENCE,
    )
    if settings.workers == 1:
        uvicorn.Server(config).run([listener])
    else:
        Multiprocess(config, [listener]).run()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pipeline from the command line."""
    config = parser().parse_args(arguments)
    with (
        user_errors(),
        bind(config.host, config.port) as listener,
        tempfile.TemporaryDirectory(prefix="unroll-") as temporary,
    ):
        from pipelines.formatting import plural
        from pipelines.scoring import ScoredModel

        name, folder = find(config.model, Path(temporary))
        # Here, where a mistake can be told to the user, and not in every worker.
        model = ScoredModel(folder, name)
        model.check()
        example = model.example
        del model  # which the workers load for themselves
        options = {key: config[key] for key in ("workers", "max_request_bytes", "max_waiting")}
        settings = Settings(
            config.model,
            name,
            folder,
            reload_seconds=config.reload_seconds,
            parent=os.getpid(),
            **options,
        )
        if not _is_loopback(config.host):
            print(
                f"{config.host} can be reached from other machines: whoever does may ask; there "
                "are no accounts and there is no TLS.",
                flush=True,
            )
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        workers = plural(settings.workers, "worker")
        url = f"http://{shown}:{port}/invocations"
        print(f"{name} at {url} ({workers}); for example:", flush=True)
        print(request(url, example, Path(temporary)), flush=True)
        run(settings, listener)


if __name__ == "__main__":
    main()
