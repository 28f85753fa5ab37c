import BatchInference
import Foundation
import ModelTestSupport
import PDrop
import Storage
import TestSupport
import Testing
import TokenDropping

/// Resumed runs: identifiers by bytes, changed questions, and other models and policies.
@Suite struct ResumeTests {
  let fixture: BatchFixture

  init() throws { fixture = try BatchFixture() }

  private static func completion(_ id: String, _ text: String) -> String {
    #"{"custom_id": "\#(id)", "body": {"messages": [{"role": "user", "content": "\#(text)"}]}}"#
  }

  private static func question(_ id: String, _ text: String) -> String {
    #"{"question_id": "\#(id)", "text": "\#(text)"}"#
  }

  @Test func `retries the failed one of two identifiers that are equal as strings`() throws {
    for line in [Self.question(_:_:), Self.completion(_:_:)] {
      let ids = ["\u{E9}", "e\u{301}"]
      try fixture.run([line(ids[0], "fail"), line(ids[1], "b")], existingOutput: .overwrite)
      let report = try fixture.run(
        [line(ids[0], "a"), line(ids[1], "b")], existingOutput: .resume(retriesFailures: true))
      #expect(report.records == 1 && report.resumed == 1)
      let lines = try fixture.lines().map { ByteString($0).bytes }
      #expect(lines.count == 2)
      for id in ids { #expect(lines.count { $0.firstRange(of: Array("_id\":\"\(id)\"".utf8)) != nil } == 1) }
    }
  }

  @Test func `refuses an answer to another question`() throws {
    for line in [Self.question(_:_:), Self.completion(_:_:)] {
      let questions = [line("a", "What?"), line("b", "Where?")]
      try fixture.run(questions, existingOutput: .overwrite)
      let before = try fixture.bytes()
      let error = BatchError.questionChanged(path: fixture.output, record: 2, id: .text("b"))
      for retries in [false, true] {
        #expect(throws: error) {
          try fixture.run(
            [questions[0], line("b", "How many?"), line("c", "New?")],
            existingOutput: .resume(retriesFailures: retries))
        }
        #expect(try fixture.bytes() == before)
      }
      let report = try fixture.run(questions + [line("c", "New?")], existingOutput: .resume(retriesFailures: false))
      #expect(report.records == 1 && report.resumed == 2)
    }
  }

  private static func question(_ id: String, images: [String]) -> String {
    #"{"question_id": "\#(id)", "text": "What?", "image": \#(images)}"#
  }

  private static func completion(_ id: String, images: [String]) -> String {
    let parts =
      images.map { #"{"type": "image_url", "image_url": {"url": "\#($0)"}}"# } + [#"{"type": "text", "text": "What?"}"#]
    return
      #"{"custom_id": "\#(id)", "body": {"messages": [{"role": "user", "content": [\#(parts.joined(separator: ","))]}]}}"#
  }

  @Test func `refuses an answer about another image`() throws {
    let (data, other) = ("data:image/png;base64,QQ==", "data:image/png;base64,Qg==")
    for line in [Self.question(_:images:), Self.completion(_:images:)] {
      let questions = [line("a", ["x/1.png"]), line("b", [data]), line("c", ["1.png", "2.png"])]
      try fixture.run(questions, existingOutput: .overwrite)
      #expect(try fixture.lines().allSatisfy { $0.contains("\"image_hash\":") })
      let before = try fixture.bytes()
      for changed in [
        [line("a", ["x/2.png"]), questions[1], questions[2]], [questions[0], line("b", [other]), questions[2]],
        [questions[0], questions[1], line("c", ["2.png", "1.png"])],
      ] {
        #expect(throws: BatchError.self) { try fixture.run(changed, existingOutput: .resume(retriesFailures: false)) }
        #expect(try fixture.bytes() == before)
      }
      // A batch may be moved, and answers of earlier versions do not tell their images.
      let moved = [line("a", ["y/1.png"])] + questions[1...]
      #expect(try fixture.run(moved, existingOutput: .resume(retriesFailures: false)).resumed == 3)
      let old = try fixture.lines().map { $0.replacing(/"image_hash":"[0-9a-f]+",/, with: "") }
      try fixture.folder.write("answers.jsonl", old.joined(separator: "\n") + "\n")
      #expect(try fixture.run(moved, existingOutput: .resume(retriesFailures: false)).resumed == 3)
    }
  }

  @Test func `answers all questions of an identifier that occurs with several`() throws {
    let questions = [Self.question("a", "fail 1"), Self.question("a", "2"), Self.question("a", "2")]
    try fixture.run(questions)
    let lines = try fixture.lines()
    let retried = try fixture.run(questions, existingOutput: .resume(retriesFailures: true))
    #expect(retried.records == 1 && retried.resumed == 2)
    // Only a later question has an answer, as after a retry that was killed.
    try fixture.folder.write("answers.jsonl", lines[1] + "\n")
    let rest = try fixture.run(questions, existingOutput: .resume(retriesFailures: false))
    #expect(rest.records == 2 && rest.resumed == 1)
    #expect(try fixture.lines().filter { $0.contains("fail 1") }.count == 1)
  }

  /// The warnings of a resumed run.
  private final class Warnings: BatchObserver {
    var lines: [String] = []
    func didWarn(_ message: String) { lines.append(message) }
  }

  private func warnings(_ questions: [String], model: String, _ policy: any TokenDroppingPolicy) throws -> [String] {
    let input = try fixture.folder.write("questions.jsonl", questions.joined(separator: "\n"))
    var options = Batch.Options(input: .lines(path: input, folder: nil))
    options.output = fixture.output
    options.existingOutput = .resume(retriesFailures: false)
    let run = BatchRunDescription(
      model: model, policy: try RunReport.Policy(policy, layerCount: 32), precision: "f32", threads: 1)
    let warnings = Warnings()
    _ = try Batch(options).run(like: Request(prompt: .messages([])), by: run, observer: warnings) { job in
      while case .ready(let question) = try job.take() { try job.finish([(question, fixture.answer(question))]) }
    }
    return warnings.lines
  }

  @Test func `warns of answers by another model or policy`() throws {
    let questions = [Self.question("a", "What?"), Self.completion("b", "Where?")]
    try fixture.run(questions)
    let answers = try fixture.lines().joined(separator: "\n") + "\n"
    let model = try #require(answers.firstMatch(of: /"model_id":"([^"]*)"/)).1
    #expect(try warnings(questions, model: String(model), PyramidDrop()).isEmpty)
    let other = try warnings(questions, model: "other", PyramidDrop())
    #expect(other.count == 1 && other[0].contains("2 of 2 answers") && other[0].contains("\"other\""), "\(other)")
    let policy = try warnings(questions, model: String(model), FastV(k: 2, r: 0.5))
    #expect(policy.count == 1 && policy[0].contains("\"pyramiddrop\" instead of \"fastv\""), "\(policy)")
    let ratio = try warnings(questions, model: String(model), PyramidDrop(.geometric(lambda: 0.25)))
    #expect(ratio.count == 1 && ratio[0].contains("another value of \"keep\""), "\(ratio)")
  }

  @Test(
    arguments: [
      [0x1F, 0x8B, 8, 0, 0, 0, 0x51, 0xFF], Array("{\"question_id\": 1}\r{\"question_id\": 2}\r".utf8),
      Array("{\"a\":\u{1}".utf8), Array("notes".utf8),
    ] as [[UInt8]])
  func `a file of one unfinished line that is not an answer is left as it is`(bytes: [UInt8]) throws {
    try fixture.folder.write("answers.jsonl", bytes)
    #expect(throws: BatchError.self) {
      try fixture.run([Self.question("a", "b")], existingOutput: .resume(retriesFailures: false))
    }
    #expect(try fixture.bytes() == bytes)
  }

  @Test(arguments: ["", "{", "{\"question_id\":\"a\",\"te", "{\"question_id\":\"a\"\0\0\0", "\0\0", "{\"a\":\0\0x"])
  func `an unfinished answer of a killed run is answered again`(text: String) throws {
    try fixture.folder.write("answers.jsonl", text)
    try fixture.run([Self.question("a", "b")], existingOutput: .resume(retriesFailures: false))
    #expect(try fixture.lines().count == 1)
  }

  @Test(
    arguments: [
      (Array("[\n{\"question_id\": 1}\n]\n".utf8), "a JSON list"),
      (Array("\u{FEFF}[{\"question_id\": 1, \"text\": \"a\"}]".utf8), "a JSON list"),
      (Array("\n{\r\n  \"question_id\": 1,\r\n  \"text\": \"a\"\r\n}\r\n".utf8), "JSON in several lines"),
      (Array("question_id,text\n1,\"What?\"\n".utf8), "text such as \"question_id,text\""),
      (Array("- question_id: 1\n  text: a\n".utf8), "text such as \"- question_id: 1\""),
      ([0xFF, 0xFE, 0x7B, 0, 0x22, 0, 0x0A, 0], "UTF-16"), ([0x7B, 0, 0x22, 0, 0x0A, 0], "UTF-16"),
      ([0x1F, 0x8B, 8, 0, 0, 0], "gzip"), ([0x28, 0xB5, 0x2F, 0xFD, 0], "zstd"),
    ] as [([UInt8], String)])
  func `refuses an input that is no file of lines by name, before it changes the output`(
    input: [UInt8], name: String
  ) throws {
    let path = try fixture.folder.write("foreign", input)
    try fixture.run([Self.question("a", "b")])
    let before = try fixture.bytes()
    var options = Batch.Options(input: .lines(path: path, folder: nil))
    options.output = fixture.output
    options.existingOutput = .overwrite
    let error = #expect(throws: BatchError.self) { try Batch(options) }
    guard case .foreignInput(path, let found)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(found.hasPrefix(name))
    #expect(try fixture.bytes() == before)
  }

  @Test(arguments: ["", "\u{FEFF}", "\u{FEFF}\n", "\u{FEFF} \r\n\n"])
  func `a byte order mark alone is an empty input`(text: String) throws {
    #expect(try fixture.run([text]).records == 0)
    let report = try fixture.run([text + Self.question("a", "b")], existingOutput: .overwrite)
    #expect(report.records == 1 && report.answered == 1)
  }

  @Test func `a list after the first line is an error of its line`() throws {
    let report = try fixture.run([Self.question("a", "b"), "[]"])
    #expect(report.answered == 1 && report.failed == ["bad_record": 1])
  }
}
