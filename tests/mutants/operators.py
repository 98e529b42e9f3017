"""The small changes that are made to a source, each by itself. Pure.

Functions are changed, and texts that are constants of modules. What is left alone: log calls, texts for
people (they have a space in them), docstrings, annotations, decorators, defaults of parameters, what stands
in classes outside of their methods, and numbers that a module names: a test that pins how long something may
take says the number a second time, and that is no test.
"""

import ast
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
}
_ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
}
# A condition that is negated as a whole would be the same as one of these turned round.
_TURNED_ROUND = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Mutant(NamedTuple):
    """One change: the text from ``start`` to ``end`` becomes ``text``; offsets are in bytes.

    ``place`` is the function, as its ``__qualname__``, that begins at ``first_line``; or a module's constant,
    and 0.
    """

    place: str
    first_line: int
    line: int
    start: int
    end: int
    text: str

    def applied(self, source: bytes) -> bytes:
        """Return the source with the change."""
        return source[: self.start] + self.text.encode() + source[self.end :]

    def told(self, source: bytes) -> str:
        """Return the lines that change, before and after, as one line."""
        begin = source.rfind(b"\n", 0, self.start) + 1
        finish = source.find(b"\n", self.end)
        before = source[begin:finish]
        after = source[begin : self.start] + self.text.encode() + source[self.end : finish]
        return " -> ".join(" ".join(text.decode().split()) for text in (before, after))


def mutants(source: bytes) -> list[Mutant]:
    """Return all changes to a source that leave it valid Python."""
    return list(_Finder(source).module(ast.parse(source)))


class _Finder:
    """Walks through a source; ``_place`` and ``_first_line`` are as in ``Mutant``."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        lines = source.splitlines(keepends=True)
        self._lines = [0, *itertools.accumulate(map(len, lines))]
        self._place = ""
        self._first_line = 0

    def module(self, tree: ast.Module) -> Iterator[Mutant]:
        for statement in tree.body:
            match statement:
                case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar"))):
                    pass
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._place, self._first_line = name, 0
                    for node in ast.walk(value):
                        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes | bool):
                            yield from self._literal(node)
        yield from self._functions(tree.body, "")

    def _functions(self, body: list[ast.stmt], prefix: str) -> Iterator[Mutant]:
        for statement in body:
            if isinstance(statement, ast.ClassDef):
                yield from self._functions(statement.body, f"{prefix}{statement.name}.")
            elif isinstance(statement, Function):
                decorators = [decorator.lineno for decorator in statement.decorator_list]
                self._place = prefix + statement.name
                self._first_line = min([statement.lineno, *decorators])
                yield from self._body(statement.body)

    def _body(self, body: list[ast.stmt]) -> Iterator[Mutant]:
        for statement in body:
            yield from self._statement(statement)

    def _statement(self, node: ast.stmt) -> Iterator[Mutant]:
        if isinstance(node, ast.Expr) and (isinstance(node.value, ast.Constant) or _logs(node.value)):
            return
        if isinstance(node, Function):
            yield from self._body(node.body)
            return
        if isinstance(node, ast.If | ast.While):
            yield from self._condition(node.test)
        yield from self._replaced(node)
        yield from self._within(node)

    def _replaced(self, node: ast.stmt) -> Iterator[Mutant]:
        """Yield a statement that does nothing, or has nothing, in its place."""
        match node:
            case ast.Expr() | ast.Raise() | ast.Delete() | ast.AugAssign():
                yield self._change(node, "pass")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
                yield self._change(node, "pass")
            case ast.Assign(targets=[ast.Name()], value=value) if not _is_none(value):
                yield self._change(value, "None")
            case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
                yield self._change(value, "None")
            case ast.Break():
                yield self._change(node, "continue")
            case ast.Continue():
                yield self._change(node, "break")

    def _within(self, node: ast.AST) -> Iterator[Mutant]:
        """Yield changes to a node and all in it that is code."""
        if isinstance(node, ast.Constant | ast.JoinedStr):
            yield from self._literal(node)
        yield from self._operation(node)
        yield from self._parts(node)
        if isinstance(node, ast.JoinedStr) or _logs(node):
            return
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "defaults", "kw_defaults"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.stmt):
                    yield from self._statement(child)
                elif isinstance(child, ast.AST):
                    yield from self._within(child)

    def _literal(self, node: ast.Constant | ast.JoinedStr) -> Iterator[Mutant]:
        match node:
            case ast.Constant(value=bool() as value):
                yield self._change(node, str(not value))
            case ast.Constant(value=int() | float() as number):
                yield self._change(node, repr(number + 1))
            case ast.Constant(value=str() as text) if not _is_prose(text):
                yield self._change(node, repr("XX" + text))
            case ast.Constant(value=bytes() as data):
                yield self._change(node, repr(b"XX" + data))
            case ast.JoinedStr(values=parts) if not any(
                _is_prose(getattr(part, "value", None)) for part in parts
            ):
                yield self._insert(node, '"XX" ')

    def _operation(self, node: ast.AST) -> Iterator[Mutant]:
        match node:
            case ast.Compare(ops=ops):
                sides = itertools.pairwise([node.left, *node.comparators])
                for (left, right), op in zip(sides, ops, strict=True):
                    yield self._between(left, right, *_COMPARISONS[type(op)])
            case ast.BoolOp(op=op, values=values):
                words = ("and", "or") if isinstance(op, ast.And) else ("or", "and")
                for left, right in itertools.pairwise(values):
                    yield self._between(left, right, *words)
            case ast.BinOp():
                yield self._arithmetic(node.left, node.op, node.right)
            case ast.AugAssign():
                yield self._arithmetic(node.target, node.op, node.value, "=")
            case ast.UnaryOp(op=ast.Not()):
                start, _ = self._span(node)
                yield self._make(node, start, start + len("not "), "")

    def _parts(self, node: ast.AST) -> Iterator[Mutant]:
        match node:
            case ast.IfExp(test=test):
                yield from self._condition(test)
            case ast.comprehension(ifs=tests):
                for test in tests:
                    yield from self._condition(test)
            case ast.Call(keywords=[_, *_]):
                yield from self._without_keywords(node)

    def _condition(self, test: ast.expr) -> Iterator[Mutant]:
        turned = isinstance(test, ast.Compare) and isinstance(test.ops[0], _TURNED_ROUND)
        if not turned and not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
            start, end = self._span(test)
            yield self._make(test, start, end, f"not ({self._source[start:end].decode()})")

    def _arithmetic(self, left: ast.expr, op: ast.operator, right: ast.expr, suffix: str = "") -> Mutant:
        before, after = _ARITHMETIC[type(op)]
        return self._between(left, right, re.escape(before + suffix), after + suffix)

    def _without_keywords(self, call: ast.Call) -> Iterator[Mutant]:
        given: list[ast.expr | ast.keyword] = [*call.args, *call.keywords]
        given.sort(key=lambda one: (one.lineno, one.col_offset))
        for before, one, after in zip([call.func, *given], given, [*given[1:], None], strict=False):
            if isinstance(one, ast.keyword) and one.arg is not None:
                start, end = self._span(one)
                if after is not None:
                    end = self._span(after)[0]
                elif before is not call.func:
                    start = self._span(before)[1]
                    # Leave the brackets around what comes before alone.
                    start = self._source.index(b",", start)
                yield self._make(one, start, end, "")

    def _between(self, left: ast.expr, right: ast.expr, before: str, after: str) -> Mutant:
        """Exchange the operator between two operands, where there may be brackets too."""
        start, end = self._span(left)[1], self._span(right)[0]
        found = re.search(rf"(?<!\w){before}(?!\w)".encode(), self._source[start:end])
        assert found, self._source[start:end]
        return self._make(left, start + found.start(), start + found.end(), after)

    def _change(self, node: ast.stmt | ast.expr, text: str) -> Mutant:
        return self._make(node, *self._span(node), text)

    def _insert(self, node: ast.expr, text: str) -> Mutant:
        start, _ = self._span(node)
        return self._make(node, start, start, text)

    def _make(self, node: ast.stmt | ast.expr | ast.keyword, start: int, end: int, text: str) -> Mutant:
        return Mutant(self._place, self._first_line, node.lineno, start, end, text)

    def _span(self, node: ast.stmt | ast.expr | ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def _offset(self, line: int, column: int) -> int:
        return self._lines[line - 1] + column


def _logs(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="_logger" | "log"))):
            return True
    return False


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_prose(text: object) -> bool:
    return isinstance(text, str) and " " in text
