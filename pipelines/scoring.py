"""A saved model behind MLflow's scoring protocol: the body of a request in, that of a reply out.

Payloads are parsed, checked against the signature, and answers written by MLflow's own functions,
so that the bytes are those of ``mlflow models serve``. Of a model's files the weights and the JSON
are read, and nothing else: class, signature and example are those of the Unroll that is installed.
"""

import json
import os
from collections.abc import Sized
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.signature import _infer_signature_from_type_hints
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import (
    CONTENT_TYPE_JSON,
    CONTENT_TYPES,
    SCORING_PROTOCOL_CHANGE_INFO,
    invocations,
)
from pydantic import TypeAdapter, ValidationError

from data_modules.errors import UserError
from lightning_modules.saving import load_model
from pipelines.task import find_task

# What MLflow's own server sets: by it, MLflow reads payloads as a server does.
os.environ.setdefault("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")

#: Characters of a reason: MLflow's may repeat all that was sent.
LONGEST_REASON = 1000
#: Histories or texts of one request: more of them keep the others waiting for many seconds.
MOST_ROWS = 2000


class Refusal(Exception):
    """A request that gets no answer.

    Args:
        status: Of HTTP.
        code: Of MLflow, such as ``INVALID_PARAMETER_VALUE``.
        message: What is wrong, and what to do.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        if len(message) > LONGEST_REASON:
            message = f"{message[:LONGEST_REASON]} …"
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Unanswered(MlflowException):
    """Carries an error of the model past MLflow, which would add all of the data to it."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class ScoredModel:
    """A model that answers the bodies of requests.

    Args:
        folder: With the weights and JSON of a model.
        name: What replies call it, such as ``models:/sines/3``.

    Attributes:
        metadata: With the signature; MLflow asks for it.

    Raises:
        UserError: If there is no model in the folder, or it is not one to be served.
    """

    def __init__(self, folder: Path, name: str) -> None:
        try:
            model = load_model(folder)
            serving = find_task(model.task).serving(model)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise UserError(f"{name} cannot be served: {error}") from error
        served: Any = serving.served()
        served.model = model
        # Either a signature tells what the model takes, or the types of its code do.
        hints = None if serving.signature else served.predict_type_hints
        signature = serving.signature or _infer_signature_from_type_hints(served, None, hints)
        self._type = TypeAdapter(hints.input) if hints else None
        self.name = name
        self.metadata = Model(signature=signature)
        self._example = serving.example
        self._model = PyFuncModel(self.metadata, served)
        self._input_schema = self.metadata.get_input_schema()

    @property
    def example(self) -> str:
        """The body of a request that the model can answer: the first row of its own example."""
        if isinstance(self._example, pd.DataFrame):
            rows = {"dataframe_records": self._example.head(1).to_dict("records")}
        else:
            rows = {"inputs": self._example[:1]}
        # In so few digits that it can be read.
        return json.dumps(
            json.loads(json.dumps(rows), parse_float=lambda each: float(f"{float(each):.4g}")),
            ensure_ascii=False,
        )

    def check(self) -> None:
        """Answers the model's own example.

        Raises:
            UserError: If it cannot.
        """
        try:
            self.predict(self._example)
        except _Unanswered as error:
            raise UserError(f"{self.name} does not answer its own example: {error.cause}") from (
                error.cause
            )

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Answers data that has been parsed; MLflow calls it."""
        if isinstance(data, Sized) and len(data) > MOST_ROWS:
            said = f"these are {len(data):,} at once: send {MOST_ROWS:,} at most in one request"
            raise _Unanswered(MlflowException.invalid_parameter_value(said))
        try:
            # Nothing is trained here: torch need not keep what training would need.
            with torch.inference_mode():
                return self._model.predict(data, params=params)
        except Exception as error:
            if isinstance(error, MlflowException) and self._type is not None:
                _check_type(self._type, data)
            raise _Unanswered(error) from error

    def score(self, body: bytes, content_type: str | None) -> bytes:
        """Answers a request to ``/invocations``.

        Args:
            body: Of the request.
            content_type: Its header.

        Returns:
            JSON.

        Raises:
            Refusal: If the request is wrong.
            Exception: Any other is a mistake of ours.
        """
        if content_type is None:
            raise Refusal(
                415, "BAD_REQUEST", f"there is no Content-Type: send one of {CONTENT_TYPES}"
            )
        payload: Any = body
        # Parsed here, once: MLflow would parse it twice.
        if content_type.partition(";")[0].strip() == CONTENT_TYPE_JSON:
            payload = _parsed(body)
        try:
            answer = invocations(payload, content_type, self, self._input_schema)
        except _Unanswered as failed:
            raise _refusal_of(failed.cause) from failed.cause
        except Exception as error:
            # The model has not been asked yet: this is about how the payload is written.
            raise Refusal(400, "BAD_REQUEST", f"the body cannot be read: {_said(error)}") from error
        if answer.status != 200:
            raise Refusal(answer.status, "BAD_REQUEST", _short(answer.response))
        return str(answer.response).encode()


def _parsed(body: bytes) -> dict[str, Any]:
    """Returns the object that a JSON body holds.

    Raises:
        Refusal: If it holds none.
    """
    wanted = 'send a JSON object, such as {"inputs": [...]}'
    try:
        found = json.loads(body)
    except RecursionError as error:
        raise Refusal(400, "BAD_REQUEST", f"the body is nested too deeply: {wanted}") from error
    except ValueError as error:  # no JSON, no UTF-8, or a number with thousands of digits
        raise Refusal(400, "BAD_REQUEST", f"the body is no JSON: {error}; {wanted}") from error
    if not isinstance(found, dict):
        raise Refusal(400, "BAD_REQUEST", f"the body is a JSON {type(found).__name__}: {wanted}")
    return found


def _check_type(wanted: "TypeAdapter[Any]", data: Any) -> None:
    """Says where data are not what the types of a model's code ask for, in fewer words than MLflow.

    Raises:
        _Unanswered: If they are not.
    """
    try:
        wanted.validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(["inputs", *map(str, first["loc"])])
        said = MlflowException.invalid_parameter_value(f"{place}: {first['msg']}")
        raise _Unanswered(said) from error


def _refusal_of(error: Exception) -> Exception:
    """Returns the refusal that a model's error is to the client; a mistake of ours stays itself."""
    if not isinstance(error, MlflowException) or error.get_http_status_code() >= 500:
        return error
    return Refusal(error.get_http_status_code(), error.error_code, _said(error))


def _said(error: Exception) -> str:
    """Returns the reason alone, where MLflow's message begins with all of the data."""
    if getattr(error, "error_class", None) == "SCHEMA_ENFORCEMENT_FAILED":
        return f"the input does not fit the model: {error.__context__}"
    return _short(str(error.message if isinstance(error, MlflowException) else error))


def _short(said: str) -> str:
    """Leaves out MLflow's advice to those who come from its first version."""
    return said.replace(SCORING_PROTOCOL_CHANGE_INFO, "").strip()
