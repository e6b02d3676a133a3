"""Search spaces: which options a sweep tries, and from which values.

A space is a YAML file with one option a line, named as on the command line::

    optimizer.learning_rate: {log_uniform: [0.0003, 0.03]}
    architecture.hidden_size: {log_integer: [8, 128]}
    architecture.recurrent_dropout: {uniform: [0, 0.5]}
    data.batch_size: {choice: [16, 32, 64]}

A choice may also name values of any kind, and an option may depend on one that stands before it::

    architecture:
      choice:
        lstm: {class_path: lightning_modules.architectures.LSTM}
        tdnn: {class_path: lightning_modules.architectures.TDNN}
    architecture.num_layers: {integer: [1, 3], when: {architecture: lstm}}
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from data_modules.errors import UserError
from pipelines.experiment import deep_merge, network_class, read_yaml

#: Sections of a configuration that name a class, whose options stand in ``init_args``.
_CLASSES = ("data", "model", "architecture")
#: What would make trials differ in more than what they are: how they are judged, or their luck.
_FIXED = {
    "metric": "all trials are judged by one",
    "seed": "the best seed of many is luck, not an option",
    "name": "trials are named by the sweep",
    "checkpoints": "trials have folders of their own",
}
_TRAINER = ("accumulate_grad_batches", "max_epochs", "max_steps", "precision")
_RANGES = {
    "uniform": (FloatDistribution, False),
    "log_uniform": (FloatDistribution, True),
    "integer": (IntDistribution, False),
    "log_integer": (IntDistribution, True),
}
_KINDS = (*_RANGES, "choice")


@dataclass(frozen=True)
class Parameter:
    """One option of a space.

    Attributes:
        name: As on the command line, such as ``architecture.hidden_size``.
        distribution: Of its values; those of a choice are labels.
        values: Label -> value of a choice; empty for a range.
        when: Earlier parameter -> label or labels with which this one exists.
    """

    name: str
    distribution: BaseDistribution
    values: Mapping[Any, Any]
    when: Mapping[str, tuple[Any, ...]]

    def applies(self, point: Mapping[str, Any]) -> bool:
        """Tells whether the option exists beside those that were chosen before."""
        return all(point.get(name) in labels for name, labels in self.when.items())

    def suggest(self, trial: optuna.Trial) -> Any:
        """Draws a value, or the label of one."""
        drawn = self.distribution
        if isinstance(drawn, CategoricalDistribution):
            return trial.suggest_categorical(self.name, drawn.choices)
        if isinstance(drawn, IntDistribution):
            return trial.suggest_int(
                self.name, drawn.low, drawn.high, log=drawn.log, step=drawn.step
            )
        assert isinstance(drawn, FloatDistribution)
        return trial.suggest_float(self.name, drawn.low, drawn.high, log=drawn.log, step=drawn.step)

    @property
    def ends(self) -> tuple[Any, ...]:
        """All labels of a choice, or both ends of a range."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.distribution.choices
        assert isinstance(self.distribution, FloatDistribution | IntDistribution)
        return self.distribution.low, self.distribution.high

    def change(self, chosen: Any) -> dict[str, Any]:
        """Returns what a chosen value changes, as a nested configuration."""
        first, *rest = self.name.split(".")
        if first in _CLASSES and rest and rest[0] not in ("init_args", "class_path"):
            rest.insert(0, "init_args")
        value = self.values.get(chosen, chosen)
        nested = reduce(lambda inner, key: {key: inner}, reversed([first, *rest]), value)
        return dict(nested)


class SearchSpace:
    """The options that a sweep tries.

    Args:
        path: A YAML file as above.

    Attributes:
        parameters: In the order of the file.
        text: Of the file.

    Raises:
        UserError: If the file is absent or no space; names the option and what to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parameters: list[Parameter] = []
        self.text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for name, given in read_yaml(path).items():
            self.parameters.append(self._parameter(str(name), given))
        if not self.parameters:
            raise UserError(f"{path} has no option: write one a line, with its values.")

    def _parameter(self, name: str, given: Any) -> Parameter:
        where = f"{self.path}: {name}"
        if name in _FIXED:
            raise UserError(f"{where} cannot be searched: {_FIXED[name]}.")
        section, _, option = name.partition(".")
        if section == "trainer" and option not in _TRAINER:
            raise UserError(
                f"{where} cannot be searched: it changes how trials are judged, or where they run; "
                f"of the trainer's options {', '.join(_TRAINER)} can."
            )
        kinds = [each for each in _KINDS if isinstance(given, Mapping) and each in given]
        if len(kinds) != 1 or set(given) - {kinds[0], "when", "step"}:
            raise UserError(
                f"{where} is {given!r}: write one of {', '.join(_KINDS)} and its values, such as "
                "{log_uniform: [0.0001, 0.1]}; 'step' and 'when' may stand beside it."
            )
        kind = kinds[0]
        if kind == "choice":
            if "step" in given:
                raise UserError(f"{where}: a choice has no step; list its values.")
            values = _labelled(given[kind], where)
            distribution: BaseDistribution = CategoricalDistribution(tuple(values))
        else:
            values, distribution = {}, _range(kind, given, where)
        return Parameter(name, distribution, values, self._when(given.get("when"), where))

    def _when(self, given: Any, where: str) -> dict[str, tuple[Any, ...]]:
        before = {each.name: each for each in self.parameters if each.values}
        if not isinstance(given, Mapping | None):
            raise UserError(f"{where}: 'when' is {given!r}: write {{option: value}}.")
        found = {}
        for name, labels in (given or {}).items():
            labels = tuple(labels) if isinstance(labels, list) else (labels,)
            if name not in before:
                raise UserError(
                    f"{where}: 'when' names {name!r}: write one of the choices that stand before "
                    f"it: {', '.join(before) or 'there is none'}."
                )
            unknown = [label for label in labels if label not in before[name].values]
            if unknown:
                raise UserError(
                    f"{where}: 'when' has {unknown[0]!r}: {name} may be "
                    f"{', '.join(map(str, before[name].values))}."
                )
            found[name] = labels
        return found

    def suggest(self, trial: optuna.Trial) -> None:
        """Draws a point: one value for each parameter that applies."""
        point: dict[str, Any] = {}
        for each in self.parameters:
            if each.applies(point):
                point[each.name] = each.suggest(trial)

    def distributions(self, point: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """Returns those of the parameters that a point has."""
        return {each.name: each.distribution for each in self.parameters if each.name in point}

    def apply(self, config: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a configuration with the options of a point."""
        merged = dict(config)
        for each in self.parameters:
            if each.name in point:
                merged = deep_merge(merged, each.change(point[each.name]))
        return merged

    def networks(self, base: Mapping[str, Any]) -> list[str]:
        """Returns the class paths of all networks that points may have."""
        return [network_class(self.apply(base, point)) for _, point in self.corners()]

    def corners(self) -> Iterator[tuple[Parameter, dict[str, Any]]]:
        """Yields points that together have both ends of all ranges, and all choices.

        Each comes with the parameter that is at one of its ends there; those before it have the
        first values with which it exists.
        """
        named = {each.name: each for each in self.parameters}
        for parameter in self.parameters:
            wanted: dict[str, Any] = {}
            above = [parameter]
            while above:  # what it depends on, and what that depends on
                needs = above.pop().when
                wanted |= {name: labels[0] for name, labels in needs.items()}
                above += [named[name] for name in needs]
            for end in parameter.ends:
                point: dict[str, Any] = {}
                for each in self.parameters:
                    if each is parameter:
                        point[each.name] = end
                    elif each.applies(point):
                        point[each.name] = wanted.get(each.name, each.ends[0])
                if parameter.applies(point):
                    yield parameter, point


def _labelled(given: Any, where: str) -> dict[Any, Any]:
    """Returns label -> value of a choice."""
    if isinstance(given, Mapping):
        values = dict(given)
    elif isinstance(given, list):
        plain = str | int | float | bool | None
        values = {each if isinstance(each, plain) else json.dumps(each): each for each in given}
    else:
        values = {}
    if len(values) < 2 or len(values) < len(given):
        raise UserError(f"{where}: choice is {given!r}: write two or more different values.")
    return values


def _range(kind: str, given: Mapping[str, Any], where: str) -> BaseDistribution:
    """Returns the distribution of a range."""
    make, log = _RANGES[kind]
    step = given.get("step")
    try:
        low, high = given[kind]
        if not low < high:
            raise ValueError("the first must be below the second")
        if make is IntDistribution:
            if not all(isinstance(each, int) for each in (low, high, step or 1)):
                raise ValueError("these must be whole numbers")
            return IntDistribution(low, high, log=log, step=step or 1)
        return FloatDistribution(float(low), float(high), log=log, step=step)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where}: {kind} is {given[kind]!r}{f', step {step}' if step else ''}: write [lowest, "
            f"highest] ({str(error).rstrip('.')})."
        ) from error
