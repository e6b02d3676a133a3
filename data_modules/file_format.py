"""How a file of numbers is written."""

import dataclasses
from pathlib import Path
from typing import Any, Self


@dataclasses.dataclass(frozen=True)
class FileFormat:
    """How a CSV file is written; a model keeps that of its data, for further files alike.

    Attributes:
        separator: What stands between cells: one character, "tab" or "space".
        decimal: The decimal mark, "." or ",".
        encoding: Text encoding.
        header: Whether the first line names the columns.
        date_format: How dates are written, as in ``strptime``, or "unix"; None where they are of
            ISO 8601, or there are none.
    """

    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    header: bool = True
    date_format: str | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any] | None) -> Self:
        """Rebuilds a format; the default one for models saved before they kept any (None)."""
        return cls(**values or {})

    @property
    def delimiter(self) -> str:
        """The character to write between cells; one blank for any number of them."""
        characters = {"tab": "\t", "\\t": "\t", "space": " ", r"\s+": " "}
        return characters.get(self.separator, self.separator)

    def of(self, path: str | Path) -> Self:
        """Returns the format of a file: that of a .tsv (.tsv.gz) has tabs for the usual commas."""
        tabs = self.separator == "," and ".tsv" in Path(path).suffixes
        return self.changed(separator="tab") if tabs else self

    def changed(self, **options: Any) -> Self:
        """Returns the format with those of some options that are not None."""
        given = {name: value for name, value in options.items() if value is not None}
        if given.get("separator") == self.decimal and "decimal" not in given:
            given["decimal"] = "."  # the other one was for the other separator
        return dataclasses.replace(self, **given)
