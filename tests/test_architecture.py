"""What imports what: no circle, and MLflow known to one package alone."""

import ast
from pathlib import Path

import nnjit

PACKAGE = Path(nnjit.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
CLIENTS = {"MlflowClient", "open_store", "_client", "client"}


def name_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in SOURCES}


def imports(path):
    """Yield the modules that a file imports, inside of functions too, but not for types alone."""
    package = name_of(path).split(".")[: None if path.name == "__init__.py" else -1]
    waiting = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in NAMES else base
        waiting += ast.iter_child_nodes(node)


def circle(graph):
    """Return modules that import one another in a circle, none where there is no circle."""
    done, path = set(), []

    def walk(name):
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        path.append(name)
        for other in sorted(graph[name]):
            if found := walk(other):
                return found
        done.add(path.pop())
        return []

    return next((found for name in graph if (found := walk(name))), [])


def test_no_circle_not_even_inside_functions():
    graph = {name: {m for m in imports(path) if m in NAMES} for name, path in NAMES.items()}
    assert len(graph) > 100
    assert graph["nnjit.commands.predict"] > {"nnjit.tracking.store"}  # inside of a function
    for name, found in graph.items():  # a package that lists what is in it
        found.discard(name)
    assert not circle(graph)


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def clients(tree):
    """Yield names by which a file would handle a client of MLflow."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name | ast.arg | ast.alias):
            fields = ("attr", "id", "arg", "name")
            name = next(getattr(node, key) for key in fields if hasattr(node, key))
            if name in CLIENTS:
                yield name


def test_tracking_alone_knows_mlflow():
    """`nnjit.datasets` has clients of http, which are none of MLflow."""
    inside = [path for path in SOURCES if (PACKAGE / "tracking") in path.parents]
    assert any("mlflow" in set(imports(path)) for path in inside)
    for path in set(SOURCES) - set(inside):
        assert not [m for m in imports(path) if m.split(".")[0] == "mlflow"], path
        if (PACKAGE / "datasets") not in path.parents:
            assert not list(clients(ast.parse(path.read_text(encoding="utf-8")))), path
