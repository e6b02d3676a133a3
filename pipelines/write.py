"""``python -m pipelines.write "text" --out note.svg``: text in, handwriting out."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import Namespace

from data_modules.errors import UserError
from pipelines.command_line import ArgumentParser
from pipelines.experiment import explained, user_errors

if TYPE_CHECKING:
    from data_modules.handwriting.ink import Ink
    from lightning_modules.handwriting_synthesizer import HandwritingSynthesizer
    from pipelines.writing.proofreading import Reader
    from pipelines.writing.writer import Written

#: Name by which the model that comes with Unroll is meant.
SHIPPED = "pretrained"
#: Millimetres of the small letters: a metre. More is a slip, and takes for ever to draw.
_LARGEST = 1000.0


def parser() -> ArgumentParser:
    """Returns the command line of this pipeline."""
    write_parser = ArgumentParser(
        prog="python -m pipelines.write",
        allow_abbrev=False,
        description="Writes a text by hand, as SVG and, if asked, as PNG, G-code and strokes.",
    )
    write_parser.add_argument("text", type=str, help="What to write; - reads it from the input.")
    for option, kind, default, text in (
        ("--out", str, "handwriting.svg", "SVG file; other files go beside it under its name."),
        ("--model", str, SHIPPED, "models:/<name>@champion, runs:/<run id>, or a folder."),
        ("--style", str | None, None, "Sample to write like: FILE or FILE:KEY, with its text; see "
         "data_modules/handwriting/json_lines.py."),
        ("--legibility", float, 0.5, "0 writes as the training data, more writes more cleanly."),
        ("--width", int, 40, "Most characters in a line."),
        ("--align", Literal["left", "center", "right"], "left", "Where shorter lines go."),
        ("--seed", int, 0, "Decides everything that chance decides."),
        ("--retries", int, 5, "How often a faulty line is written again."),
        ("--proofread", bool | None, None, "Read lines back with the recogniser that comes with "
         "Unroll, and write again what it cannot read; by default for the pretrained model."),
        ("--num_threads", int, 1, "CPU threads; more are seldom faster for a few lines."),
        ("--replace", bool, False, "Put the most similar characters in place of unknown ones."),
        ("--body_height", float, 2.5, "Height of small letters in millimetres."),
        ("--ink", str, "#1b2a5e", "Colour, such as #000000."),
        ("--single_line", bool, False, "SVG of single strokes of one width, for plotters."),
        ("--png", bool, False, "Also write a PNG."),
        ("--gcode", bool, False, "Also write G-code, in millimetres."),
        ("--lift", Literal["z", "servo"], "z", "How the G-code lifts the pen."),
        ("--json", bool, False, "Also write the strokes as JSON lines, readable as a --style."),
        ("--attention", bool, False, "Also draw where in the text the network looked, per line."),
    ):  # fmt: skip
        write_parser.add_argument(option, type=kind, default=default, help=text)
    return write_parser


def load_synthesizer(uri: str) -> "HandwritingSynthesizer":
    """Loads a model that can write.

    Raises:
        UserError: If there is none, or it cannot write.
    """
    from lightning_modules.handwriting_synthesizer import HandwritingSynthesizer
    from lightning_modules.pretrained import load_pretrained
    from pipelines.predict import load

    with explained():
        model = load_pretrained("synthesizer") if uri == SHIPPED else load(uri)
    if not isinstance(model, HandwritingSynthesizer):
        raise UserError(
            f"--model {uri} is a {type(model).__name__}, which cannot write; give a "
            "HandwritingSynthesizer."
        )
    return model


def split_style(given: str) -> tuple[Path, str]:
    """Returns the file of a style, FILE or FILE:KEY, and the key of its line, or none."""
    name, _, key = given.rpartition(":")
    if not name or Path(os.path.expanduser(given)).exists():
        name, key = given, ""
    return Path(os.path.expanduser(name)), key


def read_style(path: Path, key: str, model: "HandwritingSynthesizer") -> "Ink":
    """Reads a sample of a style: a line of a file, prepared as the model's training lines were.

    Args:
        path: The file.
        key: Of the line; empty for the first one.
        model: Must know the characters of the line.

    Raises:
        UserError: If there is no such file or line, or it cannot be used.
    """
    from data_modules.handwriting.alphabet import encode
    from data_modules.handwriting.preparation import Preparation, prepare_style
    from data_modules.handwriting.reading import read_ink

    inks = read_ink(path)
    chosen = [ink for ink in inks if not key or ink.key == key]
    if not chosen:
        raise UserError(f"--style: {path} has no line {key!r}; its first is {inks[0].key!r}.")
    style = prepare_style(
        chosen[0], Preparation(**model.spec.preparation), model.spec.points_per_character
    )
    try:
        encode(style.text, model.spec.alphabet)
    except UserError as error:
        raise UserError(f"--style: {path}, line {chosen[0].key!r}: {error}") from error
    return style


def load_reader(config: Namespace, model: "HandwritingSynthesizer") -> "Reader | None":
    """Returns what reads written lines back, if anything does.

    The recogniser that comes with Unroll knows the hands of the synthetic pen, so it reads the
    lines of the model that comes with it, and those of others if it is told to.

    Raises:
        UserError: If it is told to, but does not know all characters of the model.
    """
    from lightning_modules.pretrained import load_pretrained

    if config.proofread is None and config.model != SHIPPED or config.proofread is False:
        return None
    recognizer = load_pretrained("recognizer")
    unknown = sorted(set(model.spec.alphabet) - set(recognizer.spec.alphabet))
    if unknown:
        raise UserError(
            f"--proofread: the recogniser does not know {', '.join(map(repr, unknown))}, which "
            "--model writes; leave --proofread out."
        )
    reader: Reader = recognizer.read
    return reader


def write(config: Namespace) -> list[str]:
    """Writes a text and its files.

    Args:
        config: Of :func:`parser`.

    Returns:
        Lines that say what was written, and what went wrong.

    Raises:
        UserError: If an option or a file is wrong; then nothing is written.
    """
    import torch

    from data_modules.handwriting.alphabet import encode, replace_unknown
    from pipelines.files import check_files
    from pipelines.writing.colours import hexadecimal
    from pipelines.writing.writer import write_text

    if not 0 < config.body_height <= _LARGEST:
        raise UserError(
            f"--body_height is {config.body_height}: write millimetres above 0, at most {_LARGEST}."
        )
    hexadecimal(config.ink, "--ink")
    out = Path(os.path.expanduser(config.out))
    if out.suffix.lower() != ".svg":
        raise UserError(
            f"--out is {config.out!r}: write the name of an SVG file, such as note.svg."
        )
    beside = {"--png": ".png", "--gcode": ".gcode", "--json": ".jsonl"}
    style_path, style_key = split_style(config.style) if config.style else (None, "")
    check_files(
        {"--style": str(style_path) if style_path else None},
        {"--out": str(out)}
        | {
            option: str(out.with_suffix(ending))
            for option, ending in beside.items()
            if config[option.removeprefix("--")]
        },
    )
    if config.num_threads < 1:
        raise UserError(f"--num_threads is {config.num_threads}: write 1 or more.")
    torch.set_num_threads(config.num_threads)
    model = load_synthesizer(config.model)
    text = _read_input() if config.text == "-" else config.text
    said = []
    if config.replace:
        lines = [replace_unknown(line, model.spec.alphabet) for line in text.split("\n")]
        text = "\n".join(line for line, _ in lines)
        replaced = {old: new for _, each in lines for old, new in each.items()}
        said += [
            f"replaced {old!r} by {new!r}" if new else f"left out {old!r}"
            for old, new in replaced.items()
        ]
    encode(" ".join(text.split()), [*model.spec.alphabet, " "])  # blanks part words and lines
    style = read_style(style_path, style_key, model) if style_path else None
    written = write_text(
        model,
        text,
        config.width,
        config.legibility,
        config.seed,
        config.retries,
        style,
        config.align,
        load_reader(config, model),
    )
    files = _files(written, config, out)
    for path, content in files.items():
        path.write_bytes(content)
    said += [f"wrote {path}" for path in files]
    for row in written.given_up:
        sample, verdict = written.samples[row], written.verdicts[row]
        said.append(
            f"warning: {sample.text!r} is faulty after {written.attempts[row]} attempts: "
            f"{verdict}. Try another --seed, a higher --legibility, or other words."
        )
    return said


def _read_input() -> str:
    """Reads the text from the standard input."""
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UserError(f"the input is no text that can be read ({error}): give UTF-8.") from error


def _files(written: "Written", config: Namespace, out: Path) -> dict[Path, bytes]:
    """Returns the content of each file."""
    from io import BytesIO

    from pipelines.writing.attention_figure import attention_figure
    from pipelines.writing.gcode import to_gcode
    from pipelines.writing.json_strokes import to_json_lines
    from pipelines.writing.png import to_png
    from pipelines.writing.svg import to_svg

    page, look = written.page, {"body_height": config.body_height, "ink": config.ink}
    files: dict[Path, Any] = {out: to_svg(page, **look, single_line=config.single_line)}
    if config.png:
        files[out.with_suffix(".png")] = to_png(page, **look)
    if config.gcode:
        files[out.with_suffix(".gcode")] = to_gcode(
            page,
            body_height=config.body_height,
            lift=config.lift,
            # A servo's positions are no millimetres.
            down=90.0 if config.lift == "servo" else 0.0,
        )
    if config.json:
        files[out.with_suffix(".jsonl")] = to_json_lines(page)
    for number, sample in enumerate(written.samples if config.attention else [], start=1):
        picture = BytesIO()
        attention_figure(sample.text, sample.offsets, sample.window).savefig(picture, dpi=120)
        files[out.with_suffix(f".attention-{number}.png")] = picture.getvalue()
    return {
        path: content.encode("utf-8") if isinstance(content, str) else content
        for path, content in files.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pipeline from the command line."""
    config = parser().parse_args(arguments)
    with user_errors():
        try:
            lines = write(config)
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}.") from error
    print("\n".join(lines))


if __name__ == "__main__":
    main()
