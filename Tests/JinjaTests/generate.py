"""Writes Fixtures/templates.json and Fixtures/expressions.json: chat templates, conversations, and what jinja2 makes.

Usage: python generate.py        writes the fixtures (needs jinja2 3.1)

The environment is that of transformers' `apply_chat_template`; `strftime_now` gives a fixed time. The templates are
written for these fixtures after the public conventions of each model family, with mutations of form.
"""

import datetime
import json
import pathlib

import expressions
import families
import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent / "Fixtures"
NOW = datetime.datetime(2024, 7, 26, 15, 4, 5)


class Generation(jinja2.ext.Extension):
    """`{% generation %}` renders its body, in a scope of its own."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class TemplateDict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)


class TemplateNamespace(jinja2.utils.Namespace):
    """Refuses names that begin with an underscore."""

    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        values = dict(*args, **kwargs)
        for name in values:
            TemplateNamespace.check(name)
        jinja2.utils.Namespace.__init__(self, values)

    def __setitem__(self, name, value):
        TemplateNamespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    env.globals["dict"] = TemplateDict()
    env.globals["namespace"] = TemplateNamespace
    return env


ENV = environment()


def render(source, context):
    """The text, or None if jinja2 refuses the template or its variables."""
    try:
        text = ENV.from_string(source).render(**json.loads(json.dumps(context)))
        text.encode()
        return text
    except Exception:
        return None


# MARK: Conversations


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


def text(value):
    return {"type": "text", "text": value}


IMAGE = {"type": "image"}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a place, \"now\" <or> later & it's free",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city — e.g. Zürich"},
                "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                "days": {"type": "integer", "minimum": 1, "maximum": 14.5},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["city"],
        },
    },
}
CALL = {"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Köln", "days": 2}}}

BASE = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
CONVERSATIONS = {
    "short": [turn("user", "What is shown?")],
    "multi": [
        turn("user", "Hi there"),
        turn("assistant", " Hello!\nHow can I help? "),
        turn("user", "  Count to 3.\n"),
    ],
    "system": [turn("system", "Be brief."), turn("user", "Who are you?"), turn("assistant", "A model."), turn("user", "Ok")],
    "image": [turn("user", [IMAGE, text("What is in this image?")])],
    "images": [
        turn("system", [text("You see well.")]),
        turn("user", [text("Compare "), IMAGE, text(" with "), IMAGE]),
        turn("assistant", [text("The first is larger.")]),
        turn("user", [text("And this?"), {"type": "image", "image": "a.png"}]),
    ],
    "unicode": [turn("user", "Größe 中文 e\u0301 👩‍👩‍👧 \u00a0x\u2003"), turn("assistant", "«ok»\t\"q\" 'a' <b>&"), turn("user", "\u3000日本\u3000")],
    "wrong": [turn("assistant", "I start"), turn("assistant", "twice")],
    "empty": [],
}
TOOLS = [
    turn("system", "Use tools."),
    turn("user", "Weather?"),
    turn("assistant", "", tool_calls=[CALL]),
    turn("tool", "{\"temp\": 21}", name="get_weather", tool_call_id="call12345"),
    turn("assistant", "21 degrees."),
    turn("user", "Thanks"),
]


def contexts():
    result = {}
    for name, messages in CONVERSATIONS.items():
        result[name] = {**BASE, "messages": messages, "add_generation_prompt": False}
        if name != "wrong":
            result[name + "+"] = {**BASE, "messages": messages, "add_generation_prompt": True}
    result["tools"] = {**BASE, "messages": TOOLS, "tools": [TOOL], "add_generation_prompt": True, "documents": None}
    result["none"] = {**BASE, "messages": TOOLS[:2], "tools": None, "add_generation_prompt": True, "enable_thinking": False}
    result["thinking"] = {
        **BASE,
        "messages": [turn("user", "2+2?"), turn("assistant", "<think>\nsum\n</think>\n\n4"), turn("user", "so?")],
        "enable_thinking": True,
        "add_generation_prompt": True,
        "documents": [{"title": "A", "text": "Text of A"}, {"title": "B", "text": "Text of B"}],
    }
    return result


# MARK: Mutations of form


def spread(source):
    return source.replace("{%-", "{%").replace("{%", "\n   {%").replace("%}", "%}\n")


def captured(source):
    return "{% set all %}" + source + "{% endset %}\n[{{ all | trim }}]"


def in_macro(source):
    names = "messages, add_generation_prompt, bos_token, eos_token, tools"
    return "{% macro all(" + names + ") %}" + source + "{% endmacro %}{{ all(" + names + ") }}"


def brackets(source):
    for name in ["role", "content", "type", "text"]:
        source = source.replace(f"['{name}']", f".{name}").replace(f'["{name}"]', f".{name}")
    return source


MUTATIONS = {
    "dashes": lambda s: s.replace("{%-", "{%").replace("-%}", "%}").replace("{%", "{%-").replace("%}", "-%}"),
    "plain": lambda s: s.replace("{%-", "{%").replace("-%}", "%}").replace("{{-", "{{").replace("-}}", "}}"),
    "plus": lambda s: s.replace("{%-", "{%").replace("-%}", "%}").replace("{%", "  {%+").replace("%}", "+%}\n"),
    "spread": spread,
    "crlf": lambda s: spread(s).replace("\n", "\r\n"),
    "tight": lambda s: s.replace("{{ ", "{{").replace(" }}", "}}").replace("{% ", "{%").replace(" %}", "%}"),
    "brackets": brackets,
    "captured": captured,
    "macro": in_macro,
    "quotes": lambda s: s.replace("\\'", "\0").replace("'", "\1").replace('"', "'").replace("\1", '"').replace("\0", '\\"'),
    "filter": lambda s: "{% filter upper %}" + s + "{% endfilter %}",
    "stripped": lambda s: s.replace("message['content']", "(message['content'] | trim)").replace("content['text']", "content['text'].strip()"),
    "test": lambda s: s.replace("message['role'] == ", "message['role'] is eq ").replace("== 'image'", "in ('image', 'image_url')"),
    "alias": lambda s: "{% set messages = messages[:] %}" + s.replace("message in", "msg in").replace("message[", "msg[").replace("message.", "msg."),
    "comment": lambda s: s.replace("{%", "{# note {{ x }} #}{%"),
    "indent": lambda s: "\n".join("      " + line for line in spread(s).split("\n")),
}
MUTATED_CONTEXTS = ["multi+", "system", "image+", "images", "unicode"]


def main():
    contexts_ = contexts()
    templates = dict(families.T)
    cases = []
    for name, source in families.T.items():
        for context in contexts_:
            cases.append([name, context, render(source, contexts_[context])])
    for name, source in families.T.items():
        if len(source) > 2000:
            continue
        for mutation, change in MUTATIONS.items():
            changed = change(source)
            if changed in templates.values():
                continue
            results = [(context, render(changed, contexts_[context])) for context in MUTATED_CONTEXTS]
            if all(result is None for _, result in results):
                continue
            templates[f"{name}/{mutation}"] = changed
            cases += [[f"{name}/{mutation}", context, result] for context, result in results]
    write("templates.json", {"contexts": contexts_, "templates": templates, "cases": cases})

    small = [["{{ " + expression + " }}", True] for expression in expressions.EXPRESSIONS]
    small += [[statement, True] for statement in expressions.STATEMENTS]
    small += [["{{ " + expression + " }}", False] for expression in expressions.REFUSED_EXPRESSIONS]
    small += [[statement, False] for statement in expressions.REFUSED_STATEMENTS]
    results = []
    for source, is_accepted in small:
        result = render(source, expressions.VARIABLES)
        if not is_accepted and result is not None:
            print("jinja2 accepts", repr(source), "as", repr(result))
        results.append([source, result])
    write("expressions.json", {"variables": expressions.VARIABLES, "cases": results})
    print(len(templates), "templates,", len(cases), "cases,", len(results), "small cases")


def write(name, value):
    HERE.mkdir(exist_ok=True)
    (HERE / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":"), indent=0) + "\n")


if __name__ == "__main__":
    main()
