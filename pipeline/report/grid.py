"""A figure as a table: which cell stands in which row and column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.report.axes import axis_title, axis_value, place, varying
from pipeline.report.cells import Cell, Figure, Panel


@dataclass(frozen=True)
class Column:
    panel: Panel
    name: str
    """Within its panel; empty where it is the only one."""


@dataclass(frozen=True)
class Grid:
    titles: tuple[str, ...]
    """Of the columns that name a row."""
    rows: list[tuple[str, ...]] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    cells: dict[tuple[int, int], Cell] = field(default_factory=dict)
    """{(row, column): cell}; a place that the sweep does not have is not there."""

    def put(self, row: tuple[str, ...], column: Column, cell: Cell) -> None:
        for known, new in ((self.rows, row), (self.columns, column)):
            if new not in known:
                known.append(new)
        self.cells[self.rows.index(row), self.columns.index(column)] = cell

    def row(self, index: int) -> list[tuple[int, Cell]]:
        """(column, cell) of a row."""
        return [(c, self.cells[index, c]) for c in range(len(self.columns)) if (index, c) in self.cells]

    def column(self, index: int) -> list[tuple[int, Cell]]:
        """(row, cell) of a column."""
        return [(r, self.cells[r, index]) for r in range(len(self.rows)) if (r, index) in self.cells]


def grid(figure: Figure, rows: Sequence[str]) -> Grid:
    """Panels side by side, each with its columns. `rows`: axes down the rows, x where there are none."""
    if figure.is_log:
        return _by_size(figure)
    places = [cell.axes for cell in figure.cells]
    down = varying(places, rows or (figure.x,)) or (tuple(rows) or (figure.x,))[:1]
    others = [axis for axis in (figure.x, *figure.series) if axis not in down]
    across = varying(places, others, (*down, *figure.panels[0].axes))
    found = Grid(tuple(map(axis_title, down)))
    for panel in figure.panels:
        for cell in panel.cells:
            row = tuple(axis_value(axis, cell.axes.get(axis)) for axis in down)
            found.put(row, Column(panel, place(cell.axes, across)), cell)
    return found


def _by_size(figure: Figure) -> Grid:
    """Levels first, then x upwards; lines in columns. A level stands in the column of every line that it belongs to."""
    sizes = {cell.axes[figure.x] for cell in figure.cells if not figure.is_level(cell.axes)}
    levels = [figure.level_name(cell) for panel in figure.panels for cell in figure.levels(panel)]
    rows = [(name,) for name in dict.fromkeys(levels)] + [(axis_value(figure.x, x),) for x in sorted(sizes)]
    found = Grid((axis_title(figure.x),), rows)
    for panel in figure.panels:
        for name, cell in _columns(figure, panel):
            row = figure.level_name(cell) if figure.is_level(cell.axes) else axis_value(figure.x, cell.axes[figure.x])
            found.put((row,), Column(panel, name), cell)
    return found


def _columns(figure: Figure, panel: Panel) -> Iterator[tuple[str, Cell]]:
    for name, line in figure.lines(panel).items():
        yield from ((name, cell) for cell in line)
    for level in figure.levels(panel):
        yield from ((name, level) for name in figure.lines_beside(level.axes, panel) or [""])
