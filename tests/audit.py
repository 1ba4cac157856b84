"""Audit of the lock: which pinned versions have known vulnerabilities (``make audit``).

Fails where one is known. Where the advisory service does not answer, one line says so and the
audit passes: a machine without a network can still be developed on.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[1] / "envs" / "requirements.lock"
SERVICE = "https://api.osv.dev/v1/query"
SILENCE_S = 10
"""Longest wait for one answer; there is one question per package."""
WHOLE_S = 300

NO_ANSWER = re.compile(r"(requests|urllib3)\.exceptions\.|ServiceError|blocking this service")
"""What pip-audit ends in where the service cannot be reached, or does not answer properly."""


def known_vulnerabilities(lock: Path, service: str) -> list[dict[str, Any]] | str:
    """The pinned packages, each with its vulnerabilities; or why they are unknown.

    Raises RuntimeError if pip-audit fails for another reason, such as a lock with other than pins.
    """
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    asked = ["--vulnerability-service", "osv", "--osv-url", service, "--timeout", str(SILENCE_S)]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), *options, *asked]
        try:
            ended = subprocess.run(
                [*command, "--output", str(report)], capture_output=True, text=True, timeout=WHOLE_S
            )
        except subprocess.TimeoutExpired:
            return f"no end after {WHOLE_S} s"
        if report.exists():
            packages: list[dict[str, Any]] = json.loads(report.read_text())["dependencies"]
            return packages
    last = ended.stderr.strip().rpartition("\n")[2]
    if NO_ANSWER.search(last):
        return last.partition(":")[0].rpartition(".")[2] or "no answer"
    raise RuntimeError(f"pip-audit failed: {last}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Audit the pinned packages")
    parser.add_argument("--lock", type=Path, default=LOCK, help="pins, one per line")
    parser.add_argument("--service", default=SERVICE, help="address of an OSV service")
    arguments = parser.parse_args()
    found = known_vulnerabilities(arguments.lock, arguments.service)
    if isinstance(found, str):
        print(f"audit: {arguments.service} does not answer ({found}); nothing was audited")
        return 0
    for package in found:
        for known in package.get("vulns", ()):
            fixed = ", ".join(known["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {known['id']}, fixed in {fixed}")
    affected = sum(bool(package.get("vulns")) for package in found)
    print(f"audit: {len(found)} pinned packages, {affected} with known vulnerabilities")
    return 1 if affected else 0


if __name__ == "__main__":
    sys.exit(main())
