import Evaluation
import TestSupport
import Testing

/// Faults in ground truth and tables, and what Python's readers accept.
@Suite struct DataFaultTests {
  private static let base64 = String(repeating: "QUJD", count: 20)

  private static func gqa(_ entry: String = #"{"answer": "cat", "question": "What animal is on the mat?"}"#) throws
    -> BenchmarkFolder
  {
    try BenchmarkFolder("gqa", ["gqa/data/testdev_balanced_questions.json": #"{"1": \#(entry)}"#])
  }

  @Test func `an answer to another question does not replace the right one`() throws {
    let own = llavaLine("1", "cat", prompt: "What animal is on the mat?")
    let other = llavaLine("1", "dog", prompt: "Which of the options is right?")
    try Self.gqa().expectError(
      #"answers.jsonl, line 2: prompt: another answer to the question "1" has another prompt"#, scoring: [own, other])
    try Self.gqa().expectError(#"line 2: prompt: another answer to the question "1""#, scoring: [other, own])
    #expect(
      try Self.gqa().score([other.replacing("Which of the options is right?", with: "What animal is on the mat?"), own])
        .value("accuracy") == 100
    )
  }

  @Test func `a repeated key has its last value, as in Python`() throws {
    let folder = try Self.gqa(#"{"answer": "dog", "question": "q", "answer": "cat"}"#)
    #expect(try folder.score([#"{"question_id": 1, "text": "dog", "text": "cat"}"#]).value("accuracy") == 100)
  }

  @Test func `numbers that only Python writes are no fault of a field that is not used`() throws {
    let folder = try Self.gqa(#"{"answer": "cat", "score": NaN, "other": [Infinity, -Infinity]}"#)
    #expect(try folder.score([#"{"question_id": 1, "text": "cat", "loss": NaN}"#]).value("accuracy") == 100)
  }

  @Test(
    arguments: [
      ("\u{FEFF}{}".utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }, "expected UTF-8, found UTF-16"),
      ([0x1F, 0x8B, 8, 0], "expected UTF-8, found gzip data; decompress it"),
      (
        Array("version https://git-lfs.github.com/spec/v1\noid sha256:0\n".utf8),
        "a Git LFS pointer instead of the file"
      ),
      (Array("\n <!DOCTYPE HTML><html>".utf8), "is a web page (HTML) instead of data"),
      ([0x50, 0x4B, 3, 4], "expected UTF-8, found zip data"),
    ] as [([UInt8], String)])
  func `a file of another kind is named`(bytes: [UInt8], words: String) throws {
    let folder = try Self.gqa()
    try folder.folder.write("gqa/data/testdev_balanced_questions.json", bytes)
    try folder.expectError("testdev_balanced_questions.json: \(words)", scoring: [llavaLine("1", "cat")])
    let table = try BenchmarkFolder("docvqa")
    try table.folder.write("docvqa/DocVQA_VAL.tsv", bytes)
    try table.expectError("DocVQA_VAL.tsv: \(words)")
  }

  @Test(arguments: [7, -1]) func `ScienceQA has answers among its choices`(index: Int) throws {
    let folder = try BenchmarkFolder(
      "scienceqa",
      [
        "scienceqa/pid_splits.json": #"{"test": ["1"]}"#,
        "scienceqa/problems.json": #"{"1": {"question": "q", "answer": \#(index), "choices": ["a", "b", "c"]}}"#,
      ])
    try folder.expectError(
      #"problems.json, "1": answer: expected the index of one of 3 choices, found \#(index)"#,
      scoring: [llavaLine("1", "A")])
  }

  @Test func `MME has one answer to a question`() throws {
    let folder = try BenchmarkFolder(
      "mme", ["MME/MME_Benchmark_release_version/color/1.txt": "Is it?\tYes\nIs it not?\tNo\nIs it?\tNo\n"])
    try folder.expectError(
      #"1.txt, line 3: the question occurs with Yes and with No: "Is it?""#, scoring: [llavaLine("1", "yes")])
  }

  @Test(arguments: [("0", 1), ("false", 1), ("0.0", 1), ("1", 0), ("true", 0), ("null", 0)])
  func `VizWiz says in any form whether a question can be answered`(value: String, unanswerable: Int) throws {
    func folder(_ value: String) throws -> BenchmarkFolder {
      let entry = #"{"image": "a.jpg", "question": "q", "answers": [{"answer": "x"}], "answerable": \#(value)}"#
      return try BenchmarkFolder("vizwiz-val", ["vizwiz/val.json": "[\(entry)]"])
    }
    let score = try folder(value).score([llavaLine("\"a.jpg\"", "x")])
    #expect(score["unanswerable questions"]?.count ?? 0 == unanswerable)
    try folder("\"0\"").expectError("answerable: expected 0 or 1, found \"0\"", scoring: [llavaLine("\"a.jpg\"", "x")])
  }

  @Test func `a row takes its image from any other row`() throws {
    let other = String(repeating: "REVG", count: 20)
    let rows = [
      "1\tq\t3\ta", "2\tq\t1\ta", "3\tq\t\(Self.base64)\ta", "4\tq\tdata:image/png;base64,\(other)\ta",
      "5\tq\t['\(other)']\ta", "6\tq\t4\ta",
    ]
    let table = "index\tquestion\timage\tanswer\n" + rows.joined(separator: "\n")
    let questions = try BenchmarkFolder("docvqa", ["docvqa/DocVQA_VAL.tsv": table]).questions()
    let images = [Self.base64, Self.base64, Self.base64, other, other, other]
    #expect(questions.map(\.image) == images.map { .base64($0) })
    for (image, words) in [
      ("9", #"expected base64 or the index of a row with an image, found "9""#),
      ("2", #"expected base64 or the index of a row with an image, found "2""#),
      ("['\(other)', '\(other)']", "expected one image, found a list of 2"),
    ] {
      let table = "index\tquestion\timage\tanswer\n1\tq\t\(image)\ta\n2\tq\t1\ta\n"
      try BenchmarkFolder("docvqa", ["docvqa/DocVQA_VAL.tsv": table]).expectError("line 2: image: \(words)")
    }
  }

  @Test func `a sigma at the end of a word is that of Python`() {
    #expect(isExactMatch("ΟΔΟΣ", "οδος") && !isExactMatch("ΟΔΟΣ", "οδοσ"))
    #expect(isExactMatch("Σ ΑΣΑΣ", "σ ασας"))
  }

  @Test func `ScienceQA counts matches that do not overlap`() {
    #expect(OptionLetter.parsedForScienceQA("The answer is BThe answer is D ", choices: 4) == 1)
    #expect(OptionLetter.parsedForScienceQA("The answer is B. The answer is D.", choices: 4) == nil)
  }
}
