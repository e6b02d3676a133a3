"""The model that a server answers with, and its successor: a new champion is taken up unasked.

The registry is asked for the version behind an alias every few seconds. A new one is loaded beside
the old, has to answer its own example, and then takes its place; what is being answered is answered
to the end by the old. Where that fails, or the registry is away, the old one stays.
"""

import logging
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mlflow.tracking import MlflowClient

from pipelines.journal import without_secrets
from pipelines.packaging import fetch_model
from pipelines.scoring import ScoredModel
from pipelines.tracking import tracking_uri

log = logging.getLogger(__name__)

#: What follows an alias: ``models:/<name>@<alias>``.
_ALIAS = re.compile(r"models:/+([^/@]+)@([^/@]+)")
#: Seconds until a version that could not be loaded is tried again: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 10.0, 600.0


def follows_alias(uri: str) -> bool:
    """Tells whether an address may lead to another model later."""
    return _ALIAS.fullmatch(uri) is not None


def present_address(uri: str) -> str:
    """Returns ``models:/<name>/<version>`` for an alias, and any other address as it is.

    Raises:
        MlflowException: If there is no such model or alias, or the registry does not answer.
    """
    found = _ALIAS.fullmatch(uri)
    if found is None:
        return uri
    # A plain client: one with a journal would wait for a server that is away.
    store = MlflowClient(tracking_uri(), tracking_uri())
    name, alias = found.groups()
    return f"models:/{name}/{store.get_model_version_by_alias(name, alias).version}"


def load_scored(address: str) -> ScoredModel:
    """Loads a model from MLflow and has it answer its own example.

    Raises:
        UserError: If it cannot be loaded, or does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="unroll-") as temporary:
        model = ScoredModel(fetch_model(address, Path(temporary)), address)
    model.check()
    return model


class Reloader:
    """Holds the model to answer with.

    Args:
        uri: What the user asked for.
        model: The first model.
        seconds: How often the registry is asked.
        clock: Tells the seconds.

    Attributes:
        model: Answer with this one, from the beginning of a request to its end.
    """

    def __init__(
        self,
        uri: str,
        model: ScoredModel,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self._uri, self._seconds, self._clock = uri, seconds, clock
        self._stop = threading.Event()
        self._said = ""
        #: The version that could not be loaded, when to try it again, and the pause before that.
        self._broken, self._again, self._pause = "", 0.0, 0.0

    def start(self) -> None:
        """Begins to ask, where the address may lead to another model."""
        if follows_alias(self._uri):
            # A registry that hangs must not keep the server from its end.
            threading.Thread(target=self._watch, name="reloading", daemon=True).start()

    def stop(self) -> None:
        """Asks no more."""
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            self.check()

    def check(self) -> None:
        """Asks once, where the address may lead to another model, and takes it up; never fails."""
        if not follows_alias(self._uri):
            return
        try:
            address = present_address(self._uri)
        except Exception as error:  # whatever it is: what is served goes on being served
            self._tell(f"{self._uri} cannot be looked up: {error}")
            return
        if address == self.model.name:
            self._said = self._broken = ""
            return
        if address == self._broken and self._clock() < self._again:
            return
        try:
            new = load_scored(address)
        except Exception as error:  # the same; a model may fail in any way
            self._pause = min(2 * self._pause, _LONGEST_PAUSE) if address == self._broken else 0.0
            self._pause = max(self._pause, _FIRST_PAUSE)
            self._broken, self._again = address, self._clock() + self._pause
            self._tell(str(error))
            return
        old, self.model = self.model, new
        self._said = self._broken = ""
        log.info("%s takes the place of %s", new.name, old.name)

    def _tell(self, why: str) -> None:
        """Writes into the log why the old model stays, once."""
        said = without_secrets(why, tracking_uri())
        if said != self._said:
            self._said = said
            log.warning("%s stays: %s", self.model.name, said)
