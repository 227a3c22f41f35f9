"""The Python code that jinja2 makes of a template, with a count at every place where work is done.

jinja2's sandbox says what a template may reach; how long it runs and how much it makes is counted by calls that are put into the code
itself: at each turn of a loop and each start of a function, around each call, comparison and list. A template has no name for them.
"""

from __future__ import annotations

import ast
from types import CodeType

_OURS = {"context", "environment", "missing", "undefined", "Undefined"}
_LOOKS = {"getattr", "getitem"}  # of the environment: they make nothing new


def counted(source: str, filename: str) -> CodeType:
    """Compiled code that spends `environment.step`, `.touched` and `.made`. Raises SyntaxError, RecursionError or MemoryError."""
    tree = ast.parse(source, filename)
    tree.body = [_Counted().visit(node) if isinstance(node, ast.FunctionDef) else node for node in tree.body]
    return compile(ast.fix_missing_locations(tree), filename, "exec")


class _Counted(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.body = [_step(), *(self.visit(part) for part in node.body)]
        return node  # defaults and decorators are jinja2's own

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        node.body.insert(0, _step())
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        node.args = [_touched(one) for one in node.args]
        for keyword in node.keywords:
            keyword.value = _touched(keyword.value)
        return _spent("touched" if isinstance(node.func, ast.Attribute) and node.func.attr in _LOOKS else "made", node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if not any(isinstance(one, ast.Name) and one.id == "missing" for one in node.comparators):
            node.left, node.comparators = _touched(node.left), [_touched(one) for one in node.comparators]
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        return _spent("made", node) if isinstance(node.ctx, ast.Load) else node

    def _display(self, node: ast.List | ast.Tuple | ast.Dict) -> ast.AST:
        self.generic_visit(node)
        assigned = not isinstance(getattr(node, "ctx", ast.Load()), ast.Load)
        return node if assigned else _spent("made", node)

    visit_List = visit_Tuple = visit_Dict = _display


def _spent(how: str, value: ast.expr) -> ast.expr:
    function = ast.Attribute(ast.Name("environment", ast.Load()), how, ast.Load())
    return ast.copy_location(ast.Call(function, [value], []), value)


def _touched(value: ast.expr) -> ast.expr:
    """Counted where it is a value of the template; calls and lists count themselves."""
    if isinstance(value, ast.Starred):
        value.value = _touched(value.value)
        return value
    ours = isinstance(value, ast.Name) and value.id in _OURS
    return value if ours or isinstance(value, (ast.Constant, ast.Call)) else _spent("touched", value)


def _step() -> ast.stmt:
    return ast.Expr(ast.Call(ast.Attribute(ast.Name("environment", ast.Load()), "step", ast.Load()), [], []))
