import Foundation
import TestSupport
import Testing

@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct CheckTests {
  /// The tested fields of a case's JSON object.
  private struct CaseOutput: Decodable {
    struct Stage: Decodable {
      var stage: String
      var run: String?
      var measure: String
      var tolerance: Double
      var difference: Double?
      var agrees: Bool
      var at: [String: Int]?
      var expected: String?
      var found: String?
    }

    var model: String
    var `case`: String
    var agrees: Bool
    var stages: [Stage]
    var first_departure: Stage?
    var likely_cause: String?
  }

  private static let bundled = Goldens.folder.deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Models/tiny-textvqa")

  /// Without optimization, the case with an image takes too long.
  private static var cases: [String] {
    #if DEBUG
      ["text_only"]
    #else
      ["bike", "text_only"]
    #endif
  }

  private func check(_ arguments: [String]) throws -> ProgramRun { try ProgramRun(["check", "-t", "2"] + arguments) }

  /// A reference with the bundled model's text case, its JSON changed.
  private func reference(
    in folder: borrowing TemporaryFolder, _ change: (inout [String: Any]) -> Void = { _ in }
  ) throws -> String {
    let cases = folder.url.appending(path: "cases/mine")
    try FileManager.default.createDirectory(at: cases, withIntermediateDirectories: true)
    let original = Self.bundled.appending(path: "reference/cases/tiny-textvqa/text_only")
    try FileManager.default.copyItem(
      at: original.appendingPathExtension("safetensors"), to: cases.appending(path: "text_only.safetensors"))
    let json = try JSONSerialization.jsonObject(with: Data(contentsOf: original.appendingPathExtension("json")))
    var object = try #require(json as? [String: Any])
    change(&object)
    try JSONSerialization.data(withJSONObject: object).write(to: cases.appending(path: "text_only.json"))
    return folder.path
  }

  @Test func `the bundled model passes with default options`() throws {
    let run = try check(["--case"] + Self.cases)
    #expect(run.status == 0 && run.errors.isEmpty, "\(run)")
    for name in Self.cases { #expect(run.outputLines.contains("tiny-textvqa, case \(name)")) }
    #expect(run.outputLines.count { $0.hasSuffix(" stages agree") } == Self.cases.count, "\(run.output)")
    #expect(run.outputLines.contains { $0.hasPrefix("    layers 0 to 31") && $0.hasSuffix(", 0.003 allowed") })
  }

  @Test func `prints an object for each case`() throws {
    let run = try check(["--format", "json", "--case", "text_only"])
    #expect(run.status == 0 && run.errors.isEmpty && run.outputLines.count == 1, "\(run)")
    let output = try JSONDecoder().decode(CaseOutput.self, from: Data(run.output.utf8))
    #expect(output.model == "tiny-textvqa" && output.case == "text_only" && output.agrees)
    #expect(output.first_departure == nil && output.likely_cause == nil)
    #expect(output.stages.first?.stage == "prompt" && output.stages.last?.stage == "kv_len_end")
    let logits = try #require(output.stages.first { $0.stage == "last_logits" })
    #expect(logits.run == "vanilla" && logits.measure == "absolute" && logits.tolerance == 3e-3 && logits.agrees)
    #expect(logits.difference.map { $0 > 0 && $0 < 3e-3 } == true)
  }

  @Test func `exits with 1 and reports the first departure with its cause`() throws {
    let folder = try TemporaryFolder()
    let path = try reference(in: folder) { file in
      var tokens = file["prompt_ids"] as? [Int] ?? []
      tokens[2] = 7
      file["prompt_ids"] = tokens
    }
    let text = try check(["--reference", path])
    #expect(text.status == 1 && text.errorLines == ["1 of 1 cases depart from the reference"], "\(text)")
    #expect(text.outputLines.contains { $0.hasPrefix("    prompt tokens") && $0.hasSuffix("1 differ  DEPARTS") })
    let sentence = "  first departure: prompt tokens, 1 differ, at token 2: expected 7, found "
    #expect(text.outputLines.contains { $0.hasPrefix(sentence) }, "\(text.output)")
    #expect(text.outputLines.contains { $0.hasPrefix("  likely cause: the tokenizer") })

    let json = try check(["--reference", path, "--format", "json"])
    #expect(json.status == 1 && json.outputLines.count == 1)
    let output = try JSONDecoder().decode(CaseOutput.self, from: Data(json.output.utf8))
    #expect(!output.agrees && output.likely_cause?.hasPrefix("the tokenizer") == true)
    let departure = try #require(output.first_departure)
    #expect(departure.stage == "prompt_ids" && departure.at == ["token": 2] && departure.expected == "7")
    #expect(departure.difference == 1 && !departure.agrees)
  }

  @Test func `escapes line feeds and control characters of a reference`() throws {
    let folder = try TemporaryFolder()
    let path = try reference(in: folder) { file in
      var runs = file["runs"] as? [[String: Any]] ?? []
      runs[0]["name"] = "a\nerror: b\u{1B}[2J"
      runs[0]["text"] = "c\nd"
      file["runs"] = runs
    }
    let run = try check(["--reference", path])
    #expect(run.status == 1 && run.outputLines.contains(#"  run a\nerror: b\u{1B}[2J"#), "\(run.output)")
    #expect(run.outputLines.contains { $0.contains(#": expected "c\nd", found ""#) }, "\(run.output)")
  }

  @Test func `refuses invalid references`() throws {
    let folder = try TemporaryFolder()
    try check(["--reference", folder.path]).expectFailure(3, "make_reference.py")
    try check(["-m", folder.path]).expectFailure(3, "config.json")
    let path = try reference(in: folder) { $0["new_tokens"] = 5 }
    try check(["--reference", path]).expectFailure(3, "new_tokens")
    try folder.write("cases/mine/text_only.json", "{")
    try check(["--reference", path]).expectFailure(3, "text_only.json: not valid JSON")
    // The reference of another model, and a model without one.
    let model = Goldens.path("models/tiny-llava-1.5")
    try check(["-m", model, "--reference", Self.bundled.path + "/reference"]).expectFailure(
      3, "does the reference belong")
    try check(["-m", model + "-nowhere"]).expectFailure(3, "expected a model directory")
    try check(["-m", Goldens.path("models/tiny-llava-next-vicuna-newnames")]).expectFailure(3, "no reference vectors")
  }

  @Test func `refuses a wrong command line`() throws {
    try check(["--case", "none such"]).expectFailure(2, "use one of bike, text_only")
    try check(["--format", "xml"]).expectFailure(2, "json")
    try check(["extra"]).expectFailure(2, "extra")
  }
}
