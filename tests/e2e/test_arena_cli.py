"""The arena from the outside: videos to a page, a rater in a real browser, votes to a ranking."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mova.media.clip import Clip

PROMPT = "<img src=x onerror=alert(1)> two drums & a bell"


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page made by the command line in a folder of its own: three systems, one prompt."""
    from typer.testing import CliRunner

    from mova.cli.app import app

    root = tmp_path_factory.mktemp("arena")
    for number, system in enumerate(("alpha", "beta", "gamma")):
        (root / system).mkdir()
        generator = np.random.default_rng(number)
        frames = generator.integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
        waveform = generator.uniform(-0.2, 0.2, (1, 8000)).astype(np.float32)
        # every browser plays WebM, also those without licensed codecs
        Clip(frames, waveform, Fraction(16), 16000, request={"prompt": PROMPT}).save(root / system / "one.webm")
    folders = [str(root / system) for system in ("alpha", "beta", "gamma")]
    done = CliRunner().invoke(app, ["arena", "make", *folders, "-o", str(root / "page"), "--num-checks", "1"])
    assert done.exit_code == 0, done.output
    return root


def votes_of(arena: Path, rater: str, winner: str, *, mode: str = "both", check: str = "tie") -> list[str]:
    """What a rater's browser would save who always prefers one system."""
    key = json.loads((arena / "page-key.json").read_text())
    lines = []
    for pair in key["pairs"]:
        vote = "left" if pair["left"] == winner else "right" if pair["right"] == winner else "tie"
        fields = {"arena": key["arena"], "pair": pair["id"], "mode": mode, "rater": rater}
        lines.append(json.dumps(fields | {"vote": check if pair["check"] else vote}))
    return lines


# ---- the command line ----


def test_a_page_is_made_and_its_votes_are_ranked(mova, arena: Path, tmp_path: Path) -> None:
    folders = [str(arena / system) for system in ("alpha", "beta", "gamma")]
    done = mova("arena", "make", *folders, "-o", "page", "--num-checks", "0", "--mode", "sound", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["num_pairs"], facts["num_prompts"], facts["num_checks"]) == (3, 1, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page", "page-key.json"]

    lines = votes_of(tmp_path, "ann", "beta", mode="sound") + votes_of(tmp_path, "bob", "beta", mode="sound")
    (tmp_path / "votes.jsonl").write_text("\n".join([lines[0], '{"broken', *lines[1:]]))
    done = mova("arena", "rank", "votes.jsonl", "--num-resamples", "100")
    assert done.returncode == 0, done.stderr
    assert "left out: votes.jsonl line 2: not JSON" in done.stderr
    assert "1 of 7 lines are no votes on this page" in done.stderr
    table = done.stdout.splitlines()
    assert table[0].startswith("audio only: 6 votes, 1 prompt, 2 raters")
    assert table[2].split()[1] == "beta" and "+100.0" in table[2]

    facts = json.loads(mova("arena", "rank", "votes.jsonl", "--num-resamples", "100", "--json").stdout)
    ratings = facts["modes"]["sound"]["ratings"]
    assert ratings[0]["system"] == "beta" and ratings[0]["wins"] == 4 and ratings[0]["num_votes"] == 4
    assert sum(one["rating"] for one in ratings) == pytest.approx(0, abs=1e-6)
    assert facts["problems"] == [{"file": "votes.jsonl", "line": 2, "what": "not JSON"}]


def test_raters_who_fail_the_checks_are_told_and_can_be_left_out(mova, arena: Path, tmp_path: Path) -> None:
    lines = votes_of(arena, "ann", "beta") + votes_of(arena, "bob", "gamma", check="left")
    (tmp_path / "votes.jsonl").write_text("\n".join(lines))
    key = ("--key", str(arena / "page-key.json"), "--num-resamples", "0")
    with_all = mova("arena", "rank", "votes.jsonl", *key)
    assert "6 votes" in with_all.stdout and "--drop-failing" in with_all.stderr
    told = next(row for row in with_all.stdout.splitlines() if row.startswith("bob"))
    assert " ".join(told.split()) == "bob 3 0 of 1 fails"
    without = mova("arena", "rank", "votes.jsonl", *key, "--drop-failing")
    assert "3 votes" in without.stdout and "fails, left out" in without.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("make", "{arena}/alpha", "-o", "page"), 2, "two systems"),
        (("make", "{arena}/alpha", "nowhere", "-o", "page"), 1, "nowhere"),
        (("make", "{arena}/alpha", "{arena}/beta", "-o", "page", "--num-pairs", "5"), 2, "--num-pairs"),
        (("make", "{arena}/alpha", "{arena}/beta", "-o", "page", "--mode", "smell"), 2, "--mode"),
        (("rank", "{arena}/page-key.json"), 1, "no key"),
    ],
)
def test_a_mistake_is_two_lines_and_nothing_is_written(mova, arena: Path, tmp_path: Path, arguments, code, named) -> None:
    done = mova("arena", *(argument.format(arena=arena) for argument in arguments))
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith("error: ") and len(lines) <= 2 and named in lines[0], done.stderr
    assert list(tmp_path.iterdir()) == []


# ---- a browser ----

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")


class Browser:
    """A headless Chromium, driven over its debugging pipe: no package is needed for it."""

    def __init__(self, program: str, profile: Path) -> None:
        from_browser, to_us = os.pipe()
        from_us, to_browser = os.pipe()
        self.reads, self.writes = from_browser, to_browser
        # the browser reads at 3 and writes at 4, which may be taken in this process
        read_end, write_end = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (from_us, to_us))

        def take_places() -> None:
            os.dup2(read_end, 3)
            os.dup2(write_end, 4)

        self.process = subprocess.Popen(
            [
                program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--mute-audio",
                "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--disable-background-networking",
                "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={profile}", "about:blank",
            ],
            preexec_fn=take_places,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (from_us, to_us, read_end, write_end):
            os.close(end)
        self.session: str | None = None
        self.sent = 0
        self.pending = b""
        self.requested: list[str] = []
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; what the page asks for and complains of on the way is kept."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.writes, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.next_message()
            if answer.get("id") == self.sent:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            if answer.get("method") == "Network.requestWillBeSent":
                self.requested.append(answer["params"]["request"]["url"])
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.errors.append(json.dumps(answer["params"]))

    def next_message(self) -> dict[str, Any]:
        while b"\0" not in self.pending:
            part = os.read(self.reads, 65536)
            assert part, "the browser ended"
            self.pending += part
        message, self.pending = self.pending.split(b"\0", 1)
        return json.loads(message)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 60.0) -> None:
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.ask(expression):
            assert time.monotonic() < end, (expression, self.ask("document.body.innerText"), self.errors)
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """A key, as if typed."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def open(self, page: Path) -> None:
        """Go to a file."""
        self.call("Page.navigate", url=(page / "index.html").as_uri())
        self.wait("document.readyState === 'complete' && !!document.querySelector('[name=mode]')")

    def start(self, rater: str, mode: str) -> None:
        """Fill in the first form, and go through the videos eight times as fast."""
        self.ask(
            "for (const v of document.querySelectorAll('video')) v.defaultPlaybackRate = 8;"
            f"document.getElementById('rater').value = {json.dumps(rater)};"
            f"document.querySelector('[name=mode][value={mode}]').checked = true;"
            "document.querySelector('#start button').click()"
        )

    def close(self) -> None:
        os.close(self.writes)
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.reads)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    started = Browser(program, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


CAN_VOTE = "[...document.querySelectorAll('[data-vote]')].every((b) => !b.disabled)"
IS_DONE = "!document.getElementById('done').hidden"
PLAYING = "document.querySelectorAll('figure.playing').length"
COUNT = "document.getElementById('count').textContent"


def test_a_rater_votes_with_the_keyboard_and_the_saved_file_is_ranked(
    browser: Browser, mova, arena: Path, tmp_path: Path
) -> None:
    browser.open(arena / "page")
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    assert browser.ask("document.getElementById('download').disabled")
    browser.start("Ann <b>Lee</b>", "both")
    assert browser.ask("document.getElementById('prompt').textContent") == PROMPT
    assert browser.ask("document.querySelectorAll('img').length") == 0
    browser.press("1")  # too early: the videos have not been seen
    assert browser.ask(COUNT) == "Pair 1 of 4"
    for number, key in enumerate(("1", "3", "2", "2"), start=1):
        browser.wait(CAN_VOTE)
        browser.press(key)
        browser.wait(f"{COUNT} !== 'Pair {number} of 4'")
        if number == 2:  # the browser is closed and opened again in the middle of it
            browser.open(arena / "page")
            browser.start("Ann <b>Lee</b>", "both")
            assert browser.ask(COUNT) == "Pair 3 of 4"
    browser.wait(IS_DONE)
    browser.ask("document.getElementById('look-back').click()")  # and changes her mind about the last
    browser.wait(CAN_VOTE)
    assert browser.ask("document.querySelector('[aria-pressed=true][data-vote]').dataset.vote") == "tie"
    browser.press("1")
    browser.wait(IS_DONE)

    browser.ask("document.getElementById('download').click()")
    end = time.monotonic() + 30
    while not (saved := [path for path in tmp_path.glob("*.jsonl") if path.stat().st_size]):
        assert time.monotonic() < end, "nothing was saved"
        time.sleep(0.05)
    votes = [json.loads(text) for text in saved[0].read_text().splitlines()]
    assert [vote["vote"] for vote in votes] == ["left", "right", "tie", "left"]
    assert {vote["rater"] for vote in votes} == {"Ann <b>Lee</b>"} and all(vote["seconds"] > 0 for vote in votes)

    ranked = mova("arena", "rank", saved[0].name, "--key", str(arena / "page-key.json"), "--num-resamples", "0", "--json")
    assert ranked.returncode == 0, ranked.stderr
    facts = json.loads(ranked.stdout)
    assert facts["problems"] == [] and facts["modes"]["both"]["num_votes"] == 3
    assert facts["raters"][0]["answered"] == 1
    assert browser.errors == []
    assert all(url.startswith(("file:", "blob:", "data:")) for url in browser.requested) and browser.requested


@pytest.mark.parametrize(("mode", "is_covered", "is_muted"), [("sound", True, False), ("picture", False, True)])
def test_audio_is_judged_without_picture_and_picture_without_audio(
    browser: Browser, arena: Path, mode: str, is_covered: bool, is_muted: bool
) -> None:
    browser.open(arena / "page")
    browser.start("bob", mode)
    browser.wait(f"{PLAYING} > 0")
    assert browser.ask("document.querySelector('.cover').checkVisibility()") == is_covered
    assert browser.ask("document.querySelector('figure.playing video').muted") == is_muted
    browser.wait(CAN_VOTE)
    browser.press("2")
    browser.wait(f"{COUNT} === 'Pair 2 of 4'")
    assert browser.errors == []


def test_side_by_side_both_play_and_one_is_heard(browser: Browser, arena: Path) -> None:
    browser.open(arena / "page")
    browser.start("dee", "both")
    browser.ask("for (const v of document.querySelectorAll('video')) v.defaultPlaybackRate = v.playbackRate = 1")
    browser.press("t")
    for letter in "AB":  # one pass with the audio of each
        browser.wait(f"{PLAYING} === 2 && document.getElementById('status').textContent.includes('audio of {letter}')")
        heard = "[...document.querySelectorAll('video')].filter((v) => !v.muted).map((v) => v.id).join()"
        assert browser.ask(heard) == {"A": "left", "B": "right"}[letter]
        if letter == "A":
            assert not browser.ask(CAN_VOTE)
    browser.wait(CAN_VOTE)
    assert browser.errors == []


def test_a_video_that_does_not_play_is_told_and_skipped(browser: Browser, arena: Path, tmp_path: Path) -> None:
    shutil.copytree(arena / "page", tmp_path / "page")
    for video in (tmp_path / "page" / "videos").iterdir():
        video.write_bytes(b"broken")
    browser.open(tmp_path / "page")
    browser.start("cy", "both")
    for number in range(1, 5):
        browser.wait(f"{COUNT} === 'Pair {number} of 4' && !document.getElementById('skip').hidden")
        assert "cannot be played" in browser.ask("document.getElementById('status').textContent")
        browser.press("s")
    browser.wait(IS_DONE)
    assert "4 pairs were skipped" in browser.ask("document.getElementById('done-text').textContent")
    browser.errors.clear()  # the browser's own words about the broken videos
