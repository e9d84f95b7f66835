"""Outputs of a run on the user's own samples: scores.csv, explanations of the first alarms, and an HTML page.

Names of files and columns and the cells of a table are untrusted text. They are escaped on the page, and its content
security policy forbids scripts and external addresses.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmad_utils.calibrated import CrossFittedScores
from mmad_utils.course.results import css_width
from mmad_utils.encoders.columns import as_table
from mmad_utils.files import write_atomic

__all__ = ["first_alarms", "score_drop", "scores_table", "write_page"]

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
table{border-collapse:collapse;font-size:.85rem}td,th{padding:.25rem .6rem;border-bottom:1px solid #ccc;
text-align:left;overflow-wrap:break-word}th{white-space:nowrap}div{overflow-x:auto}img{max-width:100%}
h1{font-size:1.5rem;overflow-wrap:anywhere}h2{font-size:1.15rem;margin-top:2rem}"""

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><main><h1>{title}</h1>"""
Picture = tuple[bytes, str]


def scores_table(judgement: CrossFittedScores, names, y=None) -> pd.DataFrame:
    """Table of ``sample`` (row or image), ``score``, ``p_value``, ``alarm`` (0 or 1) and, where known, ``label``.

    A spreadsheet interprets a cell that begins with = + - or @ as a formula. Such a path gets the prefix ./ .
    """
    names = [f"./{name}" if str(name).startswith(("=", "+", "-", "@", "\t", "\r")) else name for name in names]
    columns = {"sample": names, "score": judgement.scores, "p_value": judgement.p_values}
    table = pd.DataFrame(columns | {"alarm": judgement.alarms.astype(int)})
    return table if y is None else table.assign(label=y)


def score_drop(
    judgement: CrossFittedScores, X: pd.DataFrame, rows, *, n_others: int = 30, seed: int = 0
) -> pd.DataFrame:
    """Decrease of the score of a row when one of its values is replaced by that of a row without alarm.

    See ``CalibratedDetector.score_drop``.

    Parameters
    ----------
    judgement : CrossFittedScores of X with a ``ColumnEncoder``; a row is scored by the detector that has not seen it
    X : (n, columns) DataFrame
    rows : (k,) int, rows to explain
    n_others : int, other rows, drawn from those without alarm
    seed : int

    Returns
    -------
    (k, columns that are not left out) DataFrame, in units of the score
    """
    quiet = np.flatnonzero(~judgement.alarms)
    others = X.iloc[np.random.default_rng(seed).choice(quiet, min(n_others, len(quiet)), replace=False)]
    changes = [judgement.detectors[judgement.fold[row]].score_drop(X.iloc[[row]], others) for row in rows]
    return pd.concat(changes).set_axis(list(rows))


def first_alarms(judgement: CrossFittedScores, changes: pd.DataFrame, X, names, *, most: int = 3) -> pd.DataFrame:
    """One line for each explained row: its name, score, p-value, and the values that caused the alarm."""
    X, lines = as_table(X), []
    for row, change in changes.iterrows():
        largest = change.dropna().sort_values(ascending=False).head(most)
        cells = [f"{name} = {_short(X[name].iloc[row])} ({fall:+.1f})" for name, fall in largest.items()]
        lines.append([names[row], judgement.scores[row], judgement.p_values[row], "; ".join(cells)])
    return pd.DataFrame(lines, columns=["sample", "score", "p_value", "value (by which the score would fall)"])


def write_page(path: Path, title: str, sections: Sequence[Sequence[str | pd.DataFrame | Picture]]) -> None:
    """One self-contained HTML page.

    Parameters
    ----------
    path : Path, is replaced atomically
    title : str
    sections : the heading of each, then its content: paragraphs as plain text, tables, figures (a PNG by
        ``results.png_bytes`` and its text alternative)
    """
    heading = html.escape(title)
    parts = [HEAD.format(title=heading, style=STYLE)]
    for name, *items in sections:
        parts.append(f"<section><h2>{html.escape(str(name))}</h2>")
        parts += [_item(item, str(name)) for item in items]
        parts.append("</section>")
    write_atomic(path, "\n".join([*parts, "</main></body></html>\n"]).encode())


def _item(item: str | pd.DataFrame | Picture, name: str) -> str:
    if isinstance(item, str):
        return f"<p>{html.escape(item)}</p>"
    if isinstance(item, pd.DataFrame):
        table = item.map(_short).to_html(index=False, border=0, escape=True)
        return f'<div tabindex="0" role="region" aria-label="{html.escape(name)}">{table}</div>'
    png, alternative = item
    address = "data:image/png;base64," + base64.b64encode(png).decode()
    return f'<img src="{address}" width="{css_width(png)}" alt="{html.escape(alternative)}">'


def _short(cell) -> str:
    """A cell in short form: three digits, at most 200 characters, a dash for a missing value."""
    if isinstance(cell, (float, np.floating)):
        return "–" if np.isnan(cell) else f"{cell:.3g}"
    text = str(cell)
    return text if len(text) <= 200 else text[:199] + "…"
