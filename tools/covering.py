"""Which tests run a line of code, the fastest first: those are the first that can notice a change of it."""

import ast
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Collection, Sequence
from pathlib import Path

from coverage import CoverageData


class Covering:
    """What the tests that pass have run, in their own process. It can be pickled."""

    def __init__(self, root: Path, app: str, tests: Sequence[str]) -> None:
        """Run the tests once, under coverage.py, but not those that take long, most of which only start processes."""
        with tempfile.TemporaryDirectory() as folder:
            data, report = Path(folder, "coverage"), Path(folder, "report.xml")
            command = [sys.executable, "-m", "pytest", "-q", "-n", "2", f"--cov={app}", "--cov-context=test"]
            command += ["--cov-report=", f"--junitxml={report}", "-m", "not slow and not browser", *tests]
            environment = os.environ | {"COVERAGE_FILE": str(data)}
            subprocess.run(command, cwd=root, env=environment, stdout=subprocess.DEVNULL, check=False)
            self._seconds = {
                f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}": float(
                    case.get("time", 0)
                )
                for case in ET.parse(report).iter("testcase")  # noqa: S314 - our own report
                if not len(case)
            }
            found = CoverageData(str(data))
            found.read()
            self._lines = {
                Path(file).relative_to(root): found.contexts_by_lineno(file)
                for file in found.measured_files()
            }

    def of(self, path: Path, text: str, line: int) -> list[str]:
        """The tests that run the statement of that line."""
        statements = (each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.stmt))
        around = [
            each.lineno for each in statements if each.lineno <= line <= (each.end_lineno or each.lineno)
        ]
        contexts = self._lines.get(path, {}).get(max(around, default=line), ())
        tests = {context.partition("|")[0] for context in contexts} & self._seconds.keys()
        return sorted(tests, key=self._seconds.__getitem__)

    def among(self, files: Collection[str]) -> list[str]:
        """The tests of these files."""
        tests = (test for test in self._seconds if test.partition("::")[0] in files)
        return sorted(tests, key=self._seconds.__getitem__)
