"""The report of a comparison: one HTML file that needs nothing but itself.

The figures are inline SVG, the table sorts with a few lines of inline JavaScript, and every name
that came from outside is escaped.
"""

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from pipelines.formatting import (
    MISSING,
    count,
    number,
    p_value,
    percent,
    plural,
    ratio,
)
from pipelines.plot_scale import PlotScale
from pipelines.report_words import how_compared, how_to_read
from pipelines.results import METRICS, Protocol
from pipelines.task import find_task

CAPTIONS = {
    "error_vs_parameters": "Test error against size. Further down is better, further left is "
    "smaller. Circles are networks, squares are baselines, bars are intervals of the mean error.",
    "error_vs_time": "Test error against the time to train one seed, and against the time that one "
    "step of one sequence takes. Timings are of this machine, with other trials beside them.",
    "learning_curves": "Validation error during training, mean and range over the seeds.",
}

CSS = """
:root { color-scheme: light; --ink: #1f2328; --quiet: #5b616b; --line: #e2e5ea; --good: #0b6b3a; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: #fff; margin: 0 auto;
  max-width: 1180px; padding: 1.5rem clamp(0.8rem, 3vw, 2.5rem) 4rem; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 0.6rem; }
p, li { max-width: 75ch; } li { margin: 0.3rem 0; }
.quiet, figcaption { color: var(--quiet); font-size: 0.9rem; }
.note { border-left: 4px solid #d97706; background: #fff7e8; padding: 0.6rem 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; font-size: 0.86rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.32rem 0.55rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
th button { font: inherit; font-weight: 600; border: 0; background: none; padding: 0;
  cursor: pointer; color: inherit; }
th[aria-sort=ascending] button::after { content: " ▲"; }
th[aria-sort=descending] button::after { content: " ▼"; }
tr.chosen td { background: #e9f7ef; font-weight: 600; }
tr.limit td { color: var(--quiet); font-style: italic; }
.mark { display: inline-block; width: 1.2em; color: var(--good); font-style: normal; }
.kind { color: var(--quiet); font-size: 0.78rem; font-weight: 400; }
.plot { position: relative; min-width: 9rem; padding: 0 0.6rem; }
.plot div { position: relative; height: 1.2rem; }
.plot i, .plot b { position: absolute; }
.plot i { top: 0.55rem; height: 0.15rem; min-width: 1px; background: #7aa2f7; }
.plot b { top: 0.38rem; width: 0.5rem; height: 0.5rem; margin-left: -0.25rem; border-radius: 50%;
  background: #2563eb; }
tr.chosen .plot b { background: var(--good); } tr.limit .plot b { background: #111827; }
figure { margin: 1.4rem 0 2rem; } figure svg { width: 100%; min-width: 620px; height: auto; }
figcaption { max-width: 75ch; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
table.texts th, table.texts td { text-align: left; white-space: normal; vertical-align: top; }
table.texts td:first-child { position: static; min-width: 24rem; overflow-wrap: anywhere; }
@media print { .scroll { overflow: visible; } }
"""

JAVASCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => row.cells[column].dataset.value;
    const order = (a, b) => column ? a - b : a.localeCompare(b);
    const rows = [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      return up ? order(x, y) : order(y, x);
    });
    body.append(...rows);
  }));
}
"""


def report_html(
    table: pd.DataFrame,
    verdict: Sequence[str],
    figures: Mapping[str, Figure],
    protocol: Protocol,
    tables: Mapping[str, pd.DataFrame] | None = None,
) -> str:
    """Writes the report of a comparison.

    Args:
        table: From :func:`pipelines.leaderboard.leaderboard`.
        verdict: Sentences from :func:`pipelines.leaderboard.verdict`.
        figures: From :func:`pipelines.figures.figures`, shown in their order.
        protocol: What the models have in common.
        tables: More tables to show, by their titles.

    Returns:
        A whole HTML document with no reference to anything outside of it.
    """
    title = escape(protocol.title)
    short = (
        '<p class="note">This is a short run. Trained longer, the models may rank differently.</p>'
        if protocol.short
        else ""
    )
    captions = CAPTIONS | dict(find_task(protocol.task).captions)
    pictures = "\n".join(
        _figure(name, figure, captions.get(name, name.replace("_", " ")))
        for name, figure in figures.items()
    )
    more = "\n".join(_plain_table(name, each) for name, each in (tables or {}).items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{CSS}</style>
</head>
<body>
<h1>{title}</h1>
<p class="quiet">{escape(_summary(table, protocol))}</p>
{short}
<h2>Verdict</h2>
{_list(verdict)}
<h2>Leaderboard</h2>
{_table(table, protocol)}
<h2>Pictures</h2>
{pictures or "<p>There are none.</p>"}
{more}
<h2>How the models were compared</h2>
{_list(how_compared(protocol))}
<h2>How to read the intervals</h2>
{_list(how_to_read(table, protocol))}
<h2>Data</h2>
{_data(protocol)}
{_missing(protocol)}
<script>{JAVASCRIPT}</script>
</body>
</html>
"""


def _summary(table: pd.DataFrame, protocol: Protocol) -> str:
    shown = protocol.shown
    networks = int((table["kind"] == "network").sum())
    baselines = int((table["kind"] == "baseline").sum())
    return (
        f"{plural(networks, 'network')} and {plural(baselines, 'baseline')} "
        f"{protocol.spec.question}. Metric: {shown.shown_words}{protocol.units}."
    )


def _list(sentences: Sequence[str]) -> str:
    items = "\n".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>\n{items}\n</ul>"


def _columns(table: pd.DataFrame, protocol: Protocol) -> list[tuple[str, str, Any]]:
    """Returns column, heading and format of what the table shows beside model and plot."""
    metric, shown = protocol.metric, protocol.shown
    task, others = find_task(protocol.task), protocol.other_metrics

    def short(value: float) -> str:
        return number(value) if value < 99.5 else count(value)

    columns: list[tuple[str, str, Any]] = [
        ("p_value", "p (Holm)", p_value),
        ("relative_to_floor", "of floor", ratio),
        ("parameters", "parameters", count),
        ("train_seconds", "training (s)", short),
        ("inference_us_per_step", f"µs per {protocol.wording.step}", short),
        (
            f"validation_{metric}",
            f"validation {shown.shown_label}",
            lambda value: number(shown.shown(value)),
        ),
        *[(f"test_{name}", f"test {METRICS[name].label}", number) for name in others],
        ("learning_rate", "learning rate", lambda value: f"{value:g}"),
        *[(column.name, column.heading, column.write) for column in task.columns],
        ("seeds", "seeds", count),
    ]
    return [column for column in columns if table[column[0]].notna().any()]


def _table(table: pd.DataFrame, protocol: Protocol) -> str:
    error = f"test_{protocol.metric}"
    columns = _columns(table, protocol)
    confidence = percent(protocol.confidence)
    shown = protocol.shown
    drawn = f"{shown.scale} scale"
    drawn = f"{shown.words}, {drawn}" if shown.complement else drawn
    heads = ["model", f"test {shown.shown_label}", drawn, f"{confidence} interval"]
    heads += [heading for _, heading, _ in columns]
    head = "".join(f'<th><button type="button">{escape(text)}</button></th>' for text in heads)
    ends_and_means = pd.concat([table[error + end] for end in ("", "_low", "_high")])
    scale = PlotScale(ends_and_means, shown.scale)
    rows = []
    for _, row in table.iterrows():
        mean, low, high = (float(row[error + end]) for end in ("", "_low", "_high"))
        mark = "★" if row["chosen"] else "≈" if row["indistinguishable"] else ""
        kind = "" if row["kind"] == "network" else f' <span class="kind">{row["kind"]}</span>'
        name = f'<span class="mark">{mark}</span>{escape(row["model"])}{kind}'
        span, read = MISSING, shown.shown(mean)
        if math.isfinite(low):
            ends = shown.shown_interval(low, high)
            span = " to ".join(number(end, like=read) for end in ends)
        cells = [
            f'<td data-value="{escape(row["model"])}">{name}</td>',
            _cell(read, number(read)),
            _cell(mean, _dot(mean, low, high, scale), "plot"),
            _cell(high - low, span),
        ]
        for column, _, write in columns:
            value = float(row[column])
            cells.append(_cell(value, write(value) if math.isfinite(value) else MISSING))
        style = "chosen" if row["chosen"] else row["kind"]
        rows.append(f'<tr class="{style}">{"".join(cells)}</tr>')
    alike = "≈ cannot be told apart from it. " if table["indistinguishable"].any() else ""
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + '\n</tbody></table></div>\n<p class="quiet">★ chosen on validation. '
        f"{alike}Click a heading to sort. Limits are bounds, not candidates.</p>"
    )


def _cell(value: float, text: str, style: str = "") -> str:
    key = f"{value:.10g}" if math.isfinite(value) else ""
    attribute = f' class="{style}"' if style else ""
    return f'<td{attribute} data-value="{key}">{text}</td>'


def _dot(mean: float, low: float, high: float, scale: PlotScale) -> str:
    """Draws an error as a dot on a scale, on a line as long as its interval."""
    if not scale.holds(mean):
        return ""
    line = ""
    if scale.least <= low < high < math.inf:
        start, end = 100 * scale.share(low), 100 * scale.share(high)
        line = f'<i style="left:{start:.2f}%;width:{end - start:.2f}%"></i>'
    return f'<div>{line}<b style="left:{100 * scale.share(mean):.2f}%"></b></div>'


def _plain_table(title: str, table: pd.DataFrame) -> str:
    """Returns a table of texts and numbers, with its title as a heading."""
    head = "".join(f"<th>{escape(str(name))}</th>" for name in table.columns)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{escape(_plain(value))}</td>" for value in row) + "</tr>"
        for row in table.itertuples(index=False)
    )
    return (
        f'<h2>{escape(title)}</h2>\n<div class="scroll"><table class="texts"><thead><tr>{head}</tr>'
        f"</thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _figure(name: str, figure: Figure, caption: str) -> str:
    return (
        f'<figure id="{escape(name)}"><div class="scroll">{_svg(figure, name, caption)}</div>\n'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _svg(figure: Figure, name: str, label: str) -> str:
    """Returns a figure as an SVG element without metadata, prologue or comments."""
    file = io.StringIO()
    # Clip paths of several figures in one document must not share their ids.
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(width|height)="[\d.]+pt"', "", text, count=2)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1).strip()


def _data(protocol: Protocol) -> str:
    data = dict(protocol.data)
    item = protocol.wording.item
    sizes = data.pop(f"{item}s", {})
    digest = str(data.pop("digest", "") or protocol.spec.digest)
    items = {"digest": digest} | {f"{part} {item}s": count(n) for part, n in sizes.items()}
    items |= {str(name).replace("_", " "): _plain(value) for name, value in data.items()}
    rows = "\n".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in items.items()
    )
    return f"<dl>\n{rows}\n</dl>"


def _plain(value: Any) -> str:
    """Writes a value of the data's description for people."""
    if value is None:
        return MISSING
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int | float):
        return count(value) if float(value).is_integer() else number(value)
    if isinstance(value, list | tuple):
        if len(value) > 1 and all(item == value[0] for item in value):
            return f"{_plain(value[0])} ({len(value)} times)"
        return ", ".join(_plain(item) for item in value) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_plain(item)}" for key, item in value.items()) or "none"
    return json.dumps(value, default=str)


def _missing(protocol: Protocol) -> str:
    parts = []
    if protocol.failures:
        parts.append(f"<h2>Trials that failed</h2>\n{_list(protocol.failures)}")
    if protocol.left_out:
        parts.append(f"<h2>Left out</h2>\n{_list(protocol.left_out)}")
    return "\n".join(parts)
