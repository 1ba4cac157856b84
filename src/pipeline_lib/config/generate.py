"""Generate the defaults file, the JSON schema and the table of keys from the config blocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline_lib.config.messages import keys_of
from pipeline_lib.config.root import Config

HEADER = (
    "# The paper's configuration; generated from src/pipeline_lib/config.\n"
    "# README.md in this folder explains every key.\n"
)


class _Dumper(yaml.SafeDumper):
    """Writes lists of plain values on one line."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        plain = all(not isinstance(item, list | dict) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=plain or flow_style)


def defaults_yaml() -> str:
    """The paper's configuration, with a comment on every block."""
    parts = [HEADER]
    for name, value in Config().model_dump(mode="json").items():
        block = yaml.dump({name: value}, Dumper=_Dumper, sort_keys=False, width=98)
        parts.append(f"# {Config.model_fields[name].description}\n{block}")
    return "\n".join(parts)


def key_table() -> str:
    """A Markdown table: key, default, meaning."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in keys_of(Config):
        if not isinstance(field.default, BaseModel):
            rows.append(f"| `{name}` | {_default(field)} | {field.description} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.default
    if isinstance(default, dict) and all(isinstance(one, BaseModel) for one in default.values()):
        return ", ".join(default) or "`{}`"
    if isinstance(default, tuple):
        if default and isinstance(default[0], BaseModel):
            return ", ".join(block.name for block in default)
        return f"`{list(default)}`"
    return f"`{json.dumps(default, default=str)}`"


def generated_files(root: Path) -> dict[Path, str]:
    """Path and content of every generated file; of ``config/README.md`` only the table changes."""
    folder = root / "config"
    begin, end = "<!-- keys: begin -->\n", "<!-- keys: end -->"
    before, rest = (folder / "README.md").read_text().split(begin)
    return {
        folder / "config.yaml": defaults_yaml(),
        folder / "schema.json": json.dumps(Config.model_json_schema(), indent=1) + "\n",
        folder / "README.md": before + begin + key_table() + end + rest.split(end)[1],
    }


if __name__ == "__main__":
    for path, content in generated_files(Path(__file__).parents[3]).items():
        path.write_text(content)
