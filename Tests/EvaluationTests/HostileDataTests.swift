import Evaluation
import TestSupport
import Testing

/// Malformed files: a one-line error with the location.
@Suite struct HostileDataTests {
  @Test(arguments: [
    ("{\"question_id\": 1, \"image\": \"a\", \"text\": \"q\"}\n{\"question_id\"\n", "line 2: not JSON"),
    ("[1]\n", "line 1: expected a JSON object"),
    ("\n\n{\"image\": \"a\", \"text\": \"q\"}", "line 3: question_id: expected"),
    ("{\"question_id\": 1.5, \"image\": \"a\", \"text\": \"q\"}", "found 1.5"),
    ("{\"question_id\": 1, \"image\": 2, \"text\": \"q\"}", "image: expected a string"),
    ("{\"question_id\": 1, \"image\": \"a\"}", "text: expected a string, found none"),
    ("\u{0}\u{1}", "line 1: not JSON"),
    (String(repeating: "[", count: 5000), "line 1: not JSON"), ("", "empty"),
  ])
  func `question files`(text: String, words: String) throws {
    let folder = try BenchmarkFolder("gqa", ["gqa/llava_gqa_testdev_balanced.jsonl": text])
    try folder.expectError("llava_gqa_testdev_balanced.jsonl")
    try folder.expectError(words)
  }

  @Test(arguments: [
    ("{\n\"1\": {\n}", "line 3: not JSON"), ("[]", "expected an object"),
    ("{\"1\": {\"answer\": 3}}", "\"1\": answer: expected"),
    ("{\"1\": null}", "\"1\": answer: expected"),
  ])
  func `ground-truth files`(text: String, words: String) throws {
    let folder = try BenchmarkFolder("gqa", ["gqa/data/testdev_balanced_questions.json": text])
    try folder.expectError(words, scoring: [llavaLine("1", "a")])
  }

  @Test(arguments: [
    ("{\"question_id\": 1, \"text\": 3}", "line 1: text: expected a string, found 3"),
    ("{\"text\": \"a\"}", "question_id"),
    ("{}", "question_id: expected"), ("{\"question_id\": 1, \"text\": \"a\"", "line 1: not JSON"),
  ])
  func `answer files`(line: String, words: String) throws {
    let folder = try BenchmarkFolder(
      "gqa", ["gqa/data/testdev_balanced_questions.json": "{\"1\": {\"answer\": \"a\"}}"])
    try folder.expectError("answers.jsonl", scoring: [line])
    try folder.expectError(words, scoring: [line])
  }

  @Test func `errors in nested lists have their path`() throws {
    let folder = try BenchmarkFolder(
      "vqav2-val",
      [
        "vqav2/v2_mscoco_val2014_annotations.json":
          #"{"annotations": [{"question_id": 1, "answers": [{"answer": 1}]}]}"#
      ])
    try folder.expectError(
      "annotations[0].answers[0]: answer: expected a string, found 1", scoring: [llavaLine("1", "a")])
    let empty = try BenchmarkFolder(
      "textvqa",
      ["textvqa/TextVQA_0.5.1_val.json": #"{"data": [{"image_id": "p", "question": "q", "answers": ["a"]}]}"#])
    try empty.expectError("data[0]: answers: expected 10, found 1", scoring: [llavaLine("1", "a")])
  }

  @Test func `missing files are named`() throws {
    let folder = try BenchmarkFolder("pope")
    #expect(
      folder.benchmark.missing([.questions, .images], in: folder.data) == [
        "pope/llava_pope_test.jsonl", "pope/val2014",
      ])
    try folder.expectError("llava_pope_test.jsonl: no such file")
  }

  @Test func `every benchmark has its own name and files`() {
    #expect(Set(Benchmarks.all.map(\.name)).count == Benchmarks.all.count)
    #expect(Set(Benchmarks.all.map(\.answerFolder)).count == Benchmarks.all.count)
    #expect(Benchmarks.all.allSatisfy { !$0.files.isEmpty && $0.uploadFolder != $0.answerFolder })
  }

  @Test func `costs of answers that overflow are left out, and their sums do not overflow`() throws {
    let largest = "9223372036854775807"
    let lines = [1, 0, 0].map { rank in
      #"{"question_id": 1, "text": "a", "metadata": {"flops": {"prefill": \#(largest), "rank": \#(rank)}, "#
        + #""flops_prefill_without_dropping": \#(largest)}}"#
    }
    let folder = try TemporaryFolder()
    let answers = try AnswerSet(reading: folder.write("a.jsonl", lines.joined(separator: "\n")))
    #expect(answers.items.map { $0.cost == nil } == [true, false, false])
    #expect(answers.savedFlops == 0)
  }
}
