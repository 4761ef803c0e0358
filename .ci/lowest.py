"""Print the lowest versions that pyproject.toml allows, as constraints for pip."""

import re
import tomllib
from pathlib import Path


def lowest(project: dict) -> list[str]:
    """Return ``name==version`` for each direct dependency that names a least version."""
    optional = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(r for extra in optional.values() for r in extra)]
    found = {}
    for requirement in wanted:
        if match := re.match(r"([\w.-]+)(?:\[[\w,-]+\])?\s*>=\s*([\w.]+)", requirement):
            found[match[1]] = match[2]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


if __name__ == "__main__":
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    print("\n".join(lowest(tomllib.loads(text)["project"])))
