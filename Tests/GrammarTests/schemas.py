"""Random JSON schemas of the subset of structured output, and a check of answers with the package jsonschema.

usage: schemas.py generate [--count N] [--seed N]   prints a schema per line
       schemas.py validate FILE                     reads {"schema": ..., "answer": "text"} per line; exits with 1 if one fails

`validate` needs jsonschema from PyPI. Formats are checked by the parsers of Python's standard library.
"""

import argparse
import datetime
import ipaddress
import json
import random
import re
import sys
import uuid

PATTERNS = [
    "^[A-Z]{2}[0-9]+$", "^a|b$", '[^"a]{3}', r"^\w+( \w+)*$", "é?x.y", "^(ab|c)*$", r"^\d{4}-\d{2}$", r"\S\s\S", "[\\u00e0-\\u00ff]{2,4}$",
    r"^[^\d_]+$",
]
FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "email"]
NAMES = ["name", "name2", "n", "é", "a b", 'quo"te', "items", "x/y~z", "type", "$ref", "日本", "new\nline"]
LITERALS = ["red", 'gr"een\n', "é日👍", "", 0, 1, -2.5, 1e-7, 12345678901, True, False, None, [1, "a"], {"k": []}, {}]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.definitions = []

    def chance(self, probability):
        return self.random.random() < probability

    def root(self):
        self.definitions = ["node", "a/b c"] if self.chance(0.3) else []
        schema = self.schema(0)
        if self.definitions and isinstance(schema, dict):
            key = self.random.choice(["$defs", "definitions"])
            members = {name: self.schema(2) for name in self.definitions}
            # A definition that is only a reference may lead to itself.
            for name, member in members.items():
                if member is True or "$ref" in member or "anyOf" in member:
                    members[name] = {"type": "integer"}
            schema = json.loads(json.dumps(schema).replace("#/$defs", "#/" + key))
            members = json.loads(json.dumps(members).replace("#/$defs", "#/" + key))
            # Properties that are required and hold their own object have no finite value.
            for member in members.values():
                member.pop("required", None)
                member.pop("minItems", None)
            schema[key] = members
        if isinstance(schema, dict) and self.chance(0.3):
            schema["title"] = "A title"
            schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
        return schema

    def schema(self, depth):
        makers = [self.boolean, self.null, self.number, self.number, self.string, self.string, self.literals, self.any]
        if depth < 4:
            makers += [self.object, self.object, self.object, self.array, self.array, self.any_of, self.types]
        if self.definitions and depth > 0:
            makers += [self.reference]
        return self.random.choice(makers)(depth)

    def boolean(self, depth):
        return {"type": "boolean"}

    def null(self, depth):
        return {"type": "null"}

    def any(self, depth):
        return self.random.choice([{}, True, {"description": "anything"}])

    def reference(self, depth):
        name = self.random.choice(self.definitions)
        return {"$ref": "#/$defs/" + name.replace("~", "~0").replace("/", "~1").replace(" ", "%20")}

    def number(self, depth):
        is_integer = self.chance(0.5)
        schema = {"type": "integer" if is_integer else "number"}
        scale = self.random.choice([1, 100, 10**6])
        low = self.random.randint(-2 * scale, 2 * scale) if is_integer else round(self.random.uniform(-scale, scale), 4)
        high = low + (self.random.randint(2, 3 * scale) if is_integer else round(self.random.uniform(0.01, scale), 3))
        if self.chance(0.5):
            schema[self.random.choice(["minimum", "exclusiveMinimum"])] = low
        if self.chance(0.5):
            schema[self.random.choice(["maximum", "exclusiveMaximum"])] = high
        return schema

    def string(self, depth):
        schema = {"type": "string"}
        kind = self.random.randrange(4)
        low = self.random.randrange(8)
        if kind == 1:
            if self.chance(0.7):
                schema["minLength"] = low
            if self.chance(0.7):
                schema["maxLength"] = low + self.random.randrange(10)
        elif kind == 2:
            schema["pattern"] = self.random.choice(PATTERNS)
            if self.chance(0.3):
                schema["maxLength"] = self.random.randint(7, 15)
        elif kind == 3:
            schema["format"] = self.random.choice(FORMATS)
        return schema

    def literals(self, depth):
        if self.chance(0.3):
            return {"const": self.random.choice(LITERALS)}
        return {"enum": self.random.sample(LITERALS, self.random.randint(1, 5))}

    def types(self, depth):
        names = ["object", "array", "string", "number", "integer", "boolean", "null"]
        return {"type": self.random.sample(names, self.random.randint(1, 3)), "minLength": 1, "maxItems": 3}

    def object(self, depth):
        if self.chance(0.2):
            return {"type": "object", "additionalProperties": self.schema(depth + 1)}
        names = self.random.sample(NAMES, self.random.randint(0, 6))
        schema = {
            "type": "object",
            "properties": {name: self.schema(depth + 1) for name in names},
            "required": [name for name in names if self.chance(0.6)],
        }
        if self.chance(0.6):
            schema["additionalProperties"] = False
        return schema

    def array(self, depth):
        schema = {"type": "array"}
        if self.chance(0.9):
            schema["items"] = self.schema(depth + 1)
        low = self.random.randrange(4)
        if self.chance(0.5):
            schema["minItems"] = low
        if self.chance(0.5):
            schema["maxItems"] = low + self.random.randrange(4)
        return schema

    def any_of(self, depth):
        return {"anyOf": [self.schema(depth + 1) for _ in range(self.random.randint(1, 3))]}


def checker(jsonschema):
    """Formats as Python's standard library reads them."""
    formats = jsonschema.FormatChecker(formats=())

    def check(name, is_valid):
        formats.checks(name, raises=ValueError)(lambda value: not isinstance(value, str) or is_valid(value))

    check("date", lambda text: datetime.date.fromisoformat(text) is not None)
    zone = r"(Z|[+-]\d\d:\d\d)"
    check("time", lambda text: re.fullmatch(r"\d\d:\d\d:\d\d(\.\d+)?" + zone, text) is not None
        and datetime.time.fromisoformat(text) is not None)
    check("date-time", lambda text: re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?" + zone, text) is not None
        and datetime.datetime.fromisoformat(text) is not None)
    check("uuid", lambda text: str(uuid.UUID(text)) == text.lower())
    check("ipv4", lambda text: ipaddress.IPv4Address(text) is not None)
    check("email", lambda text: re.fullmatch(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+", text) is not None)
    return formats


def validate(lines):
    import jsonschema

    formats = checker(jsonschema)
    count = failures = 0
    for number, line in enumerate(lines, 1):
        record = json.loads(line)
        count += 1
        try:
            value = json.loads(record["answer"])
            validator = jsonschema.Draft202012Validator(record["schema"], format_checker=formats)
            validator.check_schema(record["schema"])
            validator.validate(value)
        except (ValueError, jsonschema.ValidationError, jsonschema.SchemaError) as error:
            failures += 1
            print(f"line {number}: {type(error).__name__}: {str(error).splitlines()[0]}: {record['answer']!r}")
    print(f"{count} answers, {failures} failures")
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    generate = commands.add_parser("generate")
    generate.add_argument("--count", type=int, default=500)
    generate.add_argument("--seed", type=int, default=1)
    commands.add_parser("validate").add_argument("file")
    arguments = parser.parse_args()
    if arguments.command == "validate":
        with open(arguments.file, encoding="utf-8") as lines:
            return validate(lines)
    generator = Generator(arguments.seed)
    for _ in range(arguments.count):
        print(json.dumps(generator.root(), ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
