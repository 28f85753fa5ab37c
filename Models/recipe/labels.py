"""Dense labels for the vision encoder: the content of each 14x14 patch."""
from typing import TYPE_CHECKING
import numpy as np
from vocabulary import CHARACTER_ID, COLOR_NAMES, MAX_WORD, PATCH, SHAPES
if TYPE_CHECKING:
    from canvas import Canvas, Shape, Text

# planes: kind (0 background, 1 word, 2 number, 3.. shape), colour, shape around the text or text in the shape (0 none),
# count of the shape, character, its index in the word, the whole word by slots, the neighbour in a form by slots
L_TYPE, L_COL, L_CONT, L_CNT, L_CH, L_IDX, L_SLOT, L_PART = 0, 1, 2, 3, 4, 5, 6, 6 + MAX_WORD
N_LAB = 6 + 2 * MAX_WORD
UNKNOWN = 255
LEAST_SHAPE, LEAST_TEXT = 0.2, 0.14         # minimum coverage for a patch to show an object


def patch_labels(canvas: "Canvas") -> tuple[np.ndarray, np.ndarray]:
    """Labels of each patch, uint8 [N_LAB, g, g], 255 where a plane does not apply; and owner, int16 [g, g], the object
    of a patch (texts first, then shapes), -1 for the background."""
    g = canvas.grid
    owner = np.full((g, g), -1, np.int16)
    labels = np.full((N_LAB, g, g), UNKNOWN, np.uint8)
    labels[L_TYPE] = 0
    shares = np.stack([np.zeros((g, g))] + [covered(canvas, number) for number in range(1, len(canvas.shapes) + 1)])
    for number, shape in enumerate(canvas.shapes):
        patches = (shares.argmax(0) == number + 1) & (shares.max(0) > LEAST_SHAPE)
        owner[patches] = len(canvas.texts) + number
        count = sum(other.kind == shape.kind for other in canvas.shapes)
        labels[:, patches] = shape_labels(shape, count)[:, None]
    best = np.zeros((g, g))
    for number, text in enumerate(canvas.texts):
        overlap = text_overlap(text, g)
        patches = (overlap > LEAST_TEXT) & (overlap > best)
        best[patches] = overlap[patches]
        owner[patches] = number
        labels[:, patches] = text_labels(text, g)[:, None].repeat(g, 1)[:, patches]
    return labels, owner


def covered(canvas: "Canvas", number: int) -> np.ndarray:
    """Share of each patch [g, g] covered by a shape; shapes count from 1."""
    ids = np.asarray(canvas.ids).reshape(canvas.grid, PATCH, canvas.grid, PATCH)
    return (ids == number).mean((1, 3))


def text_overlap(text: "Text", g: int) -> np.ndarray:
    """Share of each patch [g, g] covered by the box of the text."""
    x0, y0, x1, y1 = text.box
    at = np.arange(g) * PATCH
    along = [np.clip(np.minimum(at + PATCH, high) - np.maximum(at, low), 0, None) / PATCH for low, high in ((y0, y1), (x0, x1))]
    return along[0][:, None] * along[1][None]


def shape_labels(shape: "Shape", count: int) -> np.ndarray:
    """[N_LAB]"""
    planes = np.full(N_LAB, UNKNOWN, np.uint8)
    planes[[L_TYPE, L_COL, L_CNT]] = 3 + SHAPES.index(shape.kind), COLOR_NAMES.index(shape.color), min(count, 6)
    if shape.text:
        planes[L_CONT] = 1 + SHAPES.index(shape.kind)
        planes[L_SLOT:L_SLOT + MAX_WORD] = spelled(shape.text)
    return planes


def text_labels(text: "Text", g: int) -> np.ndarray:
    """[N_LAB, g]: one set of labels per patch column, as columns show different characters."""
    planes = np.full((N_LAB, g), UNKNOWN, np.uint8)
    planes[L_TYPE] = 2 if text.is_number else 1
    planes[L_COL] = COLOR_NAMES.index(text.color)
    planes[L_CONT] = 1 + SHAPES.index(text.container) if text.container else 0
    middle = np.arange(g) * PATCH + PATCH / 2
    index = np.clip(np.searchsorted(np.array(text.edges[1:-1]), middle, side="right"), 0, len(text.text) - 1)
    planes[L_CH] = np.array([CHARACTER_ID[c] for c in text.text])[index]
    planes[L_IDX] = index
    planes[L_SLOT:L_SLOT + MAX_WORD] = spelled(text.text)[:, None]
    if text.partner:
        planes[L_PART:L_PART + MAX_WORD] = spelled(text.partner)[:, None]
    return planes


def spelled(word: str) -> np.ndarray:
    """[MAX_WORD] classes of characters, 0 after the end."""
    return np.array([CHARACTER_ID[c] for c in word[:MAX_WORD]] + [0] * (MAX_WORD - len(word)), np.uint8)
