"""Read and check YAML files of a config without Snakemake.

``python -m pipeline_lib.config.check my.yaml``
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline_lib.config.messages import check_duplicates
from pipeline_lib.config.root import Config, merged, parse
from pipeline_lib.errors import UserError, in_a_line


def check(paths: Sequence[Path]) -> Config:
    """The config that Snakemake makes of these files, the last one on top.

    Raises UserError with all mistakes.
    """
    content: dict[str, Any] = {}
    for path in paths:
        try:
            with path.open(encoding="utf-8") as handle:
                content = merged(content, yaml.safe_load(handle) or {})
        except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
            raise UserError(f"{path}: not a YAML file with keys ({in_a_line(error)})") from None
    check_duplicates(paths)
    return parse(content)


if __name__ == "__main__":
    try:
        check([Path(name) for name in sys.argv[1:]])
    except UserError as error:
        sys.exit(str(error))
    print("The config has no mistakes.")
