"""Checks that OpenAI's client reads the answers of a batch.

    python openai_forms.py PDROP_RUN [MODEL]

Requires openai from PyPI. Every option of a body that changes the form of an answer is used.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from openai.types.chat import ChatCompletion

ROOT = pathlib.Path(__file__).resolve().parents[2]
BODIES = [
    {},
    {"n": 3, "temperature": 1, "seed": 4},
    {"logprobs": True},
    {"logprobs": True, "top_logprobs": 5, "n": 2, "temperature": 0.5},
    {"response_format": {"type": "json_object"}, "logprobs": True, "top_logprobs": 1},
    {"stop": ["1", "2", "3", "4", "5", "6", "7", "8", "9", "0"]},
    {"max_tokens": 1, "ignore_eos": True},
    {"max_tokens": 0},
]


def main():
    program, model = sys.argv[1], (sys.argv[2:] or [str(ROOT / "Models/tiny-textvqa")])[0]
    image = {"type": "image_url", "image_url": {"url": str(ROOT / "Models/samples/bike.png")}}
    text = {"type": "text", "text": "What number is at the top right?"}
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            json.dumps({"custom_id": str(i), "method": "POST", "url": "/v1/chat/completions", "body": {
                "model": "m", "max_tokens": 24, "messages": [{"role": "user", "content": [image, text]}], **body}})
            for i, body in enumerate(BODIES)]
        pathlib.Path(folder, "in.jsonl").write_text("\n".join(lines) + "\n")
        subprocess.run(
            [program, "-m", model, "--input", folder + "/in.jsonl", "--output", folder + "/out.jsonl"], check=True)
        answers = pathlib.Path(folder, "out.jsonl").read_text().splitlines()
    assert len(answers) == len(BODIES), len(answers)
    for body, line in zip(BODIES, answers):
        answer = json.loads(line)
        assert answer["error"] is None, answer
        # Ours has numbers, where OpenAI has the texts that a request gave; the client does not check them.
        received = answer["response"]["body"]
        assert ChatCompletion.construct(**received).metadata["policy"]
        completion = ChatCompletion.model_validate({**received, "metadata": None}, strict=True)
        assert len(completion.choices) == body.get("n", 1)
        for choice in completion.choices:
            assert choice.finish_reason in ("stop", "length")
            content = choice.logprobs.content if choice.logprobs else None
            assert (content is not None) == body.get("logprobs", False)
            for token in content or []:
                assert bytes(token.bytes).decode(errors="replace") == token.token
                assert len(token.top_logprobs) == body.get("top_logprobs", 0)
                assert all(top.logprob >= token.logprob for top in token.top_logprobs[:1])
            if content and "response_format" in body:
                json.loads(choice.message.content)
    print(f"{len(answers)} answers are chat completions of the OpenAI client")


main()
