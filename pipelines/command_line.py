"""Command lines: a mistake in one ends in one line, which says what to write instead."""

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, NoReturn

import jsonargparse

from lightning_modules.building import import_class
from pipelines.devices import tell_error

#: What a value must be, in plain words, by what jsonargparse calls it.
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
    "list": "a list, such as [a, b]",
    "dict": "options, such as {name: value}",
    "PositiveInt": "a whole number above 0",
    "NonNegativeInt": "a whole number, 0 or more",
    "PositiveFloat": "a number above 0",
}
#: An option that does not exist, and the group that it was to be in, where that is told apart.
_UNKNOWN = re.compile(
    r"unrecognized arguments: (?P<typed>[^\s=]+)"
    r"|Group '(?P<group>.+?)' does not accept option '(?P<member>.+?)'"
    r"|Option '(?P<name>.+?)' is not accepted"
)
_EXPECTED = re.compile(
    r"Expected a (?:typing\.)?(?:<class '(?P<kind>.+?)'>|Literal\[(?P<choices>.+?)\])"
    r"|Not of type (?P<restricted>\w+):"
)
_VALUE = re.compile(r"(?:Got|Given) value: (.*)")
_NO_CLASS = re.compile(r"has no attribute|dot import path string|Import path does not correspond")
#: Lines that tell how jsonargparse works, not what is wrong.
_INNER_WORKINGS = re.compile(
    r"Does not validate against|Subtypes: |Errors:|Problem with given class_path|Given value"
    r"|Expected a (<class 'NoneType'>|path but)|Parser key '[^']*':$|$"
)


class ArgumentParser(jsonargparse.ArgumentParser):
    """Tells of a mistake what is wrong and what to write instead, without a list of all options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Ends the program with status 2; raises where it is told not to exit."""
        if not self.exit_on_error:
            super().error(message, ex)
        said = readable(message, self)
        tell_error(f"{said}{'' if said.endswith('?') else '.'} See --help.")
        self.exit(2)


def readable(message: str, parser: jsonargparse.ArgumentParser) -> str:
    """Returns what a message of jsonargparse says, for users: the option, and what to write.

    Args:
        message: Of the error.
        parser: Whose options may have been meant.
    """
    option = ".".join(dict.fromkeys(re.findall(r'Parser key "([^"]*)"', message)))
    path = re.search(r"class_path '(.+?)'", message)
    unknown = _UNKNOWN.search(message)
    if unknown:
        typed, group, member, name = unknown.groups()
        if typed and not typed.startswith("-"):
            return f"{typed!r} belongs to no option"
        name = ".".join(filter(None, (option or group, member or name))) or typed.lstrip("-")
        known = {*_options(parser), *_class_options(parser, option, path[1] if path else "")}
        mark = "--" if typed else ""
        return f"there is no option {typed or name}{_suggestion(_closest(name, known), mark)}"
    value = _VALUE.search(message)
    base = re.search(r"Subtypes: \[<class '(.+?)'>", message)
    if _NO_CLASS.search(message) and base and value:
        given = path[1] if path else value[1]
        kind = import_class(base[1])
        classes = (each.__name__ for each in _subclasses(kind))
        close = get_close_matches(given.rpartition(".")[2], classes, 1)
        return f"{option}: {given} is no {kind.__name__}{_suggestion(close[0] if close else '')}"
    # The innermost reason comes first: what follows its value is about what is around it.
    wanted = list(_EXPECTED.finditer(message, 0, value.start() if value else len(message)))
    if any(each["kind"] != "NoneType" for each in wanted):
        write = " or ".join(dict.fromkeys(each for found in wanted for each in _wanted(found)))
        return f"{option}{f' is {value[1]}' if value else ''}: write {write}"
    lines = [line.strip(" -") for line in message.replace('"', "'").splitlines()]
    reasons = [
        re.sub(r"^Parser key '.*?': ", "", line)
        for line in lines
        if not _INNER_WORKINGS.match(line)
    ]
    return f"{f'{option}: ' if option else ''}{' '.join(dict.fromkeys(reasons))}".rstrip(".")


def _wanted(expected: re.Match[str]) -> list[str]:
    """Returns in plain words what a value may be."""
    if expected["choices"]:
        return re.findall(r"[^\s,']+", expected["choices"])
    kind = expected["kind"] or expected["restricted"]
    return [_KINDS.get(kind, kind)]


def _suggestion(name: str, mark: str = "") -> str:
    return f"; did you mean {mark}{name}?" if name else ""


def _options(parser: jsonargparse.ArgumentParser) -> Iterator[str]:
    """Yields the names of a parser's options, without dashes."""
    for action in parser._actions:
        for name in action.option_strings:
            if name.startswith("--") and not name.endswith(".help"):
                yield name.removeprefix("--")


def _class_options(parser: jsonargparse.ArgumentParser, option: str, path: str) -> Iterator[str]:
    """Yields the options of the class that was chosen for an option, as far as users give them."""
    action = next((each for each in parser._actions if each.dest == option), None)
    if action is None or not path:
        return
    its_own = jsonargparse.ArgumentParser(exit_on_error=False)
    its_own.add_class_arguments(import_class(path), option)
    skipped = {f"{option}.{name}" for name in getattr(action, "sub_add_kwargs", {}).get("skip", ())}
    yield from set(_options(its_own)) - skipped


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)


def _closest(name: str, options: Iterable[str]) -> str:
    """Returns the option that is most likely meant, or nothing.

    One of the same section, or of that name in another one, else whatever looks alike, or the same
    name in a section that does.
    """
    section, _, last = name.rpartition(".")
    split = {option: option.rpartition(".") for option in sorted(options)}
    beside = {end: option for option, (its, _, end) in split.items() if its == section}
    found = [beside[end] for end in get_close_matches(last, beside, 1)]
    found += [option for option, (_, _, end) in split.items() if end == last]
    if not beside:
        found += get_close_matches(name, split, 1, 0.8)
        found += [f"{its}.{last}" for its in get_close_matches(section, split, 1, 0.8)]
    return found[0] if found else ""
