import Evaluation
import TestSupport
import Testing

/// Files as people have them: ids in other forms, answers of other benchmarks, tables of other exports.
@Suite struct ScoringFaultTests {
  private static let short = "Answer the question using a single word or phrase."
  private static let base64 = String(repeating: "QUJD", count: 20)

  // MARK: - Answers that do not belong

  private static func gqa(_ ids: [String] = ["1", "2"]) throws -> BenchmarkFolder {
    let members = ids.map { #""\#($0)": {"answer": "cat", "question": "What animal is on the mat?"}"# }
    return try BenchmarkFolder(
      "gqa", ["gqa/data/testdev_balanced_questions.json": "{" + members.joined(separator: ",") + "}"])
  }

  @Test func `an answer to a question of another benchmark is an error with its line`() throws {
    try Self.gqa().expectError(
      #"answers.jsonl, line 2: question_id: "7" is not a question of"#,
      scoring: [llavaLine("1", "cat"), llavaLine("7", "cat")])
  }

  @Test func `prompts of another benchmark are an error, if most differ`() throws {
    let other = "Which of the options is right?\n\(Self.short)"
    let own = "What animal is on the mat?\n\(Self.short)"
    let folder = try Self.gqa(["1", "2", "3"])
    try folder.expectError(
      #"answers.jsonl, line 1: prompt: expected the question "1" of"#,
      scoring: [llavaLine("1", "cat", prompt: other), llavaLine("2", "cat", prompt: other)])
    for prompts in [[own, other], ["q", "p"], ["", ""], ["Look: WHAT animal is on the mat? In one word", own]] {
      let lines = zip(["1", "2"], prompts).map { llavaLine($0, "cat", prompt: $1) }
      #expect(try folder.score(lines, countsMissing: false).value("accuracy") == 100, "\(prompts)")
    }
  }

  @Test func `ids are compared by their bytes`() throws {
    let folder = try Self.gqa(["caf\u{E9}", "cafe\u{301}"])
    let lines = [llavaLine("\"caf\u{E9}\"", "cat"), llavaLine("\"cafe\u{301}\"", "dog")]
    #expect(try folder.score(lines).value("accuracy") == 50)
    #expect(QuestionID("\u{E9}") != QuestionID("e\u{301}") && QuestionID(7) == QuestionID("7"))
    #expect(!isExactMatch("\u{E9}", "e\u{301}"))
  }

  @Test func `the last of several answers counts once`() throws {
    let folder = try Self.gqa()
    let lines = [llavaLine("1", "dog"), llavaLine("2", "dog"), llavaLine("\"1\"", "cat")]
    let score = try folder.score(lines)
    #expect(score.value("accuracy") == 50 && score["accuracy"]?.count == 2)
  }

  @Test func `a byte order mark and line ends of Windows are no part of an answer file`() throws {
    let score = try Self.gqa().score(["\u{FEFF}" + llavaLine("1", "cat") + "\r", "\r", llavaLine("2", "cat") + "\r"])
    #expect(score.value("accuracy") == 100)
  }

  @Test func `a file without answers is an error`() throws {
    try Self.gqa().expectError("answers.jsonl: has no answers", scoring: ["", " "])
  }

  @Test func `repeated questions are an error`() throws {
    try Self.gqa(["1", "1"]).expectError(#"the question "1" occurs twice"#, scoring: [llavaLine("1", "cat")])
    let table = "index\tquestion\timage\tanswer\n1\tq\t\(Self.base64)\ta\n1\tq\t\(Self.base64)\tb\n"
    try BenchmarkFolder("docvqa", ["docvqa/DocVQA_VAL.tsv": table]).expectError(
      #"DocVQA_VAL.tsv, line 3: index: "1" occurs twice"#, scoring: [llavaLine("1", "a")])
  }

  @Test(arguments: [
    ("._run.jsonl", true), ("model/._merge.jsonl", true), ("__MACOSX/run.jsonl", true), (".DS_Store", true),
    ("model/merge.jsonl", false), ("a.b.jsonl", false),
  ])
  func `files of macOS are not data`(path: String, isSystemFile: Bool) {
    #expect(DataFolder.isSystemFile(path) == isSystemFile)
  }

  @Test func `MME reads no files of macOS`() throws {
    let folder = try BenchmarkFolder(
      "mme",
      [
        "MME/MME_Benchmark_release_version/color/1.txt":
          "\u{FEFF}Is it? Please answer yes or no.\tYes\r\nIs it not? Please answer yes or no.\tNo\r\n",
        "MME/MME_Benchmark_release_version/color/._1.txt": "\u{0}\u{5}\u{16}\u{7}Mac OS X",
        "MME/MME_Benchmark_release_version/color/.DS_Store": "\u{0}",
        "MME/MME_Benchmark_release_version/.DS_Store": "\u{0}",
      ])
    let lines = [("Is it?", "yes"), ("Is it not?", "no")].map {
      llavaLine("\"color/1.png\"", $0.1, prompt: "\($0.0)\n\(Self.short)")
    }
    #expect(try folder.score(lines).value("color") == 200)
  }

  // MARK: - TextVQA

  private static func textVQA(_ questions: [(image: String, text: String)]) throws -> BenchmarkFolder {
    let answers = Array(repeating: #""stop""#, count: 10).joined(separator: ", ")
    let entries = questions.enumerated().map {
      #"{"image_id": "\#($1.image)", "question": "\#($1.text)", "question_id": \#(100 + $0), "answers": [\#(answers)]}"#
    }
    return try BenchmarkFolder(
      "textvqa",
      [
        "textvqa/TextVQA_0.5.1_val.json": #"{"data": [\#(entries.joined(separator: ","))]}"#,
        "textvqa/llava_textvqa_val_v051_ocr.jsonl":
          #"{"question_id": "a", "image": "a.jpg", "text": "what?\nReference OCR token: ST\nOP\n\#(short)"}"#,
      ])
  }

  @Test(arguments: ["what?\nReference OCR token: ST\nOP\nAnswer.", "Reference OCR token: ST\nOP, X\nwhat?\nAnswer."])
  func `a line feed in an OCR token leaves the question`(prompt: String) throws {
    let folder = try Self.textVQA([("a", "what?")])
    #expect(try folder.score([llavaLine("\"a\"", "stop", prompt: prompt)]).value("accuracy") == 100)
    let without = try BenchmarkFolder(
      "textvqa-no-ocr",
      [
        "textvqa/llava_textvqa_val_v051_ocr.jsonl":
          #"{"question_id": "a", "image": "a.jpg", "text": "\#(prompt.replacing("\n", with: #"\n"#))"}"#
      ])
    #expect(try without.questions().map(\.text) == ["what?\nAnswer."])
  }

  @Test func `the number of a TextVQA question is not its id`() throws {
    try Self.textVQA([("img1", "what?")]).expectError(
      #"answers.jsonl, line 1: question_id: expected the id of the image, "img1", found TextVQA's number of the "#
        + #"question, "100""#, scoring: [llavaLine("100", "stop", prompt: "what?\nAnswer.")])
  }

  /// The image has one question twice and another once. An answer more than questions replaces the first.
  @Test func `questions that TextVQA has twice have two answers`() throws {
    let folder = try Self.textVQA([("a", "what?"), ("a", "What?"), ("a", "who?")])
    let what = ["stop", "no", "stop"].map { llavaLine("\"a\"", $0, prompt: "what?\nAnswer.") }
    let who = ["stop", "no"].map { llavaLine("\"a\"", $0, prompt: "who?\nAnswer.") }
    let runs: [(lines: [String], hits: Double)] = [
      ([what[0], what[1], who[0]], 2), (what + who, 1), ([what[0], who[0]], 2), ([what[1], what[2], who[0]], 2),
    ]
    for (lines, hits) in runs {
      let score = try folder.score(lines)
      #expect(abs(score.value("accuracy") - 100 * hits / 3) < 1e-9 && score["accuracy"]?.count == 3)
    }
  }

  // MARK: - Multiple choice

  private static func table(_ rows: [String], header: String = "A\tB\tC\tD\tanswer\tcategory") -> String {
    let lines = rows.enumerated().map { "\($0)\tHow many?\t\(base64)\t\($1)" }
    return (["index\tquestion\timage\t" + header] + lines).joined(separator: "\n") + "\n"
  }

  private static let tables = [
    "ai2d": "ai2d/AI2D_TEST.tsv", "mmstar": "mmstar/MMStar.tsv", "mmbench": "mmbench/mmbench_dev_20230712.tsv",
  ]

  private static func choice(_ name: String, _ rows: [String]) throws -> BenchmarkFolder {
    try BenchmarkFolder(name, [tables[name] ?? "": table(rows)])
  }

  @Test(arguments: ["ai2d", "mmstar", "mmbench"])
  func `None, nan and options after an empty cell are offered`(name: String) throws {
    let folder = try Self.choice(
      name,
      [
        "None\tTwo\tOne\tThree\tA\tc", "One\tnan\tTwo\tThree\tD\tc", "One\t\tTwo\tThree\tD\tc",
        "One\tTwo\tNone\tnan\tD\tc",
      ])
    let options = try folder.questions().map {
      $0.text.split(separator: "\n").dropFirst().dropLast().joined(separator: "|")
    }
    #expect(
      options == [
        "A. None|B. Two|C. One|D. Three", "A. One|B. nan|C. Two|D. Three", "A. One|C. Two|D. Three",
        "A. One|B. Two|C. None|D. nan",
      ])
    let score = try folder.score(["A. None", "D", "three", "D. nan"].enumerated().map { llavaLine("\($0)", $1) })
    #expect(score.value("accuracy") == 100)
  }

  /// pandas writes an empty cell of a text column as `nan`.
  @Test func `nan after the last option of MMBench is none`() throws {
    let folder = try Self.choice("mmbench", ["One\tTwo\tnan\tnan\tA\tc"])
    #expect(try folder.questions()[0].text.contains("A. One\nB. Two\nAnswer"))
  }

  @Test(arguments: ["ai2d", "mmstar"])
  func `indices from 0 are read as letters`(name: String) throws {
    let folder = try Self.choice(name, ["x\ty\tz\tw\t0\tc", "x\ty\tz\tw\t3\tc"])
    #expect(try folder.score([llavaLine("0", "A"), llavaLine("1", "D")]).value("accuracy") == 100)
  }

  @Test(arguments: ["ai2d", "mmstar", "mmbench"], ["1", "E", "yes", "", "-1"])
  func `an answer that is no option is an error with its line`(name: String, answer: String) throws {
    try Self.choice(name, ["x\ty\t\tw\t\(answer)\tc"]).expectError(
      ".tsv, line 2: answer: expected the letter of an option, A, B or D, found \"\(answer)\"",
      scoring: [llavaLine("0", "A")])
    // The third option is empty; index 4 has none.
    try Self.choice(name, ["x\ty\tz\tw\t0\tc", "x\ty\t\tw\t2\tc"]).expectError(
      "line 3: answer", scoring: [llavaLine("0", "A")])
  }

  @Test func `answers that name no option are counted in a note`() throws {
    let folder = try Self.choice("ai2d", Array(repeating: "x\ty\tz\tw\tA\tc", count: 3))
    let score = try folder.score(
      ["Answer: B", "All of them", "Another one"].enumerated().map { llavaLine("\($0)", $1) })
    #expect(score.value("accuracy") == 0)
    #expect(score.notes.count == 1 && score.notes[0].hasPrefix("ai2d: 2 of 3 answers name no option"))
  }

  // MARK: - Denominators and kinds of questions

  /// Ten problems with an image, of which eight are answered.
  @Test func `questions without an answer count in ScienceQA's score of images`() throws {
    let ids = (0..<10).map { "\"\($0)\"" }
    let problems = ids.map { #"\#($0): {"choices": ["one", "two"], "answer": 1, "image": "image.png"}"# }
    let folder = try BenchmarkFolder(
      "scienceqa",
      [
        "scienceqa/problems.json": "{\(problems.joined(separator: ",")), \"10\": {\"choices\": [], \"answer\": 0}}",
        "scienceqa/pid_splits.json": #"{"test": [\#(ids.joined(separator: ","))]}"#,
      ])
    let score = try folder.score(ids[2...].map { llavaLine($0, "B", prompt: "<image>\nQ?") })
    #expect(score.value("IMG accuracy") == 80 && score["IMG accuracy"]?.count == 10 && score.value("accuracy") == 80)
  }

  /// Questions 0 and 1 are unanswerable by their annotators, question 2 by its mark.
  @Test func `VizWiz shows refusals, and both kinds of questions`() throws {
    let words = [("unanswerable", 1), ("unanswerable", 0), ("dog", 0), ("cat", 1)]
    let entries = words.enumerated().map { index, entry in
      let answers = Array(repeating: #"{"answer": "\#(entry.0)"}"#, count: 10).joined(separator: ",")
      return #"{"image": "\#(index).jpg", "question": "q", "answers": [\#(answers)], "answerable": \#(entry.1)}"#
    }
    let folder = try BenchmarkFolder("vizwiz-val", ["vizwiz/val.json": "[\(entries.joined(separator: ","))]"])
    let texts = ["unanswerable", "Unanswerable.", "dog", "unanswerable"]
    let score = try folder.score(texts.enumerated().map { llavaLine("\"\($0).jpg\"", $1, prompt: "q") })
    #expect(score.value("accuracy") == 75 && score.value("answers 'unanswerable'") == 75)
    #expect(score.value("answerable questions") == 0 && score["answerable questions"]?.count == 1)
    #expect(score.value("unanswerable questions") == 100 && score["unanswerable questions"]?.count == 3)
  }

  /// `ab` is one edit of two from `xb`.
  @Test func `ANLS of exactly one half counts, and in the other rule does not`() throws {
    let folder = try BenchmarkFolder(
      "docvqa", ["docvqa/DocVQA_VAL.tsv": "index\tquestion\timage\tanswer\n1\tq\t\(Self.base64)\t['xb']\n"])
    let score = try folder.score([llavaLine("1", "ab")])
    #expect(score.value("ANLS") == 50 && score.value("ANLS, 0.5 counts as 0") == 0)
  }

  @Test func `an empty list of reference answers is an error with its line`() throws {
    try BenchmarkFolder(
      "docvqa", ["docvqa/DocVQA_VAL.tsv": "index\tquestion\timage\tanswer\n1\tq\t\(Self.base64)\t[]\n"]
    )
    .expectError("line 2: answer: expected an answer, found an empty list", scoring: [llavaLine("1", "ab")])
  }
}
