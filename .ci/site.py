"""Hooks of mkdocs: pages that are made when the site is built, and links that lead out of `docs/`.

`on_files` adds the pages that are kept elsewhere in the repository (`PAGES`) and the reference that is
generated from the code (`reference.py`). `on_page_markdown` makes relative links, which are those of the
repository, links of the site.
"""

import importlib.util
import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing/index.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "contributing/conduct.md",
    "docs/demo.ipynb": "demo.md",
    **{
        f"plugins/{path.parent.name}/README.md": f"plugins/{path.parent.name}.md"
        for path in sorted(ROOT.glob("plugins/*/README.md"))
    },
    **{
        str(path.relative_to(ROOT)): str(path.relative_to(ROOT))
        .replace("configs/", "")
        .replace("README", "index")
        for path in sorted(ROOT.glob("configs/examples/**/README.md"))
    },
}
"""Pages of the site that are not in docs/, by their path in the repository."""

LINK = re.compile(r"(\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^()\s]+)\)")
FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of `PAGES` and the generated reference."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        content = from_notebook(text) if source.endswith(".ipynb") else text
        files.append(File.generated(config, page, content=content))
    spec = importlib.util.spec_from_file_location("reference", ROOT / ".ci" / "reference.py")
    assert spec and spec.loader
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    for page, content in reference.pages().items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page, with its links changed to those of the site."""
    site = page.file.src_uri
    source = next((path for path, moved in PAGES.items() if moved == site), f"docs/{site}")
    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(lambda found: linked(found, source, site), part) for part in parts[::2]]
    return "".join(parts)


def linked(found: re.Match[str], source: str, site: str) -> str:
    """A link of the repository's page `source`, as a link of the site's page `site`; else its text."""
    text, target = found[1], found[2]
    if re.match(r"[a-z]+:|#|mailto", target):
        return found[0]
    path, hash_, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if f"{path}/README.md" in PAGES:
        path = f"{path}/README.md"
    if path in PAGES:
        moved = PAGES[path]
    elif path.startswith("docs/") and Path(path).suffix not in (".py", ".ipynb"):
        moved = path.removeprefix("docs/")
    else:
        assert (ROOT / path).exists(), f"{source}: {target} leads nowhere"
        return text[1:-1]
    return f"{text}({posixpath.relpath(moved, posixpath.dirname(site) or '.')}{hash_}{anchor})"


def from_notebook(text: str) -> str:
    """Convert the cells of a notebook to a page: text, and code in blocks."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join(parts) + "\n"
