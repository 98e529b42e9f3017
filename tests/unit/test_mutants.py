"""Which changes `make mutants` makes, and how it judges what came of them."""

import gc
import textwrap

import pytest

from tests.mutants import operators, programs, trials, verdicts


def _changes(body: str) -> list[str]:
    source = "def f():\n" + textwrap.indent(textwrap.dedent(body), "    ") + "\n"
    return [mutant.told(source.encode()).split(" -> ")[1] for mutant in operators.mutants(source.encode())]


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("a()", ["pass"]),
        ("a.b = None", ["pass"]),
        ("a = None", []),
        ("a = b", ["a = None"]),
        ("a = True", ["a = None", "a = False"]),
        ("a += 1", ["pass", "a -= 1", "a += 2"]),
        ("return a", ["return None"]),
        ("return 1", ["return 2"]),
        ("raise Bad('so and so')", ["pass"]),
        ("del a", ["pass"]),
        ("return (a) < (b)", ["return None", "return (a) <= (b)"]),
        ("return a is not b", ["return None", "return a is b"]),
        ("return a not in b", ["return None", "return a in b"]),
        ("return not a", ["return None", "return a"]),
        ("return a or b or c", ["return None", "return a and b or c", "return a or b and c"]),
        ("return a // b", ["return None", "return a / b"]),
        ("return 'a'", ["return 'XXa'"]),
        ("return f'{a}'", ["return None", "return \"XX\" f'{a}'"]),
        ("return f'{a} b'", ["return None"]),
        ("a(b, c=d, *e)", ["pass", "a(b, *e)"]),
        ("a((b), c=d)", ["pass", "a((b))"]),
        ("a(c=d)", ["pass", "a()"]),
        ("return b if a else c", ["return None", "return b if not (a) else c"]),
        ("return [a for a in b if c]", ["return None", "return [a for a in b if not (c)]"]),
        ("_logger.info('so', extra=a(b))", []),
        ("log.info('so', a(b))", []),
        ("'What it does.'", []),
        ("a: int = b", []),
    ],
)
def test_a_line_is_changed_in_these_ways(line: str, changes: list[str]) -> None:
    assert _changes(line) == changes


@pytest.mark.parametrize(
    ("test", "changes"),
    [
        ("a", ["if not (a):"]),
        ("a and b", ["if not (a and b):", "if a or b:"]),
        ("a < b", ["if not (a < b):", "if a <= b:"]),
        ("a == b", ["if a != b:"]),
        ("not a", ["if a:"]),
    ],
)
def test_a_condition_is_turned_round_once(test: str, changes: list[str]) -> None:
    assert _changes(f"if {test}:\n    pass") == changes


def test_loops_are_left_early_or_late() -> None:
    assert _changes("while a:\n    break") == ["while not (a):", "continue"]
    assert _changes("for a in b:\n    continue") == ["break"]


def test_functions_are_changed_wherever_they_are_and_so_are_constants() -> None:
    source = b'''"""About."""
_SECONDS = 5.0
_NAMES = {"a"}


class A:
    field: int = 1

    @property
    def one(self, given=1) -> int:
        def inner():
            return self.a
        return inner
'''
    found = {(mutant.place, mutant.first_line, mutant.line) for mutant in operators.mutants(source)}
    assert found == {("_NAMES", 0, 3), ("A.one", 9, 12), ("A.one", 9, 13)}


def test_each_change_leaves_valid_python() -> None:
    source = b"def f(a):\n  return g(\n    a,  # is it \xc3\xa9?\n    b=not (a and\n      1),\n  )\n"
    for mutant in operators.mutants(source):
        compile(mutant.applied(source), "f", "exec")


def _verdicts(reasons: dict[str, str], *fared: tuple[str, str]) -> verdicts.Verdicts:
    found = verdicts.Verdicts(reasons)
    for name, verdict in fared:
        found.take("dispatch", f"core.py {name}", verdict)
    return found


def test_a_survivor_needs_a_reason() -> None:
    fared = [(f"f: {number}", trials.KILLED) for number in range(9)] + [("f: a -> b", trials.SURVIVED)]
    assert not _verdicts({}, *fared).good()
    assert _verdicts({"core.py f: a -> b": "equal"}, *fared).good()


def test_enough_have_to_be_killed_whatever_the_reasons() -> None:
    fared = [("f: a", trials.TIMED_OUT)] * 84 + [("f: b", trials.SURVIVED)] * 16
    found = _verdicts({"core.py f: b": "equal"}, *fared)
    assert not found.good()
    assert "84.0%" in found.table()[-1]


def test_reasons_for_what_is_killed_by_now_are_told() -> None:
    found = _verdicts({"core.py f: a": "equal", "other.py f: a": "equal"}, ("f: a", trials.KILLED))
    assert found.stale({"core.py"}) == ["core.py f: a"]


@pytest.mark.parametrize(
    ("names", "found", "tests"),
    [
        (["dispatch/core.py"], {"dispatch/core.py": "dispatch"}, ("serve_app/tests", "benchmarks")),
        (
            ["operator/workqueue.py"],
            {"operator/workqueue.py": "operator/"},
            ("operator/tests/operator_tests",),
        ),
        (["cache/store.py"], {"cache/store.py": "cache/"}, ("operator/tests/cache_tests",)),
        (
            ["operator/cluster/http.py", "app.py"],
            {"operator/cluster/http.py": "operator/cluster", "app.py": "."},
            ("serve_app/tests", "benchmarks", "operator/tests/operator_tests"),
        ),
    ],
)
def test_files_are_named_by_their_program_and_only_its_tests_are_run(
    names: list[str], found: dict[str, str], tests: tuple[str, ...]
) -> None:
    selected = programs.selected(names)
    assert {name: programs.package(name) for name in selected.paths} == found
    assert selected.tests == tests


def test_all_programs_are_changed_when_none_is_named() -> None:
    names = set(programs.selected([]).paths)
    assert {
        "dispatch/core.py",
        "operator/plan/decide.py",
        "operator/reconciler.py",
        "cache/store.py",
    } <= names
    assert "cache/__main__.py" not in {*names, *programs.selected(["cache"]).paths}
    assert set(programs.selected(["operator"]).paths) >= {
        name for name in names if name.startswith("operator/")
    }


def test_what_was_imported_stays_out_of_the_garbage_collectors_sight() -> None:
    trials._functions({})
    assert gc.get_freeze_count() > len(gc.get_objects())
