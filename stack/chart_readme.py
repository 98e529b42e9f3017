"""The table of values in the chart's README, made from values.yaml and its comments: `make chart-readme`.

It needs PyYAML, so it runs in the environment for development.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import yaml

from stack import cache

CHART = cache.REPOSITORY / "charts" / "modelset-operator"
BEGIN, END = "<!-- values: made by `make chart-readme` -->", "<!-- values: end -->"


class Undescribed(Exception):
    """A value has no comment right above it, or the README no place for the table."""


def rows(values: str) -> Iterator[tuple[str, str, str]]:
    """Yield path, default and description of each value; "" is the default of what only holds others."""
    document = yaml.compose(values)
    assert isinstance(document, yaml.MappingNode)
    yield from _rows(document, values.splitlines(), "")


def _rows(mapping: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[tuple[str, str, str]]:
    for key, value in mapping.value:
        path = f"{prefix}{key.value}"
        described = _comment_above(lines, key.start_mark.line, key.start_mark.column)
        # A mapping whose values are described is many values; in braces, or without comments, it is one.
        if isinstance(value, yaml.MappingNode) and not value.flow_style and _is_commented(value, lines):
            if described:
                yield path, "", described
            yield from _rows(value, lines, f"{path}.")
        elif described:
            yield path, json.dumps(_constructed(value), ensure_ascii=False), described
        else:
            raise Undescribed(f"values.yaml, line {key.start_mark.line + 1}: no comment above {path}")


def _constructed(node: yaml.Node) -> object:
    return yaml.constructor.SafeConstructor().construct_document(node)


def _is_commented(mapping: yaml.MappingNode, lines: list[str]) -> bool:
    return any(_comment_above(lines, key.start_mark.line, key.start_mark.column) for key, _ in mapping.value)


def _comment_above(lines: list[str], line: int, column: int) -> str:
    """The comment that ends right above a line and is indented as it is, as one line."""
    mark = " " * column + "#"
    first = line
    while first > 0 and lines[first - 1].startswith(mark):
        first -= 1
    return " ".join(text.removeprefix(mark).strip() for text in lines[first:line])


def table(values: str) -> str:
    """The values as a table in Markdown."""
    head = ["| value | default | |", "|---|---|---|"]
    body = [
        f"| `{path}` | {f'`{default}`' if default else ''} | {_cell(description)} |"
        for path, default, description in rows(values)
    ]
    return "\n".join([*head, *body])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def updated(readme: str, values: str) -> str:
    """The README with the table that belongs to these values."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Undescribed(f"the README has no place between {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{table(values)}\n{END}{after}"


def write(chart: Path = CHART) -> None:
    """Bring the README of the chart up to date."""
    readme = chart / "README.md"
    readme.write_text(updated(readme.read_text(), (chart / "values.yaml").read_text()))


if __name__ == "__main__":
    write()
