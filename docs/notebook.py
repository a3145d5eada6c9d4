"""Run docs/notebook.ipynb, and turn it into a page of the site."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().with_name("notebook.ipynb")


def run_notebook() -> Any:
    """Run the notebook in docs/ and return it with its outputs, without what differs from run to run."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": NOTEBOOK.parent}}
    ).execute()
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


def write_notebook() -> None:
    import nbformat

    nbformat.write(run_notebook(), NOTEBOOK)


def notebook_page() -> tuple[str, dict[str, bytes]]:
    """Return the notebook as Markdown, and its pictures by name."""
    parts, pictures = [], {}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                name = f"images/notebook-{len(pictures)}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![output]({name})")
            else:
                parts.append(f"```text\n{''.join(data['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures
