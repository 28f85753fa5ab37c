"""Refuses the words of the not column of docs/glossary.md.

usage: lint_words.py --identifiers FILE... --documents FILE...

The page describes the entries. Every word of a source file is an identifier, in comments and strings as well; in a document,
code, link targets and the glossary itself are skipped. Prints one line per word and exits with 1 if there are any.
"""

import pathlib
import re
import sys

GLOSSARY = pathlib.Path(__file__).parent.parent / "docs" / "glossary.md"


def entries(page):
    """The backticked entries in the last column of the tables that end with a column `not`."""
    for table in page.split("\n\n"):
        rows = [row.strip().strip("|").split("|") for row in table.splitlines() if row.startswith("|")]
        if rows and rows[0][-1].strip() == "not":
            for row in rows[2:]:
                yield from re.findall(r"`([^`]+)`", row[-1])


def parts(identifier):
    """The words of a camel-case or snake-case name, in lower case."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", identifier)]


def contains(words, entry):
    """Whether the words of an entry, or their plurals, follow each other in `words`."""
    starts = range(len(words) - len(entry) + 1)
    return any(all(w in (e, e + "s") for w, e in zip(words[s:], entry)) for s in starts)


def in_source(text, refused):
    refused = [parts(entry) for entry in refused if " " not in entry]
    for number, line in enumerate(text.splitlines(), 1):
        for identifier in re.findall(r"[A-Za-z_][A-Za-z0-9_]*", line):
            if any(contains(parts(identifier), entry) for entry in refused):
                yield number, identifier


def in_document(text, refused):
    def blank(match):
        return "\n" * match[0].count("\n")

    text = re.sub(r"^```.*?^```", blank, text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^ {4,}\S.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`\n]*(\n[^`\n]*)?`", blank, text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    for entry in refused:
        if re.fullmatch(r"[a-z -]+", entry):
            for match in re.finditer(r"\b" + entry.replace(" ", r"[\s-]+") + r"s?\b", text, re.IGNORECASE):
                yield text[: match.start()].count("\n") + 1, match[0]


def main(arguments):
    page = GLOSSARY.read_text()
    refused = list(entries(page))
    allowed = re.findall(r"`([^`]+)`", page[page.index("## Allowed spellings") :])
    find, count = None, 0
    for argument in arguments:
        if argument in ("--identifiers", "--documents"):
            find = in_source if argument == "--identifiers" else in_document
            continue
        if pathlib.Path(argument).resolve() == GLOSSARY.resolve():
            continue
        text = pathlib.Path(argument).read_text()
        for spelling in allowed:
            text = text.replace(spelling, "")
        for number, word in find(text, refused):
            print(f"{argument}:{number}: '{word}' is in the not column of docs/glossary.md")
            count += 1
    return 1 if count else 0


sys.exit(main(sys.argv[1:]))
