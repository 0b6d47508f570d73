"""The part of a notebook that one of its cells stands on: `slice_of(notebook, number)`, without what only prints.

A widget at the end of a chapter needs perhaps ten of its sixty cells, and of these not the lines that print, assert or
draw. So a test can open the chapter's own widget cell, with the chapter's own objects, in a second instead of a minute.

    from the cell backwards:  a statement is kept when it binds or may change a name that is still wanted;
                              then what it reads is wanted too

"May change" is judged by form: `x[i] = …`, `x.a = …`, `x += …`, `x.method(…)` and `f(x)` as statements of their own.
`print`, `display`, `check` and assertions never count. What changes an object in any other way goes unseen, such as
`losses = [learn(model) for …]`: the model stands there untrained, which is what a test in a browser wants.
"""

import ast
import symtable
from collections.abc import Collection, Iterator, Mapping
from typing import Any

ONLY_SAYS = {"print", "display", "check"}


def slice_of(notebook: Mapping[str, Any], number: int, given: Collection[str] = ()) -> list[str]:
    """The sources of the cells that cell `number` (in the order of all cells) needs, cut down, and its own, whole.

    The names in `given` come from elsewhere, a stand-in say, so what makes them is not needed.
    """
    kept, late = [], set[str]()
    while True:
        before = len(late)
        kept = backwards(notebook["cells"], number, set(late), given)
        # a function reads its names when it is called: they may be made after it
        trees = [ast.parse(cell).body for cell in kept]
        late |= {name for body in trees for one in body if isinstance(one, ast.FunctionDef) for name in reads(one)}
        late -= set(given)
        if len(late) == before:
            return kept


def backwards(cells: Any, number: int, wanted: set[str], given: Collection[str]) -> list[str]:
    """One pass from the cell to the first, with some names wanted from the start."""
    kept = []
    for place in range(number, -1, -1):
        cell = cells[place]
        if cell["cell_type"] != "code":
            continue
        text, lines = "".join(cell["source"]), []
        for statement in reversed(ast.parse(text).body):
            bound = binds(statement)
            if place < number and not wanted & (bound | changes(statement)):
                continue
            if isinstance(statement, ast.Import | ast.ImportFrom) and place < number:
                statement.names = [one for one in statement.names if name_of(one) in wanted]
            if is_certain(statement):
                wanted -= bound
            wanted |= reads(statement) - set(given)
            lines.insert(0, said(statement, text))
        if lines:
            kept.insert(0, text if place == number else "\n".join(lines))
    return kept


def said(statement: ast.stmt, text: str) -> str:
    """A statement as it was written, with its decorators; imports as they are now."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return ast.unparse(statement)
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
    return "\n".join(text.splitlines()[first - 1 : statement.end_lineno])


def name_of(imported: ast.alias) -> str:
    """The name under which an import is known."""
    return (imported.asname or imported.name).split(".")[0]


def own_nodes(statement: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a statement, without what happens only when a function is called or a comprehension runs."""
    yield statement
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    if isinstance(statement, (*inner, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
        return
    for child in ast.iter_child_nodes(statement):
        yield from own_nodes(child)


def binds(statement: ast.stmt) -> set[str]:
    """The names that a statement binds."""
    found: set[str] = set()
    for node in own_nodes(statement):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler):
            found |= {node.name} - {None}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {name_of(one) for one in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def changes(statement: ast.stmt) -> set[str]:
    """The names whose objects a statement may change."""
    found: set[str] = set()
    for node in own_nodes(statement):
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            found.add(root(node))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            if root(call.func) in ONLY_SAYS:
                continue
            handed = [*call.args, *(keyword.value for keyword in call.keywords)]
            found |= {root(one) for one in handed}
            if isinstance(call.func, ast.Attribute):
                found.add(root(call.func))
    return found - {""}


def is_certain(statement: ast.stmt) -> bool:
    """Whether what a statement binds is new for sure: not in a branch or a loop, and not made from its old value."""
    return isinstance(statement, ast.Assign | ast.AnnAssign | ast.FunctionDef | ast.ClassDef)


def root(node: ast.AST) -> str:
    """The name on which an expression such as `a.b[0].c()` stands, "" for none."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Starred):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def reads(statement: ast.stmt) -> set[str]:
    """The names that a statement takes from outside: not those that belong to its functions and comprehensions."""
    top, found = symtable.symtable(ast.unparse(statement), "cell", "exec"), set[str]()
    tables = [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        found |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and (table is top or s.is_global())}
    return found - made_by_header(statement)


def made_by_header(statement: ast.stmt) -> set[str]:
    """The names that a loop or a `with` binds before its body reads them."""
    if isinstance(statement, ast.For):
        targets: list[ast.expr] = [statement.target]
    elif isinstance(statement, ast.With):
        targets = [item.optional_vars for item in statement.items if item.optional_vars]
    else:
        return set()
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
