import Foundation
import TestSupport
import Testing

/// `pdrop-eval` as a process, over the bundled model.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct EvaluationTests {
  private static let answers = "output/pope/answers/tiny-textvqa-none-f32.jsonl"

  @Test func `answers and scores the available benchmarks under every policy`() throws {
    let folder = try EvaluationFolder()
    let report = folder.folder.path("report.json")
    let run = try folder.run(["--policy", "none,pyramiddrop", "-o", "jsonl", "--report", report])
    #expect(run.status == 0, "\(run.errors)")
    #expect(run.errors.contains("gqa: skipped, missing gqa/llava_gqa_testdev_balanced.jsonl"), "\(run.errors)")
    let rows = try EvaluationFolder.rows(run.output)
    let main = rows.filter { ["F1", "accuracy"].contains($0["metric"] as? String) }
    #expect(
      main.map { $0["benchmark"] as? String } == [
        "textvqa", "textvqa", "textvqa-no-ocr", "textvqa-no-ocr", "pope", "pope",
      ])
    #expect(
      main.map { $0["policy"] as? String } == ["none", "pyramiddrop", "none", "pyramiddrop", "none", "pyramiddrop"])
    let saved = main.map { $0["flops_prefill_saved"] as? Double ?? -1 }
    #expect(saved[0] == 0 && saved[1] > 0.4)
    // An answer of all ten annotators has a soft accuracy of 100%.
    let answer = try EvaluationFolder.rows(
      String(decoding: folder.bytes("output/textvqa-no-ocr/answers/tiny-textvqa-none-f32.jsonl"), as: UTF8.self))
    let text: String = try #require(answer.first?["text"] as? String)
    try EvaluationFolder.writeTextVQA(answer: text, in: folder.folder)
    let score = try folder.score(["--answers", folder.output, "--benchmark", "textvqa-no-ocr", "-o", "jsonl"])
    #expect(try EvaluationFolder.rows(score.output)[0]["score"] as? Double == 100, "\(score)")
    let whole = try #require(JSONSerialization.jsonObject(with: Data(contentsOf: URL(filePath: report))) as? [Any])
    #expect(whole.count == rows.count)
    let lines = try EvaluationFolder.rows(String(decoding: folder.bytes(Self.answers), as: UTF8.self))
    #expect(lines.map { $0["question_id"] as? Int } == [0, 1, 2, 3])
    for key in ["prompt", "text", "answer_id", "model_id"] { #expect(lines.allSatisfy { $0[key] is String }, "\(key)") }
    #expect(lines[0]["prompt"] as? String == "Is there a bike?\nAnswer the question using a single word or phrase.")
    // The Markdown table has a row for each benchmark and policy.
    let again = try folder.run(["--policy", "none,pyramiddrop"])
    #expect(
      again.status == 0 && again.output.split(separator: "\n").count { $0.hasPrefix("| ") } == 2 + 6, "\(again.output)")
  }

  @Test func `resumes answers, and refuses those of other options`() throws {
    let folder = try EvaluationFolder()
    let options = ["--benchmark", "pope", "--policy", "none"]
    #expect(try folder.run(options).status == 0)
    let whole = try folder.bytes(Self.answers)
    // One complete line, and a truncated one.
    let kept = whole.prefix(whole.firstIndex(of: 0x0A).map { $0 + 1 } ?? 0)
    try folder.folder.write(Self.answers, kept + Array("{\"question_id\": 1, \"te".utf8))
    let resumed = try folder.run(options)
    #expect(resumed.status == 0 && resumed.errors.contains("resuming after 1 answer"), "\(resumed.errors)")
    #expect(try folder.bytes(Self.answers) == whole)
    try #expect(folder.run(options + ["-n", "1"]).errors.contains("from a run with other options"))
    #expect(try folder.run(options + ["-n", "1", "--overwrite"]).status == 0)
    #expect(try folder.bytes(Self.answers) != whole)
    #expect(try folder.run(options + ["--name", "mine"]).status == 0)
    #expect(try !folder.bytes("output/pope/answers/mine-none-f32.jsonl").isEmpty)
  }

  @Test func `answers and scores a part of the questions with --limit`() throws {
    let folder = try EvaluationFolder()
    let run = try folder.run(["--benchmark", "pope", "--limit", "2", "-o", "jsonl"])
    #expect(run.status == 0 && run.errors.contains("pope: 2 questions"), "\(run.errors)")
    #expect(try EvaluationFolder.rows(run.output)[0]["count"] as? Int == 2)
    let score = try folder.score(["--answers", folder.output, "--benchmark", "pope", "-o", "jsonl"])
    #expect(try EvaluationFolder.rows(score.output)[0]["count"] as? Int == 2)
    // Four questions about one image stay together.
    let line = #"{"question_id": "b", "image": "bike.png", "text": "What number is at the top right?"}"# + "\n"
    try folder.folder.write(
      "data/textvqa/llava_textvqa_val_v051_ocr.jsonl", String(repeating: line, count: 4))
    let four = try folder.run(["--benchmark", "textvqa", "--limit", "1", "-o", "jsonl"])
    #expect(four.errors.contains("textvqa: 4 questions"), "\(four.errors)")
  }

  @Test func `the report replaces neither benchmarks nor answers`() throws {
    let folder = try EvaluationFolder()
    let options = ["--benchmark", "pope", "--policy", "none", "--report"]
    // The answers do not exist yet.
    let refused = try folder.run(options + [folder.folder.path(Self.answers)])
    #expect(refused.status == 3 && refused.errors.contains("is read or written by this run"), "\(refused.errors)")
    #expect(try folder.bytes(Self.answers).split(separator: 0x0A).count == 4)
    let report = folder.folder.path("output/new/report.json")
    #expect(try folder.run(options + [report]).status == 0)
    #expect(FileManager.default.fileExists(atPath: report))
    let file = folder.folder.path("data/pope/llava_pope_test.jsonl")
    for path in [file, folder.folder.path(Self.answers)] {
      let bytes = try Data(contentsOf: URL(filePath: path))
      try folder.score(["--answers", folder.output, "--report", path]).expectFailure(
        3, "is read or written by this run")
      #expect(try Data(contentsOf: URL(filePath: path)) == bytes)
    }
  }

  @Test func `a missing image fails its question, which a later run answers`() throws {
    let folder = try EvaluationFolder()
    let image = folder.folder.path("data/pope/val2014/river.png")
    try FileManager.default.moveItem(atPath: image, toPath: image + ".away")
    let run = try folder.run(["--benchmark", "pope", "-o", "jsonl"])
    #expect(run.status == 1 && run.errors.contains("river.png: no such file"), "\(run.errors)")
    #expect(try EvaluationFolder.rows(run.output)[0]["failed"] as? Int == 2)
    try FileManager.default.moveItem(atPath: image + ".away", toPath: image)
    let again = try folder.run(["--benchmark", "pope", "-o", "jsonl"])
    #expect(again.status == 0, "\(again.errors)")
    #expect(try EvaluationFolder.rows(again.output)[0]["failed"] as? Int == 0)
  }

  private static func llavaLines(_ texts: [String]) -> String {
    texts.enumerated().map { index, text in
      #"{"question_id": \#(index), "prompt": "Is there a bike?", "text": "\#(text)", "answer_id": "k", "#
        + #""model_id": "llava", "metadata": {}}"# + "\n"
    }.joined()
  }

  /// Adversarial and popular have one question each, with the labels yes and no: F1 1 and, without a yes, 0.
  /// Random has yes and no, both answered yes: 2 / (2 + 1).
  @Test func `scores answer files of LLaVA's scripts`() throws {
    let folder = try EvaluationFolder()
    let lines = Self.llavaLines(["Yes", "No", "Yes", "Yes"])
    try folder.folder.write("data/pope/answers/llava-v1.5-13b/merge.jsonl", lines)
    try folder.folder.write("data/pope/answers/llava-v1.5-13b/2_0.jsonl", "a part")
    try folder.folder.write("data/pope/answers/other.jsonl", lines)
    let run = try folder.score(["-o", "jsonl"])
    #expect(run.status == 0, "\(run.errors)")
    let rows = try EvaluationFolder.rows(run.output).filter { $0["metric"] as? String == "F1" }
    #expect(rows.map { $0["answers"] as? String } == ["llava-v1.5-13b", "other"])
    #expect(rows.allSatisfy { $0["policy"] is NSNull && $0["answered"] as? Int == 4 })
    let f1 = try #require(rows[0]["score"] as? Double)
    #expect(abs(f1 - 100 * (1 + 0 + 2.0 / 3) / 3) < 1e-9)
  }

  @Test func `reports the file and line of an error, and scores the rest`() throws {
    let folder = try EvaluationFolder()
    try folder.folder.write("data/pope/answers/bad.jsonl", Self.llavaLines(["Yes"]) + "{\n")
    let alone = try folder.score()
    #expect(alone.status == 3 && alone.output.isEmpty)
    #expect(alone.errors.contains("pope/answers/bad.jsonl, line 2: not JSON"), "\(alone.errors)")
    try folder.folder.write("data/pope/answers/good.jsonl", Self.llavaLines(["Yes"]))
    let both = try folder.score()
    #expect(both.status == 1 && both.output.contains("| good |"), "\(both)")
    try folder.folder.write("data/pope/llava_pope_test.jsonl", "{}\n")
    let run = try folder.run(["--benchmark", "pope"])
    #expect(run.status == 3 && run.errors.contains("llava_pope_test.jsonl, line 1: question_id"), "\(run.errors)")
  }

  @Test func `skips files of macOS, and refuses a damaged manifest`() throws {
    let folder = try EvaluationFolder()
    let lines = Self.llavaLines(["Yes", "No", "Yes", "Yes"])
    try folder.folder.write("data/pope/answers/model/merge.jsonl", lines)
    for name in ["model/._merge.jsonl", "._run.jsonl", "__MACOSX/model/merge.jsonl", ".DS_Store"] {
      try folder.folder.write("data/pope/answers/\(name)", [UInt8]([0, 5, 0x16, 7]))
    }
    let run = try folder.score()
    #expect(run.status == 0 && run.output.contains("| model |"), "\(run)")
    try folder.folder.write("data/pope/answers/model/merge.run.json", "{")
    let damaged = try folder.score()
    #expect(damaged.status == 3 && damaged.errors.contains("merge.run.json: expected the run manifest"), "\(damaged)")
  }

  @Test func `notes repeated answers, and refuses those of other questions`() throws {
    let folder = try EvaluationFolder()
    try folder.folder.write(
      "data/pope/answers/twice.jsonl", Self.llavaLines(["No", "Yes"]) + Self.llavaLines(["Yes", "No", "Yes", "Yes"]))
    let twice = try folder.score(["-o", "jsonl"])
    #expect(twice.status == 0 && twice.errors.contains("pope: twice: answers to a question that has"), "\(twice)")
    #expect(try EvaluationFolder.rows(twice.output)[0]["answered"] as? Int == 4)
    try folder.folder.write("data/pope/answers/twice.jsonl", Self.llavaLines(["No", "Yes", "No", "No", "No"]))
    let other = try folder.score()
    #expect(other.status == 3 && other.errors.contains("twice.jsonl, line 5: question_id: \"4\""), "\(other)")
  }

  @Test func `lists states and missing files`() throws {
    let folder = try EvaluationFolder()
    let run = try ProgramRun(["list", "--data", folder.data, "-o", "jsonl"], program: "pdrop-eval")
    #expect(run.status == 0 && run.errors.isEmpty)
    let states = Dictionary(
      uniqueKeysWithValues: try EvaluationFolder.rows(run.output).map { row in
        (row["benchmark"] as? String ?? "", (row["state"] as? String ?? "", row["missing"] as? String ?? ""))
      })
    #expect(states["pope"]?.0 == "ready" && states["textvqa-no-ocr"]?.0 == "ready" && states["gqa"]?.0 == "not found")
    #expect(
      states["gqa"]?.1
        == "gqa/llava_gqa_testdev_balanced.jsonl, gqa/data/testdev_balanced_questions.json, gqa/data/images")
  }

  @Test func `refuses invalid arguments and empty folders`() throws {
    let folder = try TemporaryFolder()
    let data = ["--data", folder.path]
    for (arguments, status, words) in [
      (["run"] + data, Int32(2), "--output"), (["score"] + data + ["--benchmark", "none"], 2, "tiny-textvqa"),
      (["run", "--output", "x", "--policy", "best"] + data, 2, "pyramiddrop"),
      (["run", "--output", "x", "--limit", "0"] + data, 2, "--limit"), (["score"] + data, 3, "nothing to score"),
      (["list", "--data", folder.path("none")], 3, "no such folder"),
    ] {
      try ProgramRun(arguments, program: "pdrop-eval").expectFailure(status, words)
    }
    let run = try ProgramRun(["run", "--output", folder.path("out")] + data, program: "pdrop-eval")
    #expect(run.status == 3 && run.errors.contains("pope: skipped") && run.errors.contains("no benchmark to answer"))
  }
}
