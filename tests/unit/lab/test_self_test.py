"""The command that tests the meter."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from mova.cli.app import app


def test_the_command_prints_every_check_and_passes_only_if_all_of_them_do() -> None:
    families = ("--family", "keys", "--family", "flash_beep")
    done = CliRunner().invoke(app, ["eval", "self-test", *families, "-n", "1", "--size", "64", "--json"])
    document = json.loads(done.stdout)
    failed = [check["name"] for check in document["checks"] if not check["passed"]]
    assert not failed and document["passed"] and done.exit_code == 0
    checks = {check["name"]: check for check in document["checks"]}
    assert len(checks) == len(document["checks"]) >= 45
    assert {"offset +45 ms", "drift", "edit list honoured", "faults found", "faults in clean clips"} <= checks.keys()
    clean = checks["faults in clean clips"]
    assert (clean["value"], clean["high"]) == (0.0, 0.01)
