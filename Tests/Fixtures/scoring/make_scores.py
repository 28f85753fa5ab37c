"""Records the results of published scorers on small inputs, in scores.json.

usage: make_scores.py --llava DIR --vlmevalkit DIR --vqa DIR --anls DIR --lmms-eval DIR

Each DIR is a checkout of haotian-liu/LLaVA, open-compass/VLMEvalKit, GT-Vision-Lab/VQA, shunk031/ANLS and
EvolvingLMMs-Lab/lmms-eval; scores.json is of c121f04, e8e78f05, a013f00, 6472e1d and 75571cfe. The scorers are run from
there; only what they return is written. Needs numpy and tqdm.
"""

import argparse
import ast
import contextlib
import copy
import io
import json
import os
import pathlib
import re
import runpy
import string
import sys
import tempfile
import types
import warnings
from typing import Optional

import numpy


def load(path, *names, **given):
    """The named top-level functions and constants of a Python file, without the imports of that file."""
    source = path.read_text(encoding="utf-8")
    wanted = []
    for node in ast.parse(source).body:
        found = [getattr(node, "name", None)] + [getattr(t, "id", None) for t in getattr(node, "targets", [])]
        if set(found) & set(names):
            wanted.append(node)
    space = {"re": re, "os": os, "cp": copy, "string": string, "np": numpy, "Optional": Optional, **given}
    exec(compile(ast.Module(wanted, []), str(path), "exec"), space)
    return space


def run(script, *arguments, output=None):
    """Runs a script, with its standard output in `output`."""
    kept, sys.argv = sys.argv, [str(script), *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(output or io.StringIO()):
            runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv = kept


def write_lines(path, values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


ANSWERS = [
    "The two dogs, dont bark!", "1,000", "half-way", "well - known well-known", "it's the dog's bone", "3.5 m.", "U.S.A.",
    "." * 40, "What\tIS\nthis?", "none", "somebody'd", "  A  ", "", "yes!", "(b) no", "12:30 p.m.", "couldntve couldn'tve",
    "$5.00.", "a/b", "ten o'clock", "École, no. 5", "'ow's'at s's", "1,000 (approx)", "10,000/5", "the-end", "a\x1cb", "\u00a0x\u3000",
    "Yes.", "youre", "Im", "St. John's", "coca-cola", "\"stop\"", "5'8\"", "unanswerable", "two,three", "é", "e\u0301",
]
NUMBERS = [
    ("42", "40"), ("42.1", "40"), ("38", "40"), ("-40", "40"), ("50%", "0.5"), ("0.1", "9.5%"), ("0", "0"), ("0.0", "0"),
    ("Yes", "yes"), ("1,000", "1000"), ("ten", "10"), ("nan", "NaN"), ("0x10", "16"), ("2e3", "2000"), ("%", "%"),
    ("100 %", "100%"), ("100 %", "1"), ("100%", "100"), ("100 %", "100 %"), (" 100\n", "100"), ("1_000", "1000"),
    ("1__0", "10"), ("inf", "inf"), ("Infinity", "5"), ("+5", "5"), (".5", "0.5"), ("5.", "5"), ("5.e1", "50"), ("e5", "5"),
    (".", "."), ("50%%", "0.5"), ("% 50", "50"), ("\u0661\u0662", "12"), ("Yes", "Yes "), (" Yes ", "yes"), ("$10", "10"),
    ("10.5", "10"), ("10.51", "10"), ("0.1", "0"), ("-0", "0"), ("2,5", "2.5"), ("é", "e\u0301"), ("12 cm", "12"), ("1e400", "5"),
    ("None", "None"), ("nan", "nan"), ("\u00a07", "7"),
]
SIMILAR = [
    ("sitting", ["kitten"]), ("ab", ["cd"]), ("ab", ["xb"]), ("Sun", ["moon", "sun"]), ("A  b", ["a b"]), ("a  bc", ["a b"]),
    ("", [""]), ("", ["a"]), ("abcd", ["abxy"]), ("abcd", ["abxy", "abcx"]), ("12", ["1"]), ("STRASSE", ["straße"]),
    ("e\u0301", ["é"]), (" x\ty ", ["x y"]), ("abc", ["xyc"]), ("half", ["ha"]), ("ha", ["half "]), ("İ", ["i"]),
]
LISTS = [
    "['a', \"it's\"]", " [ 'a\\'b' , ] ", "[]", "[1, 2]", "['a'", "['a' 'b']", "['a", "['a\\", "plain", "['a'] b", "['\\d+']",
    "['C:\\\\x']", "['\\x41\\u00e9\\U0001F600\\101\\t']", "[r'\\n', u'x']", "['a\nb']", "['a\\\nb']", "[2011, 2012.50, -3]",
    "[Yes, No]", "['a',, 'b']", "[,]", "('a', 'b')", "[01]", "['\\u12']", "['\u00e9', 'e\u0301']", "[ 'a'\n, 'b' ]", "['']",
    "['\\q\\\\q\\'']", "[\"a\\\"b\"]", "['\\400']", "[b'x']", "['a' , 'b' 'c']",
]
OPTIONS = [
    {"A": "x", "B": "y", "C": "z", "D": "w"}, {"A": "cat", "B": "a dog", "C": "bird"}, {"A": "1", "B": "2"},
    {"A": "None", "B": "nan", "D": "All of the above"},
]
CHOSEN = [
    "A", "B", "b", "(B)", "B.", "B)", "Answer: B", "All of them", "Another one", "Option B", "option b", "The answer is B",
    "The answer is B.", "B. a dog", "(B) a dog", "A or B", "B, not A", "bird", "It is B", "", " B\n", "a dog", "A dog is running",
    "A large dog is running in the park", "B because of the colour of the fur", "The correct answer is **B**. It says so in the text.",
    "I'm sorry, but without the image provided, B", "Z", "E", "None of them", "none", "nan", "The cat and the bird", "1", "12",
    "Cannot determine the answer", "**D**", "[C]", "{B}", "B/C", "Answer is: B", "Both A and C", "cat" * 30, "Failed to obtain answer via API B",
    "The answer is C, as D is not in the image at all and A is not", "D: w", "#B", "B-", "\u00a0C\u00a0",
]
PROMPTS = [
    "what?\nReference OCR token: A\nAnswer.", "Reference OCR token: A\nWhat?\nAnswer.", "what?\nAnswer.", "one line",
    "OCR tokens: A. Question: What colour? Short answer:", "OCR tokens: A\nB. Question: What\ncolour? Short answer: b Short answer:",
    "What Colour?\nReference OCR token: \nAnswer.",
]
YES_OR_NO = [
    "Yes", "No", "no, it is", "It is not.", "Yes. No.", "NO", "nothing", "", "There is no,dog", "no\nyes", "yes no", "Not", "no.", ", no",
    "I do not know", "yes, there is no dog", "No\u0301", "No.", "n", "y", " YES. ", "N", "a no", "I think yes", "maybe", "..no", "yes no",
    "\n\nyes", "Nope", "unknown",
]
SCIENCE = [
    "C", "C. the cat", "The answer is C.", "So: The answer is A. Well, The answer is B.", "C.", "c", "F", "The answer is C", "", "Cat",
    "The answer is F. The answer is A.", "The answer is A!", "The answer is B\n", "B. ", "B.", "B. x The answer is A.", "E", "(B)", "The answer is D.",
    " B", "B\u0301. x", "The answer is B\u0301", "The answer is F.",
]


def multiple_choice(root):
    infer = load(
        root / "vlmeval/utils/matching_util.py", "can_infer", "can_infer_option", "can_infer_text", "_VERBOSE_ANSWER_RE",
        logger=None)["can_infer"]
    return [[answer, options, infer(answer, dict(options)) or None] for options in OPTIONS for answer in CHOSEN]


def short_answers(root):
    misc = load(root / "vlmeval/smp/misc.py", "istype", "listinstr")
    space = load(
        root / "vlmeval/dataset/utils/vqa_eval.py", "relaxed_correctness", "levenshtein_distance", "anls_compute", "process_line",
        "hit_calculate", istype=misc["istype"], listinstr=lambda names, text: any(name in text for name in names))

    def hit(answer, references, method, dataset):
        line = space["process_line"]({"answer": repr(list(references)), "prediction": answer}, method=method)
        return float(space["hit_calculate"]([line], dataset)[0])

    lists = []
    for text in LISTS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = eval(text) if misc["istype"](text, list) else None  # As the scorer does.
        known = value is not None and all(type(item) in (str, int, float) for item in value)
        lists.append([text, [str(item) for item in value] if known else None])
    return {
        "relaxed": [[a, r, hit(a, [r], "relaxed_accuracy", "ChartQA") == 1] for a, r in NUMBERS],
        "exact": [[a, r, hit(a, [r], "accuracy", "OCRVQA") == 1] for a, r in NUMBERS],
        "anls": [[a, r, hit(a, r, "anls", "DocVQA")] for a, r in SIMILAR],
        "lists": lists,
    }


def soft_accuracy(llava, vqa):
    sys.path.insert(0, str(llava / "llava/eval"))
    import m4c_evaluator

    normalize = m4c_evaluator.EvalAIAnswerProcessor()
    evaluator = m4c_evaluator.TextVQAAccuracyEvaluator()
    source = (vqa / "PythonEvaluationTools/vqaEvaluation/vqaEval.py").read_text(encoding="utf-8")
    space = {}
    # The file is Python 2.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(re.sub(r"print (\"[^\n]*)", r"print(\1)", source), "vqaEval.py", "exec"), space)

    def server(annotations, answer):
        question = {
            "question_type": "q", "answer_type": "other",
            "answers": [{"answer": a, "answer_id": i} for i, a in enumerate(annotations)]}
        truth = types.SimpleNamespace(qa={1: copy.deepcopy(question)}, getQuesIds=lambda: [1])
        scorer = space["VQAEval"](truth, types.SimpleNamespace(qa={1: {"answer": answer}}), n=10)
        scorer.updateProgress = lambda progress: None
        with contextlib.redirect_stdout(io.StringIO()):
            scorer.evaluate()
        return scorer.accuracy["overall"] / 100

    def once(answer):
        """The normalization of the server, which is not a method of its own."""
        scorer = space["VQAEval"](types.SimpleNamespace(getQuesIds=lambda: []), None)
        text = answer.replace("\n", " ").replace("\t", " ").strip()
        return scorer.processDigitArticle(scorer.processPunctuation(text))

    tables = [
        ["Red", "red.", "blue", "green", "green", "the green", "grey", "grey", "grey", "grey"], ["yes"] * 10, ["Yes"] * 10,
        ["dog's", "dogs"] * 5, ["1,000"] * 9 + ["1000"], ["none"] * 4 + ["0"] * 6, ["a", "the"] * 5, ["é", "e\u0301"] * 5,
    ]
    replies = ["red", "A blue", "green", "grey", "black", "yes", "Yes", "dog's", "1,000", "1000", "none", "0", "", "é", "e\u0301"]
    pairs = [(table, reply) for table in tables for reply in replies]
    quiet = contextlib.redirect_stderr(io.StringIO())
    with quiet:
        textvqa = [[t, r, evaluator.eval_pred_list([{"pred_answer": r, "gt_answers": t}])] for t, r in pairs]
    return {
        "normalized": [[answer, normalize(answer), once(answer)] for answer in ANSWERS],
        "textvqa": textvqa,
        "vqav2": [[table, reply, server(table, normalize(reply))] for table, reply in pairs],
    }


def textvqa_prompts(llava):
    process = load(llava / "llava/eval/eval_textvqa.py", "prompt_processor")["prompt_processor"]
    results = []
    for prompt in PROMPTS:
        try:
            results.append([prompt, process(prompt)])
        except AssertionError:
            results.append([prompt, None])
    return results


def pope(llava, folder):
    labels = [{"label": "yes"}, {"label": "no"}]
    path = write_lines(folder / "labels.jsonl", labels[:1])
    scorer = load(llava / "llava/eval/eval_pope.py", "eval_pope", json=json)["eval_pope"]
    single = []
    for text in YES_OR_NO:
        answers = [{"text": text}]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(ZeroDivisionError):
            scorer(answers, path)
        single.append([text, answers[0]["text"] == "yes"])
    path = write_lines(folder / "labels.jsonl", labels * 3)
    texts = ["Yes", "No", "Yes.", "Yes", "no", "There is not"]
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        scorer([{"text": text} for text in texts], path)
    values = dict(re.findall(r"(Accuracy|Precision|Recall|F1 score|Yes ratio): (\S+)", output.getvalue()))
    return {"pope": single, "popeScore": {"texts": texts, **{name: float(value) for name, value in values.items()}}}


def science(llava, folder):
    results = []
    for choices in (2, 5):
        ids = [str(i) for i in range(len(SCIENCE))]
        problems = {i: {"choices": ["x"] * choices, "answer": 0} for i in ids}
        (folder / "pid_splits.json").write_text(json.dumps({"test": ids}))
        (folder / "problems.json").write_text(json.dumps(problems))
        answers = [{"question_id": i, "prompt": "<image>", "text": text} for i, text in zip(ids, SCIENCE)]
        run(
            llava / "llava/eval/eval_science_qa.py", "--base-dir", folder, "--result-file",
            write_lines(folder / "answers.jsonl", answers), "--output-file", folder / "o.json", "--output-result", folder / "r.json")
        found = json.loads((folder / "r.json").read_text())["results"]
        results += [[text, choices, found[i] if found[i] >= 0 else None] for i, text in zip(ids, SCIENCE)]
    return results


def seed(llava, folder):
    questions = [
        {"question_id": str(i), "question_type_id": 1 + i % 2, "data_type": "image" if i < 4 else "video", "answer": "A"}
        for i in range(6)]
    texts = {0: "A", 1: "A.", 2: "(A)", 4: "A", 5: "a"}
    truth = {"questions": questions, "question_type": {"Scene": 1, "Identity": 2}}
    (folder / "seed.json").write_text(json.dumps(truth))
    answers = [{"question_id": i, "text": text} for i, text in texts.items()]
    output = io.StringIO()
    with contextlib.suppress(KeyError):  # It also writes an upload, for which every question needs an answer.
        run(
            llava / "scripts/convert_seed_for_submission.py", "--annotation-file", folder / "seed.json", "--result-file",
            write_lines(folder / "seed.jsonl", answers), "--result-upload-file", folder / "upload.jsonl", output=output)
    values = {name: float(value) for name, value in re.findall(r"^(.*?)(?: accuracy)?: ([0-9.]+)%", output.getvalue(), re.M)}
    return {"texts": texts, **values}


def mme(lmms):
    space = load(lmms / "lmms_eval/tasks/mme/utils.py", "parse_pred_ans")
    return [[text, {"yes": True, "no": False}.get(space["parse_pred_ans"](text))] for text in YES_OR_NO]


def strict_anls(root):
    sys.path.insert(0, str(root))
    from anls.metrics import anls_score

    return [[answer, references, anls_score(answer, references)] for answer, references in SIMILAR]


def main():
    parser = argparse.ArgumentParser()
    for name in ("llava", "vlmevalkit", "vqa", "anls", "lmms-eval"):
        parser.add_argument("--" + name, type=pathlib.Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        scores = {
            "options": multiple_choice(options.vlmevalkit), **short_answers(options.vlmevalkit),
            **soft_accuracy(options.llava, options.vqa), "prompts": textvqa_prompts(options.llava), **pope(options.llava, folder),
            "scienceqa": science(options.llava, folder), "seed": seed(options.llava, folder), "mme": mme(options.lmms_eval),
            "strictANLS": strict_anls(options.anls),
        }
    lines = ",\n".join(
        json.dumps(key) + ": " + (
            "[\n" + ",\n".join(json.dumps(row) for row in value) + "\n]" if isinstance(value, list) else json.dumps(value))
        for key, value in scores.items())
    (pathlib.Path(__file__).parent / "scores.json").write_text("{\n" + lines + "\n}\n")


main()
