"""The key tables of docs/configuration.md agree with the schema. Run as a script, this file writes them."""

from pathlib import Path

from lannunet_landmarks.schema import RunConfig
from lannunet_segmentation.schema import RunConfig as SegmentationRunConfig

from lannunet_core.config.schema import section_of
from lannunet_core.config.yaml import inline_yaml

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"
MARK = "<!-- Written by `python tests/config/test_docs.py`. -->\n"


SEGMENTATION = "\n## With `task: segmentation`\n\n"


def tables() -> str:
    return table(RunConfig) + SEGMENTATION + table(SegmentationRunConfig)


def table(task) -> str:
    rows = ["| key | default | what it does |", "|---|---|---|"]

    def walk(model, prefix):
        for name, field in model.model_fields.items():
            if section := section_of(field):
                walk(section, f"{prefix}{name}.")
                continue
            if field.is_required():
                default = "(required)"
            else:
                value = field.default
                default = f"`{inline_yaml(list(value) if isinstance(value, tuple) else value)}`"
            rows.append(f"| `{prefix}{name}` | {default} | {field.description} |")

    walk(task, "")
    return "\n".join(rows) + "\n"


def test_the_table_of_keys_is_in_step():
    assert DOCS.read_text().split(MARK)[1].strip() == tables().strip(), f"run python {__file__}"


def test_the_shortest_example_loads(tmp_path):
    from lannunet_core.config.compose import load_config

    example = DOCS.read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "my.yaml").write_text(example)
    assert load_config(tmp_path / "my.yaml").run.dataset.src_targets == tmp_path / "annotations.json"


if __name__ == "__main__":
    DOCS.write_text(DOCS.read_text().split(MARK)[0] + MARK + "\n" + tables())
