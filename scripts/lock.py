"""Resolve requirements*.in into requirements*.txt with pip-compile, from a virtual environment that is thrown away.

The locks hold versions only: no hashes, no index addresses, no paths. Existing pins stay unless ``--upgrade`` is given.
The oldest Python that the project supports does it, since newer ones need no package more.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
OPTIONS = (
    "--quiet",
    "--no-config",
    "--strip-extras",
    "--allow-unsafe",
    "--annotation-style=line",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--no-emit-trusted-host",
    "--no-emit-options",
)


def main(arguments: list[str]) -> int:
    """Write both locks; the second one is constrained by the first."""
    if sys.version_info[:2] != (3, 11):
        sys.stderr.write("The locks are resolved with Python 3.11: make lock PYTHON=python3.11\n")
        return 1
    environ = {**os.environ, "CUSTOM_COMPILE_COMMAND": "make lock"}
    with tempfile.TemporaryDirectory(prefix="novade-lock-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([f"{folder}/bin/pip", "install", "--quiet", "pip-tools"], check=True)
        for name in ("requirements", "requirements-test"):
            command = [f"{folder}/bin/pip-compile", *OPTIONS, *arguments, "--output-file", f"{name}.txt", f"{name}.in"]
            subprocess.run(command, cwd=PROJECT, env=environ, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
