"""Generate the defaults file, the JSON schema and the table of keys from the config blocks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline_lib.config.keys import keys_of
from pipeline_lib.config.root import Config

HEADER = (
    "# The paper's configuration; generated from src/pipeline_lib/config.\n"
    "# README.md in this folder explains every key.\n"
)


def defaults_yaml() -> str:
    """The paper's configuration, with a comment on every block."""
    content = Config().model_dump(mode="json")
    lines = [HEADER.rstrip(), ""]
    for name, field in Config.model_fields.items():
        lines.append(f"# {field.description}")
        lines.append(_dump({name: content[name]}).rstrip())
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


class _Dumper(yaml.SafeDumper):
    """Writes lists of plain values on one line."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        plain = all(not isinstance(item, list | dict) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=plain or flow_style)


def _dump(content: Mapping[str, Any]) -> str:
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=98, allow_unicode=True)


def json_schema() -> str:
    """The JSON schema of the config."""
    return json.dumps(Config.model_json_schema(), indent=1) + "\n"


def key_table() -> str:
    """A Markdown table: key, default, meaning."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for key in keys_of(Config):
        if key.block is None or key.suffix:
            default = _default(key.field, key.block)
            rows.append(f"| `{key.name}` | {default} | {key.field.description} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo, inner: type[BaseModel] | None) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if inner is not None and default:
        named = default if isinstance(default, dict) else [getattr(d, "name", "") for d in default]
        return ", ".join(named)
    if isinstance(default, tuple):
        return f"`{list(default)}`"
    return f"`{json.dumps(default, default=str)}`"


def generated_files(root: Path) -> dict[Path, str]:
    """Path and content of every generated file; of ``config/README.md`` only the table changes."""
    readme = root / "config" / "README.md"
    begin, end = "<!-- keys: begin -->\n", "<!-- keys: end -->"
    text = readme.read_text()
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    return {
        root / "config" / "config.yaml": defaults_yaml(),
        root / "config" / "schema.json": json_schema(),
        readme: before + begin + key_table() + end + after,
    }


if __name__ == "__main__":
    for path, content in generated_files(Path(__file__).parents[3]).items():
        path.write_text(content)
