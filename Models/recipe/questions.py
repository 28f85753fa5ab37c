"""Question and answer pairs for an image, each answerable from the image alone."""
import random
from typing import NamedTuple
from scenes import Facts, random_word
from vocabulary import COLOR_NAMES, SHAPES

TEMPLATES = {
    "color_word": ["What is the {} word?", "Read the {} word."],
    "color_number": ["What is the {} number?", "Read the {} number."],
    "pos_word": ["What word is at the {}?", "Which word is at the {}?"],
    "pos_number": ["What number is at the {}?"],
    "shape_text": ["What is written in the {}?", "What text is in the {}?"],
    "form_value": ["What is next to {}?", "How much is {}?", "What number is next to {}?"],
    "form_label": ["What word is next to {}?", "Which label has {}?"],
    "count": ["How many {}s are there?", "How many {}s?"],
    "shape_colour": ["What colour is the {}?"],
    "word_colour": ["What colour is the word {}?", "What colour is {}?"],
    "exist": ["Is there a {}?"],
    "exist_word": ["Is there the word {}?", "Does it say {}?"],
    "pos_shape": ["What shape is at the {}?"],
    "colour_shape": ["What shape is {}?", "Which shape is {}?"],
}
FAMILIES = list(TEMPLATES)


class Question(NamedTuple):
    """A question, its answer, and its objects (indices into the image's texts, then shapes)."""
    family: str
    text: str
    answer: str
    asked: tuple[int, ...]      # named by the question
    held: tuple[int, ...]       # show the answer


def ask(facts: Facts, rng: random.Random) -> list[Question]:
    """All questions about an image, in random order."""
    out = []
    texts, shapes = facts.texts, facts.shapes

    def add(family, argument, answer, asked, held=None):
        template = rng.choice(TEMPLATES[family])
        if family == "form_value" and "number" in template and not answer[0].isdigit():
            template = TEMPLATES[family][0]
        if family == "exist" and argument == "O":
            template = "Is there {}?"
        out.append(Question(family, template.format(argument), answer, tuple(asked), tuple(asked if held is None else held)))

    def texts_where(test):
        return [i for i, t in enumerate(texts) if test(t)]

    def shapes_where(test):
        return [len(texts) + i for i, s in enumerate(shapes) if test(s)]

    for number in (False, True):
        for color in COLOR_NAMES:
            found = texts_where(lambda t: t.is_number == number and t.color == color)
            if len(found) == 1:
                add("color_number" if number else "color_word", color, texts[found[0]].text, found)
    for i, t in enumerate(texts):
        if t.place:
            add("pos_number" if t.is_number else "pos_word", t.place, t.text, [i])
        if not t.is_number:
            add("word_colour", t.text, t.color, [i])
    for kind in SHAPES:
        found = shapes_where(lambda s: s.kind == kind)
        inside = texts_where(lambda t: t.container == kind)
        if len(inside) == 1:
            add("shape_text", kind, texts[inside[0]].text, found, inside)
        if len(found) == 1:
            add("shape_colour", kind, shapes[found[0] - len(texts)].color, found)
        if facts.layout != "form" or rng.random() < 0.1:
            if found or rng.random() < 0.3:
                add("count", kind, str(len(found)), found)
            if found or rng.random() < 0.5:
                add("exist", kind, "yes" if found else "no", found)
    for color in COLOR_NAMES:
        found = shapes_where(lambda s: s.color == color)
        if len(found) == 1:
            add("colour_shape", color, shapes[found[0] - len(texts)].kind, found)
    for i, s in enumerate(shapes):
        if s.place:
            add("pos_shape", s.place, s.kind, [len(texts) + i])
    add_form_rows(facts, add)
    words = texts_where(lambda t: not t.is_number)
    if words:
        shown = rng.choice([texts[i].text for i in words])
        add("exist_word", shown, "yes", texts_where(lambda t: t.text == shown))
        other = random_word(rng)
        if other not in [texts[i].text for i in words]:
            add("exist_word", other, "no", [])
    rng.shuffle(out)
    return out


def add_form_rows(facts: Facts, add) -> None:
    """Questions about neighbours in a form: from label to value and back."""
    place = {t.text: i for i, t in enumerate(facts.texts)}
    labels, values = [p[0] for p in facts.rows], [p[1] for p in facts.rows]
    for label, value in facts.rows:
        if labels.count(label) == 1:
            add("form_value", label, value, [place[label]], [place[value]])
        if values.count(value) == 1 and value not in labels:
            add("form_label", value, label, [place[value]], [place[label]])
