"""Check the archives in a folder before they are published: ``python tests/release/check.py dist``."""

from __future__ import annotations

import configparser
import re
import sys
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

CORE = "rerank-core>=0.1,<0.2"


def check(folder: Path, changelog: str) -> list[str]:
    """What is wrong with the wheels and source archives of a folder; nothing is best.

    Args:
        folder: Where the archives are.
        changelog: The text of ``CHANGELOG.md``.
    """
    wheels, sources = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    problems = [] if wheels else [f"{folder} holds no wheels: run nox -s build"]
    if lonely := {w.name.rsplit("-", 3)[0] for w in wheels} ^ {s.name.removesuffix(".tar.gz") for s in sources}:
        problems.append(f"a wheel or source archive is missing of {', '.join(sorted(lonely))}")
    versions: set[str] = set()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            (file_name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
            points = [name for name in names if name.endswith(".dist-info/entry_points.txt")]
            metadata = message_from_string(archive.read(file_name).decode())
            versions.add(str(metadata["Version"]))
            problems += [f"{wheel.name}: {problem}" for problem in _wheel_problems(names, metadata)]
            for name in points:
                problems += [f"{wheel.name}: {p}" for p in _dead_entry_points(archive.read(name).decode(), names)]
    for source in sources:
        with tarfile.open(source) as archive:
            files = {
                file.name.split("/", 1)[-1] for file in archive if file.isfile()
            }  # a link leads out of the archive
        problems += [f"{source.name} has no {name}" for name in ("LICENSE", "NOTICE") if name not in files]
    if len(versions) > 1:
        problems.append(f"the versions {', '.join(sorted(versions))} differ: give all distributions one")
    problems += [f"CHANGELOG.md says nothing of {v}" for v in sorted(versions) if f"## {v}" not in changelog]
    return problems


def _wheel_problems(names: list[str], metadata: Message) -> list[str]:
    problems = [
        f"has no {name}" for name in ("LICENSE", "NOTICE", "py.typed") if not any(n.endswith(f"/{name}") for n in names)
    ]
    for requirement in metadata.get_all("Requires-Dist", []):
        found = re.match(r"([\w.-]+)(?:\[[\w,]+\])?\s*([^;\s]*)", requirement)
        if found and found[1].startswith("rerank-") and set(found[2].split(",")) != {">=0.1", "<0.2"}:
            problems.append(f"requires {requirement!r}: bound it as in {CORE}")
    return problems


def _dead_entry_points(text: str, names: list[str]) -> list[str]:
    """Entry points whose module the wheel does not hold."""
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.read_string(text)
    targets = [target for section in parser.sections() for _, target in parser.items(section)]
    modules = {target: target.partition(":")[0].replace(".", "/") for target in targets}
    return [
        f"the entry point {target} leads nowhere"
        for target, module in modules.items()
        if f"{module}.py" not in names and f"{module}/__init__.py" not in names
    ]


if __name__ == "__main__":
    found = check(Path(sys.argv[1]), Path("CHANGELOG.md").read_text(encoding="utf-8"))
    sys.exit("\n".join(found) or 0)
