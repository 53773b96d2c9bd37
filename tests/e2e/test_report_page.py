"""The report of ``mova eval`` as its reader has it: one file in a real browser, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_arena_cli import BROWSERS, Browser

from mova.scenes.world import render, write_script

CLIPS = ("in step.webm", "late.webm", "mute.webm")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos, of which one is late and one silent, and a broken file, measured by the command line."""
    from typer.testing import CliRunner

    from mova.cli.app import app

    root = tmp_path_factory.mktemp("report")
    (root / "videos").mkdir()
    script = write_script("ball", 8)  # its events are also found without its record
    clip = replace(render(script, width=96, height=96).clip(), request={"prompt": script.caption})
    late = np.roll(clip.waveform, clip.sample_rate // 5, axis=1)
    for name, waveform in zip(CLIPS, (clip.waveform, late, np.zeros_like(late)), strict=True):
        replace(clip, waveform=waveform).save(root / "videos" / name)  # every browser plays WebM
    (root / "videos" / "broken.webm").write_bytes(b"broken")
    done = CliRunner().invoke(app, ["eval", "files", str(root / "videos"), "-o", str(root / "out"), "--processes", "1"])
    assert done.exit_code == 0, done.output
    return root / "out" / "report.html"


@pytest.fixture(scope="module")
def page(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that shows the report."""
    program = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    browser = Browser(program, tmp_path_factory.mktemp("profile"))
    browser.call("Page.navigate", url=report.as_uri())
    browser.wait("document.readyState === 'complete' && location.protocol === 'file:'")
    yield browser
    browser.close()


PLAYED = """
Promise.all([...document.querySelectorAll("video")].map((video) => new Promise((done) => {
  const told = (why) => done([why, video.duration, video.currentTime, video.webkitAudioDecodedByteCount]);
  video.onended = () => told("ended");
  video.onerror = () => told(video.error.message);
  video.playbackRate = 4;
  video.play().catch((problem) => told(String(problem)));
})))
"""
CONTRASTS = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((one) => one / 255)
    .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, index) => sum + one * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const found = parts(getComputedStyle(one).backgroundColor);
      if (found[3] !== 0) return found;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("h1, h2, h3, p, dt, dd, td, th, caption, code, summary")].map((one) => {
    const pair = [light(parts(getComputedStyle(one).color)), light(ground(one))].sort((a, b) => b - a);
    return [(pair[0] + 0.05) / (pair[1] + 0.05), one.innerText];
  });
})()"""  # WCAG 2.2: contrast of each text to what lies under it
IS_BROKEN = """(cell) => {
  const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), range = document.createRange();
  for (let text; (text = walker.nextNode());)
    for (const word of text.data.matchAll(/[a-z0-9]+/gi)) {
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      if (range.getClientRects().length > 1) return true;
    }
  return false;
}"""  # a word of a cell that stands on two lines
DRAWN = "[...document.querySelectorAll('svg')].map((plot) => [plot.getAttribute('aria-label'), plot.getBoundingClientRect()])"


def test_the_page_asks_for_nothing_and_shows_all_that_is_in_it(page: Browser, report: Path) -> None:
    assert page.ask("document.querySelector('h1').innerText") == "mova eval: videos"
    assert str(report.parents[1]) not in page.ask("document.body.innerText")  # a page is passed on
    headings = page.ask("[...document.querySelectorAll('h2, h3')].map((heading) => heading.innerText)")
    assert {"Offsets", "Measured", *CLIPS} <= set(headings)
    cells = page.ask("[...document.querySelectorAll('table tbody th[scope=row]')].map((head) => head.innerText)")
    assert {"broken.webm", "mute.webm", "audio after picture (+ is late), ms sync.offset_ms", "clap"} <= set(cells)
    badges = page.ask("[...document.querySelectorAll('.badge')].map((badge) => badge.innerText)")
    assert sorted(badges) == ["cannot tell", "in step", "not acceptable"]
    assert page.ask("document.querySelectorAll('.bar').length") > 0

    # what is drawn has a size and stays inside the page, also on a narrow screen
    for width in (1200, 400):
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        plots = dict(page.ask(f"{DRAWN}.map(([label, box]) => [label, [box.width, box.height, box.right]])"))
        assert any(label.startswith("histogram of ") for label in plots)
        assert all(wide > 100 and high > 20 and right <= width for wide, high, right in plots.values()), plots
        assert page.ask("document.documentElement.scrollWidth") <= width
        broken = page.ask(f"[...document.querySelectorAll('td, th')].filter({IS_BROKEN}).map((cell) => cell.innerText)")
        assert not broken, broken
    page.call("Emulation.clearDeviceMetricsOverride")
    page.wait("[...document.images].every((image) => image.complete)")
    assert page.ask("[...document.images].filter((image) => image.naturalWidth > 0).length") == len(CLIPS)

    assert page.errors == []
    assert [url for url in page.requested if not url.startswith("data:")] == [report.as_uri()]


def test_every_player_shows_its_first_frame_and_words_can_be_read_by_day_and_by_night(page: Browser) -> None:
    videos = page.ask("[...document.querySelectorAll('video')].map((video) => [video.poster.slice(0, 15), video.clientHeight])")
    assert len(videos) == len(CLIPS)
    assert all(poster == "data:image/jpeg" and height > 240 for poster, height in videos), videos
    for scheme in ("light", "dark"):
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        ratios = page.ask(CONTRASTS)
        assert len(ratios) > 20 and min(ratio for ratio, _ in ratios) >= 4.5, (scheme, min(ratios))
        papers = page.ask("getComputedStyle(document.body).backgroundColor")
        assert papers == {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 19, 24)"}[scheme]
    page.call("Emulation.setEmulatedMedia", features=[])


def test_its_videos_play_to_their_end_and_are_heard(page: Browser) -> None:
    played = page.ask(PLAYED)
    assert len(played) == len(CLIPS)
    for why, seconds, reached_s, num_heard_bytes in played:
        assert why == "ended"
        assert 0 < seconds < 10 and reached_s == pytest.approx(seconds)
        assert num_heard_bytes > 0  # the audio track is there and was decoded, also where it is silent
    assert page.errors == []
