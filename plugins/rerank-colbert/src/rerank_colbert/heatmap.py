"""A document's matrix of similarities as a heat map: the part of it that is shown, and its image."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Sequence
from typing import IO, Any, Final, NamedTuple

from rerank import InvalidInputError, InvalidOptionsError, Result, visible
from rerank_colbert.labels import LABEL, ROWS, cut

COLUMNS: Final = 80
"""How many document tokens a heat map shows at most."""


class HeatMap(NamedTuple):
    """The part of a matrix that a heat map shows."""

    rows: list[str]
    columns: list[str]
    scores: list[list[float]]  # (rows, columns)
    best: list[int]  # the column of each row's best match
    total: float  # the sum of the best matches of all rows, shown or not
    note: str

    @property
    def low(self) -> float:
        return min(map(min, self.scores))

    @property
    def high(self) -> float:
        return max(map(max, self.scores))


def heat_map(result: Result) -> HeatMap | None:
    """What to show of a document's matrix: the rows with the best matches, their columns, and the columns that come closest.

    Args:
        result: A result, with ``details["matrix"]`` if there is something to show.

    Returns:
        The part to show, or ``None`` if the result has no matrix, or an empty one.
    """
    matrix = result.details.get("matrix")
    if not matrix or not matrix["scores"] or not matrix["scores"][0]:
        return None
    scores: Sequence[Sequence[float]] = matrix["scores"]  # (query tokens, document tokens)
    rows = _largest([max(row) for row in scores], ROWS)
    best = [max(range(len(scores[row])), key=scores[row].__getitem__) for row in rows]
    closeness = [(column in best, max(scores[row][column] for row in rows)) for column in range(len(scores[0]))]
    columns = _largest(closeness, COLUMNS)
    notes = [
        f"{len(shown)} of {len(all_of_them)} {whose} tokens, those with the highest similarities"
        for shown, all_of_them, whose in ((rows, scores, "query"), (columns, closeness, "document"))
        if len(shown) < len(all_of_them)
    ]
    return HeatMap(
        rows=[cut(visible(matrix["query"][row]), LABEL) for row in rows],
        columns=[cut(visible(matrix["document"][column]), LABEL) for column in columns],
        scores=[[scores[row][column] for column in columns] for row in rows],
        best=[columns.index(column) for column in best],
        total=sum(map(max, scores)),
        note="; ".join(notes),
    )


def _largest(values: Sequence[Any], count: int) -> list[int]:
    """The positions of the largest values, in order."""
    return sorted(sorted(range(len(values)), key=values.__getitem__, reverse=True)[:count])


_CELL: Final = 0.24
"""Inches of a cell's side."""

_INK: Final = "#1f2328"


def draw_png(result: Result, query: str, file: str | os.PathLike[str] | IO[bytes]) -> None:
    """Draw a document's matrix of similarities as a heat map: a row per query token, a column per document token.

    Args:
        result: A result with ``details["matrix"]``.
        query: The query, for the title.
        file: Where to write the image.

    Raises:
        InvalidOptionsError: matplotlib is not installed.
        InvalidInputError: The result has no matrix, or an empty one.
    """
    check_drawing()
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    heat = heat_map(result)
    if heat is None:
        raise InvalidInputError(f"document {result.doc_id!r:.60} has no matrix to draw: rank with matches='matrix'")
    height, width = (_CELL * len(names) for names in (heat.rows, heat.columns))  # inches
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))  # labels lie outside: the image is cut to what is drawn
    font: dict[str, Any] = {"family": _fonts(), "parse_math": False, "color": _INK}
    oranges = ListedColormap(colormaps["Oranges"](range(216)))  # without the darkest, where a frame would not show
    mesh = axes.pcolormesh(heat.scores, cmap=oranges, edgecolors="white", linewidth=0.6)
    for row, column in enumerate(heat.best):
        frame = Rectangle((column, row), 1, 1, fill=False, edgecolor=_INK, linewidth=1.4, zorder=3, clip_on=False)
        axes.add_patch(frame)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=3)
    axes.set_yticks([row + 0.5 for row in range(len(heat.rows))], heat.rows, fontsize=9, **font)
    axes.set_xticks([c + 0.5 for c in range(len(heat.columns))], heat.columns, fontsize=9, rotation=90, **font)
    above = 1 + 0.1 / height
    axes.text(0, above + 0.22 / height, cut(visible(query), 80), transform=axes.transAxes, fontsize=12, **font)
    name = cut(visible(str(result.doc_id)), 40)
    facts = f"rank {result.rank}, document {name}, sum of the best matches {heat.total:.2f}"
    axes.text(0, above, facts, transform=axes.transAxes, fontsize=9, **font)
    caption = "Framed: the best match of each query token."
    axes.set_xlabel(f"{caption}\n{heat.note}." if heat.note else caption, loc="left", labelpad=8, fontsize=9, **font)
    bar_axes = figure.add_axes((1 + 0.15 / width, 0, 0.12 / width, 1))
    bar = figure.colorbar(mesh, cax=bar_axes)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, labelcolor=_INK)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(file, format="png", dpi=150, bbox_inches="tight", pad_inches=0.2)


def check_drawing() -> None:
    """Check that images can be drawn.

    Raises:
        InvalidOptionsError: matplotlib is not installed.
    """
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise InvalidOptionsError(
            f"an image needs matplotlib ({error}): pip install 'rerank-colbert[drawing]', or write a page with --html"
        ) from error


_MORE_FONTS: Final = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Noto Sans JP",
    "Noto Sans KR",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "IPAGothic",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Arial Unicode MS",
)
"""Fonts with Chinese, Japanese and Korean characters, which DejaVu Sans lacks."""


def _fonts() -> list[str]:
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _MORE_FONTS if name in installed)]
