"""The table of values in the chart's README follows values.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack import chart_readme

VALUES = """\
# What the file is about.

# Who acts.
# And who stands by.
replicas: 1
image:
  # A name.
  repository: ours
  # One | or another.
  tag: ""

# Kubernetes' own.
resources:
  requests: {cpu: 50m}
  limits: {}
# In braces.
labels: {a: "1"}
"""


def test_a_value_is_described_by_the_comment_right_above_it() -> None:
    assert list(chart_readme.rows(VALUES)) == [
        ("replicas", "1", "Who acts. And who stands by."),
        ("image.repository", '"ours"', "A name."),
        ("image.tag", '""', "One | or another."),
        ("resources", '{"requests": {"cpu": "50m"}, "limits": {}}', "Kubernetes' own."),
        ("labels", '{"a": "1"}', "In braces."),
    ]


def test_what_holds_others_has_a_line_of_its_own_where_it_is_described() -> None:
    described = VALUES.replace("image:\n", "# All of it.\nimage:\n")
    assert ("image", "", "All of it.") in list(chart_readme.rows(described))


def test_a_bar_does_not_end_a_cell() -> None:
    assert '| `image.tag` | `""` | One \\| or another. |' in chart_readme.table(VALUES)


@pytest.mark.parametrize("undescribed", ["more: 1\n", "# Far off.\n\nmore: 1\n", "  # Elsewhere.\nmore: 1\n"])
def test_a_value_without_a_comment_is_an_error_that_names_it(undescribed: str) -> None:
    with pytest.raises(chart_readme.Undescribed, match="no comment above more"):
        list(chart_readme.rows(VALUES + undescribed))


def test_only_the_table_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(VALUES)
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{chart_readme.BEGIN}\nold\n{chart_readme.END}\nafter\n")
    chart_readme.write(tmp_path)
    first = readme.read_text()
    assert first.startswith(f"before\n{chart_readme.BEGIN}\n| value | default | |\n")
    assert first.endswith(f"|\n{chart_readme.END}\nafter\n")
    assert "old" not in first
    chart_readme.write(tmp_path)
    assert readme.read_text() == first


@pytest.mark.parametrize("readme", ["", chart_readme.BEGIN, chart_readme.END])
def test_a_readme_without_a_place_for_the_table_is_an_error(readme: str) -> None:
    with pytest.raises(chart_readme.Undescribed, match="no place"):
        chart_readme.updated(readme, VALUES)


def test_the_charts_readme_is_up_to_date() -> None:
    readme = (chart_readme.CHART / "README.md").read_text()
    values = (chart_readme.CHART / "values.yaml").read_text()
    assert readme == chart_readme.updated(readme, values), "make chart-readme"
