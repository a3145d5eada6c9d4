"""The page quotes what the program says."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_quoted_message_is_the_program_s():
    said = "\n".join(path.read_text() for path in (ROOT / "convcast").rglob("*.py"))
    quoted = re.findall(r'\*\*"([^"]+)"\*\*', (ROOT / "docs/troubleshooting.md").read_text().replace("\n", " "))
    parts = [part.strip() for quote in quoted for part in quote.split("…") if part.strip()]

    assert len(quoted) > 10
    assert [part for part in parts if part not in said] == []
