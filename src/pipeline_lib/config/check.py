"""Check the files of a config without Snakemake, which does not tell where YAML is wrong.

``python -m pipeline_lib.config.check my.yaml``
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline_lib.config.root import Config, parse
from pipeline_lib.config.yaml_files import check_files, read_file
from pipeline_lib.errors import UserError


def check(paths: Sequence[Path]) -> Config:
    """The config that Snakemake makes of these files.

    Raises
    ------
    UserError
        With what is wrong in them.
    """
    from snakemake.utils import update_config

    content = Config().model_dump(mode="json")
    for path in paths:
        update_config(content, read_file(path))
    check_files(paths)
    return parse(content)


if __name__ == "__main__":
    try:
        check([Path(name) for name in sys.argv[1:]])
    except UserError as error:
        sys.exit(str(error))
    print("The config has no mistake.")
