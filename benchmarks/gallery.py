"""Draws the contact sheet of the README: one clip of each kind, as the shipped model makes it.

python benchmarks/gallery.py -o docs/images/gallery.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mova import MOVAModel
from mova.media.sheet import gallery_sheet
from mova.scenes.kinds import KINDS


def main() -> None:
    """Make one clip a kind with the same seed and draw them under one another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images/gallery.png"))
    parser.add_argument("--checkpoint", default="mova-base")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    model = MOVAModel.from_pretrained(arguments.checkpoint)
    clips = []
    for name in model.capabilities.kinds:
        prompt = KINDS[name].example_captions[0]
        clips.append((prompt, model.generate(prompt=prompt, seed=arguments.seed)))
        print(prompt)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    # flat colours on a dark page: a palette keeps the file small
    gallery_sheet(clips).quantize(colors=256).save(arguments.output, optimize=True)


if __name__ == "__main__":
    main()
