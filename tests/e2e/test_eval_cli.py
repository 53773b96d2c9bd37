"""``mova eval`` from the outside, at the smallest size that there is."""

from __future__ import annotations

import json
from pathlib import Path


def test_the_shipped_model_is_measured(mova, tmp_path: Path) -> None:
    done = mova("eval", "model", "-n", "1", "--track", "a2v", "--steps", "1", "--processes", "1", "-o", "out", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["model"] == "mova-base" and facts["tracks"]["a2v"]["num_clips"] == 1
    assert facts["headline"]["value"] is None  # one clip has no chance level
    assert "clips 2/2" in done.stderr  # its own and that of the floor
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["clips", "report.html", "results.json", "rows.jsonl"]
