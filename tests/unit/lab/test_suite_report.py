"""The page of a model's results: its headline in words, its tables for readers of every kind, and the same in one file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mova.lab.quality.audio import AudioQuality
from mova.lab.quality.video import VideoQuality
from mova.lab.suite.measures import MEASURES
from mova.lab.suite.report import render_report
from mova.lab.suite.tables import label, pluralise
from mova.lab.sync.scores import HEADLINE, NAMES
from mova.scenes.world import write_script

VOID = {"meta", "img", "rect", "line", "br"}


class Page(HTMLParser):
    """Tags with their attributes, and whether each is closed where it must be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append((self.open[-1] if self.open else "", data))


def rows(shift_s: float) -> Iterator[dict[str, Any]]:
    """Rows of three drum clips with their audio some seconds late."""
    for seed in (1, 2, 3):
        script = write_script("drums", seed, attributes={"count": 2 + seed})
        times = [float(event.time_s) for event in script.events]
        yield {
            "key": f"text/drums/{seed}", "track": "text", "kind": "drums", "prompt": script.caption, "file": None,
            "seconds": 4.0, "video_s": times, "audio_s": [time + shift_s for time in times], "lag_s": 0.0,
            "num_expected": len(times), "values": {"colour": 1.0, "count": 0.0}, "chance": {"colour": 0.5, "count": 0.5},
            "faults": ["the audio is clipped", "the picture stands still"], "seconds_taken": 1.0,
        }  # fmt: skip


def numbers(value: float, *, kinds: tuple[str, ...] = ("drums",)) -> dict[str, Any]:
    """Numbers of a set of clips, all of one value."""
    found = {"value": value, "interval": [value - 0.1, value + 0.1], "chance": 0.0, "floor": 0.05}
    floors = {"drift_ms_per_s": 77.0, "mad_ms": 66.0}
    scores = [one.name for one in MEASURES if one.of is None]
    scored = {name: {**found, "floor": floors.get(name, 0.05), "unit": NAMES.get(name, "")} for name in scores}
    one = {"num_clips": 3, "numbers": {**scored, "colour": {**found, "num_clips": 3}}}
    return {**one, "by_kind": dict.fromkeys(kinds, one)}


def report(
    shift_s: float,
    folder: Path,
    *,
    headline: float | None = 0.87,
    low: float | None = 0.75,
    kinds: tuple[str, ...] = ("drums",),
) -> str:
    document = {
        "suite": "clapper", "model": "tiny", "seed": 5, "num_clips": 3, "clips": list(rows(shift_s)), "counterfactual": {},
        "headline": {"track": "text", "name": HEADLINE, "value": headline, "interval": [low, None if low is None else 0.95]},
        "tracks": {"text": numbers(0.8, kinds=kinds)}, "codec": numbers(0.9, kinds=kinds),
    }  # fmt: skip
    return render_report(document, folder)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return report(0.01, tmp_path_factory.mktemp("media"))


def test_the_headline_stands_first_with_its_interval_and_what_it_means(text: str) -> None:
    body = text[text.index("<body>") :]
    assert body.index('class="headline"') < body.index("<dl>") < body.index("<table")
    assert '<p class="value">0.870 <span>95 % 0.750 to 0.950</span></p>' in body
    assert "The clips of text are 87 % of the way from chance (0)" in body
    assert "at most 45 ms before its picture or 125 ms after it" in body


@pytest.mark.parametrize(
    ("headline", "low", "words"),
    [
        (0.02, -0.1, "cannot be distinguished from unrelated ones"),
        (None, None, "Not measured: chance takes"),
    ],
)
def test_a_headline_of_nothing_says_so(headline: float | None, low: float | None, words: str, tmp_path: Path) -> None:
    assert words in report(0.6, tmp_path, headline=headline, low=low)


def test_what_is_in_milliseconds_and_what_is_in_milliseconds_per_second_each_has_its_floor(text: str) -> None:
    lines = {
        name: line for line in text.split("<tr>") for name in ("mad_ms", "drift_ms_per_s") if f"<code>{name}</code>" in line
    }
    assert ">66.0<" in lines["mad_ms"]
    assert ">77.0<" in lines["drift_ms_per_s"] and "ms per second" in lines["drift_ms_per_s"]


def test_the_page_is_well_formed_and_its_tables_and_pictures_say_what_they_are(text: str) -> None:
    page = Page(text)
    assert page.open == []
    assert all(found.get("scope") for tag, found in page.tags if tag == "th")
    assert sum(tag == "caption" for tag, _ in page.tags) == sum(tag == "table" for tag, _ in page.tags) > 1
    assert all(found.get("aria-label") for tag, found in page.tags if tag in ("svg", "video") or found.get("role") == "region")
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    assert "text: 3 clips" in [words for tag, words in page.words if tag == "h2"]


def test_prompt_verdict_and_each_fault_have_a_place_of_their_own(text: str) -> None:
    words = Page(text).words
    assert [found for tag, found in words if tag == "dd"].count("the audio is clipped") == 3
    assert ("dt", "fault") in words and ("dd", "the picture stands still") in words
    assert [found for tag, found in words if tag == "p" and found.startswith("F1 ")] == ["F1 1.00"] * 3
    assert write_script("drums", 1, attributes={"count": 3}).caption in [found for tag, found in words if tag == "h3"]


def test_every_number_that_is_shown_has_words_and_keeps_its_name(text: str) -> None:
    videos = [
        f"{group}.{one.name}" for group, kind in (("video", VideoQuality), ("audio", AudioQuality)) for one in fields(kind)
    ]
    videos += [f"sync.{name}" for name in ("offset_ms", "abs_offset_ms", "mad_ms", "drift_ms_per_s")]
    assert all(label(name) != name for name in (*(one.name for one in MEASURES), *videos))
    assert "in step, 0 by chance and 1 if all is <code>f1_corrected</code>" in text
    assert (pluralise(1, "clip"), pluralise(2, "clip"), pluralise(0, "clip")) == ("1 clip", "2 clips", "0 clips")


def test_lines_of_a_kind_stand_under_one_head_and_text_stays_text(tmp_path: Path) -> None:
    found = report(0.0, tmp_path, kinds=("drums", "<i>"))
    assert Page(found).open == [] and "<i>" not in found
    for kind in ("drums", "&lt;i&gt;"):
        assert f'<th scope="rowgroup" rowspan="3">{kind}</th>' in found and f"<summary>{kind}</summary>" in found
    assert '<th scope="col">of</th>' in found
    assert "Not measured whole" not in found  # a table without rows is none
