"""Canvas for synthetic images: text and shapes drawn with PIL, and a record of each object and its position."""
import functools
import glob
import math
import os
import random
from dataclasses import dataclass
from PIL import Image, ImageDraw, ImageFont
from vocabulary import COLOR_NAMES, COLORS, PATCH

BRIGHT = [(250, 250, 250), (236, 232, 220), (214, 224, 236), (200, 200, 200), (224, 240, 220)]
DARK = [(40, 40, 45), (25, 35, 60), (64, 60, 60), (48, 30, 26), (20, 48, 40)]
FONTS = ["LiberationSans-Bold", "FreeSansBold", "DejaVuSans-Bold"]
SIZES = (20, 24, 28)        # three sizes and a lattice of 7 pixels keep reading learnable in CPU minutes
LATTICE = 7
OUTLINES = {"triangle": [(0, -1), (0.95, 0.8), (-0.95, 0.8)],
            "diamond": [(0, -1), (1, 0), (0, 1), (-1, 0)],
            "star": [(q * math.cos(a), q * math.sin(a)) for q, a in
                     ((1 if i % 2 == 0 else 0.42, -math.pi / 2 + i * math.pi / 5) for i in range(10))]}
ROOM = {"circle": (0.86, 0.30), "square": (0.84, 0.45), "diamond": (0.68, 0.24)}      # half width and height for text, in radii

Color = tuple[int, int, int]
Box = tuple[float, float, float, float]       # left, top, right, bottom in pixels


@dataclass
class Text:
    """A word or number in an image."""
    text: str
    color: str
    place: str | None               # "top left" and so on, where the layout has places
    container: str | None           # the shape around it
    box: Box
    edges: list[float]              # left edges of the characters, then the right edge of the last
    partner: str = ""               # its neighbour in the row of a form

    @property
    def is_number(self) -> bool:
        return self.text[0].isdigit()


@dataclass
class Shape:
    """A filled shape in an image, possibly with text in it."""
    kind: str
    color: str
    place: str | None
    text: str | None = None


@functools.cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of FONTS from the folders of FONT_DIRS."""
    roots = os.environ.get("FONT_DIRS", "/usr/share/fonts").split(":")
    found = [path for root in roots for path in glob.glob(f"{root}/**/{name}.ttf", recursive=True)]
    if not found:
        raise SystemExit(f"no {name}.ttf under {':'.join(roots)}: install the Debian packages fonts-liberation, "
                         "fonts-freefont-ttf and fonts-dejavu-core, or say in FONT_DIRS where the fonts are")
    return ImageFont.truetype(found[-1], size)


def jittered(rng: random.Random, color: Color, most: int) -> Color:
    return tuple(max(0, min(255, v + rng.randint(-most, most))) for v in color)


def luminance(color: Color) -> float:
    return 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2]


def pick_color(rng: random.Random, ground: Color, used: set[str] = frozenset()) -> tuple[str, Color]:
    """Name and value of a contrasting colour, usually an unused one, so that questions by colour have one answer."""
    visible = [n for n in COLOR_NAMES if abs(luminance(COLORS[n]) - luminance(ground)) > 45
               and sum((a - b) ** 2 for a, b in zip(COLORS[n], ground)) > 100 ** 2]
    fresh = [n for n in visible if n not in used]
    name = rng.choice(fresh if fresh and rng.random() < 0.75 else visible)
    return name, jittered(rng, COLORS[name], 14)


class Canvas:
    """A square of `grid` patches with a record of every object; `ids` holds the shape (from 1) of each pixel."""

    def __init__(self, rng: random.Random, grid: int):
        self.rng, self.grid, self.side = rng, grid, grid * PATCH
        self.ground = jittered(rng, rng.choice(BRIGHT if rng.random() < 0.75 else DARK), 8)
        self.image = Image.new("RGB", (self.side, self.side), self.ground)
        self.ids = Image.new("L", (self.side, self.side), 0)
        self.pen, self.id_pen = ImageDraw.Draw(self.image), ImageDraw.Draw(self.ids)
        self.texts: list[Text] = []
        self.shapes: list[Shape] = []

    def write(self, text: str, box: Box, ground: Color | None = None, largest: int = SIZES[-1], size: int | None = None,
              face: str | None = None, align: str | None = None, place: str | None = None, container: str | None = None,
              color: tuple[str, Color] | None = None) -> Text | None:
        """Writes text in a box, at a smaller size if necessary; None when it does not fit."""
        rng, (x0, y0, x1, y1) = self.rng, box
        face = face or FONTS[rng.randrange(len(FONTS))]
        size = size or rng.choice([s for s in SIZES if s <= max(largest, SIZES[0])])
        left, top, right, bottom = font(face, size).getbbox(text)
        while right - left > x1 - x0 or bottom - top > y1 - y0:
            size -= 4
            if size < SIZES[0]:
                return None
            left, top, right, bottom = font(face, size).getbbox(text)
        w, h = right - left, bottom - top
        if align:
            x, y = x0 + (x1 - x0 - w) // 2 if align == "center" else x0, y0 + (y1 - y0 - h) // 2
        else:
            x, y = rng.randint(int(x0), int(x1 - w)), rng.randint(int(y0), int(y1 - h))
        x = min(max(x0, round(x / LATTICE) * LATTICE), x1 - w)
        y = round(y / LATTICE) * LATTICE
        name, value = color or pick_color(rng, ground or self.ground, {t.color for t in self.texts})
        self.pen.text((x - left, y - top), text, fill=value, font=font(face, size))
        edges = [x - left + font(face, size).getlength(text[:k]) for k in range(len(text) + 1)]
        self.texts.append(Text(text, name, place, container, (x, y, x + w, y + h), edges))
        return self.texts[-1]

    def shape(self, kind: str, cx: int, cy: int, radius: int, place: str | None = None, text: str | None = None) -> None:
        """Draws a shape around a point, and text in it where it fits."""
        name, value = pick_color(self.rng, self.ground, {s.color for s in self.shapes})
        for pen, fill in ((self.pen, value), (self.id_pen, len(self.shapes) + 1)):
            if kind == "circle":
                pen.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=fill)
            elif kind == "square":
                half = radius * 0.9
                pen.rectangle((cx - half, cy - half, cx + half, cy + half), fill=fill)
            else:
                pen.polygon([(cx + radius * x, cy + radius * y) for x, y in OUTLINES[kind]], fill=fill)
        self.shapes.append(Shape(kind, name, place))
        if text:
            w, h = (part * radius for part in ROOM[kind])
            written = self.write(text, (cx - w, cy - h, cx + w, cy + h), value, align="center", container=kind)
            self.shapes[-1].text = written.text if written else None
