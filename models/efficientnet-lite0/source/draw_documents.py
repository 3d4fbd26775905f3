"""Draw what is not a scene: pages, receipts, tables, charts, windows, logos, plain cards, shapes and noise.

    python models/efficientnet-lite0/source/draw_documents.py FOLDER [--count 240] [--seed 0]

Without such pictures, the head gives `outdoor` to logos and to cards of one colour, because hardly any photo is like
them. The pictures are free and the same on each machine: the font is Pillow's own. A file's name begins with what it
shows: `document`, `screenshot` or `graphic`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIZES = ((224, 224), (640, 480), (480, 640), (900, 1200), (1024, 768))
SYLLABLES = ("an", "bel", "cor", "dar", "fen", "gal", "hor", "in", "kel", "lor", "mar", "or", "per", "ros", "ten", "ul")
Colour = tuple[int, int, int]


class Sheet:
    """A picture that is being drawn, with its own random numbers. Lengths are shares of its height."""

    def __init__(self, number: int, seed: int) -> None:
        self.random = random.Random(f"{seed}:{number}")
        self.width, self.height = self.random.choice(SIZES)
        self.image = Image.new("RGB", (self.width, self.height))

    @property
    def draw(self) -> ImageDraw.ImageDraw:
        """What draws on the picture."""
        return ImageDraw.Draw(self.image)

    def colour(self, least: int = 0, most: int = 255) -> Colour:
        """Return a random colour whose channels are from `least` to `most`, 0 to 255."""
        return (self.random.randint(least, most), self.random.randint(least, most), self.random.randint(least, most))

    def fill(self, colour: Colour) -> None:
        """Paint the whole picture."""
        self.image.paste(colour, (0, 0, self.width, self.height))

    def words(self, count: int) -> str:
        """Return `count` made-up words."""
        return " ".join("".join(self.random.choices(SYLLABLES, k=self.random.randint(1, 3))) for _ in range(count))

    def text(self, left: float, top: float, text: str, size: float, colour: Colour) -> None:
        """Write `text`, its letters `size` high. `left` and `top` are shares of the width and the height."""
        font = ImageFont.load_default(max(8.0, size * self.height))
        self.draw.text((left * self.width, top * self.height), text, font=font, fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        """Return a box in pixels from one in shares of the width and the height."""
        return left * self.width, top * self.height, right * self.width, bottom * self.height


def page(sheet: Sheet) -> None:
    """Lines of text below a heading."""
    sheet.fill(sheet.colour(228))
    ink, size = sheet.colour(0, 70), sheet.random.uniform(0.016, 0.03)
    sheet.text(0.1, 0.06, sheet.words(3).title(), 2 * size, ink)
    top = 0.16
    while top < 0.92:
        sheet.text(0.1, top, sheet.words(sheet.random.randint(6, 9)), size, ink)
        top += size * sheet.random.choice((1.5, 1.5, 1.5, 3))


def receipt(sheet: Sheet) -> None:
    """A narrow list of things and prices."""
    sheet.fill(sheet.colour(235))
    ink = sheet.colour(0, 60)
    sheet.text(0.3, 0.04, sheet.words(1).upper(), 0.06, ink)
    for line in range(sheet.random.randint(8, 18)):
        top = 0.15 + 0.045 * line
        sheet.text(0.08, top, sheet.words(2), 0.03, ink)
        sheet.text(0.75, top, f"{sheet.random.uniform(1, 99):.2f}", 0.03, ink)


def table(sheet: Sheet) -> None:
    """Rows and columns of numbers, with lines between them."""
    sheet.fill(sheet.colour(235))
    rows, columns, ink = sheet.random.randint(6, 20), sheet.random.randint(3, 7), sheet.colour(0, 90)
    for row in range(rows):
        for column in range(columns):
            left, top = 0.05 + 0.9 * column / columns, 0.05 + 0.9 * row / rows
            sheet.draw.rectangle(sheet.box(left, top, left + 0.9 / columns, top + 0.9 / rows), outline=ink)
            sheet.text(left + 0.01, top + 0.01, str(sheet.random.randint(0, 9999)), 0.4 / rows, ink)


def chart(sheet: Sheet) -> None:
    """Bars of several heights and a heading."""
    sheet.fill(sheet.colour(238))
    sheet.text(0.2, 0.03, sheet.words(3), 0.05, sheet.colour(0, 60))
    bars, colour = sheet.random.randint(3, 12), sheet.colour(20, 220)
    for bar in range(bars):
        left = 0.08 + 0.86 * bar / bars
        sheet.draw.rectangle(sheet.box(left, sheet.random.uniform(0.15, 0.85), left + 0.6 / bars, 0.92), fill=colour)


def window(sheet: Sheet) -> None:
    """A window on a screen: a bar at the top, a list at the side, text and boxes."""
    dark = sheet.random.random() < 0.4
    sheet.fill(sheet.colour(15, 50) if dark else sheet.colour(236))
    ink = (225, 225, 225) if dark else sheet.colour(0, 80)
    bar = sheet.colour(20, 220)
    sheet.draw.rectangle(sheet.box(0, 0, 1, 0.06), fill=bar)
    sheet.draw.rectangle(sheet.box(0, 0.06, 0.2, 1), fill=tuple(channel // 2 for channel in bar))
    for line in range(18):
        top = 0.1 + 0.05 * line
        if sheet.random.random() < 0.15:
            sheet.draw.rectangle(
                sheet.box(0.24, top, sheet.random.uniform(0.4, 0.9), top + 0.04), fill=sheet.colour(80)
            )
        else:
            sheet.text(0.24, top, sheet.words(sheet.random.randint(2, 8)), 0.025, ink)


def logo(sheet: Sheet) -> None:
    """A few shapes and a name on one colour."""
    sheet.fill(sheet.random.choice(((255, 255, 255), sheet.colour(225), sheet.colour(0, 60), sheet.colour())))
    for _ in range(sheet.random.randint(1, 3)):
        _shape(sheet, sheet.random.uniform(0.1, 0.4), sheet.random.uniform(0.05, 0.25))
    sheet.text(0.2, 0.7, sheet.words(sheet.random.randint(1, 2)).title(), 0.12, sheet.colour())


def shape(sheet: Sheet) -> None:
    """One shape on one colour."""
    sheet.fill(sheet.random.choice(((255, 255, 255), sheet.colour())))
    _shape(sheet, 0.25, 0.25)


def card(sheet: Sheet) -> None:
    """One colour, or a grey."""
    grey = sheet.random.randint(0, 255)
    sheet.fill(sheet.random.choice(((grey, grey, grey), sheet.colour())))


def gradient(sheet: Sheet) -> None:
    """One colour that fades into another."""
    mask = Image.linear_gradient("L").resize(sheet.image.size).rotate(sheet.random.choice((0, 90, 180)))
    other = Image.new("RGB", sheet.image.size, sheet.colour())
    sheet.fill(sheet.colour())
    sheet.image.paste(other, (0, 0), mask)


def blur(sheet: Sheet) -> None:
    """Coloured spots out of focus."""
    sheet.fill(sheet.colour())
    for _ in range(12):
        _shape(sheet, sheet.random.uniform(0, 0.7), sheet.random.uniform(0, 0.7))
    sheet.image = sheet.image.filter(ImageFilter.GaussianBlur(sheet.height / 12))


def _shape(sheet: Sheet, left: float, top: float) -> None:
    size = sheet.random.uniform(0.2, 0.5)
    box, colour = sheet.box(left, top, left + size, top + size), sheet.colour()
    drawn = sheet.random.choice(("rectangle", "ellipse", "triangle"))
    if drawn == "rectangle":
        sheet.draw.rectangle(box, fill=colour)
    elif drawn == "ellipse":
        sheet.draw.ellipse(box, fill=colour)
    else:
        sheet.draw.polygon((box[0], box[3], box[2], box[3], (box[0] + box[2]) / 2, box[1]), fill=colour)


KINDS: dict[str, Callable[[Sheet], None]] = {
    "document-page": page,
    "document-receipt": receipt,
    "document-table": table,
    "screenshot-window": window,
    "graphic-chart": chart,
    "graphic-logo": logo,
    "graphic-shape": shape,
    "graphic-card": card,
    "graphic-gradient": gradient,
    "graphic-blur": blur,
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=240, help="how many pictures (default: 240)")
    parser.add_argument("--seed", type=int, default=0, help="another number gives other pictures (default: 0)")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for number in range(given.count):
        kind, sheet = list(KINDS)[number % len(KINDS)], Sheet(number, given.seed)
        KINDS[kind](sheet)
        sheet.image.save(given.folder / f"{kind}-{number:04d}.png")


if __name__ == "__main__":
    main()
