import Foundation
import TestSupport
import Testing

@Suite struct BatchTests {
  /// The tested fields of an answer line.
  private struct Answer: Decodable {
    struct Failure: Decodable { var message: String }

    var questionID: Int?
    var answerID: String
    var text: String?
    var error: Failure?

    enum CodingKeys: String, CodingKey {
      case text, error
      case questionID = "question_id"
      case answerID = "answer_id"
    }
  }

  private let questions = [
    #"{"question_id": 1, "text": "a"}"#, "", #"{"question_id": 3, "text"#, #"{"question_id": 4, "text": "a\u2028b"}"#,
    #"{"question_id": 5, "image": "none.jpg", "text": "a"}"#, #"{"question_id": 6, "image": "text.jpg", "text": "a"}"#,
    #"{"question_id": 7, "text": "<image>"}"#, "[]", #"{"question_id": [], "text": "a"}"#,
    "{\"question_id\": 10, \"text\": \"a\u{2028}b\u{85}c\"}\r",
  ]

  @Test func `answers every valid question, in order`() throws {
    let folder = try TemporaryFolder()
    try folder.write("text.jpg", "hello there")
    let input = try folder.write("questions.jsonl", questions.joined(separator: "\n") + "\n")
    let output = folder.path("answers.jsonl")
    let run = try ProgramRun([
      "-t", "1", "-n", "1", "--input", input, "--image-folder", folder.path, "--output", output,
    ])
    #expect(run.status == 1 && !run.wasKilled && run.output.isEmpty)
    let lines = try String(contentsOf: URL(filePath: output), encoding: .utf8).split(separator: "\n")
    let answers = try lines.map { try JSONDecoder().decode(Answer.self, from: Data($0.utf8)) }
    #expect(answers.map(\.answerID) == ["1", "3", "4", "5", "6", "7", "8", "9", "10"])
    #expect(answers.map(\.questionID) == [1, 3, 4, 5, 6, 7, nil, nil, 10])
    #expect(answers.map { $0.error == nil } == [true, false, true, false, false, false, false, false, true])
    #expect(answers.allSatisfy { ($0.text == nil) == ($0.error != nil) })
    let errors = run.errorLines.filter { $0.hasPrefix("error: line ") }
    #expect(errors.count == 6 && errors.first?.hasPrefix("error: line 3: ") == true, "\(run.errors)")
    #expect(run.errors.contains("3 of 9 records answered\n"), "\(run.errors)")
    #expect(run.errors.contains("6 failed: 4 bad_record, 1 image_missing, 1 image_unsupported\n"), "\(run.errors)")
  }

  @Test func `answers nothing for an empty file`() throws {
    let folder = try TemporaryFolder()
    let run = try ProgramRun(["--input", folder.write("questions.jsonl", "")])
    #expect(run.status == 0 && run.output.isEmpty && run.errors == "0 of 0 records answered\n")
  }

  @Test func `names unreadable and unwritable files`() throws {
    let folder = try TemporaryFolder()
    let missing = folder.path("none/file")
    try ProgramRun(["--input", missing]).expectFailure(3, missing)
    let input = try folder.write("questions.jsonl", questions[0])
    try ProgramRun(["--input", input, "--output", missing]).expectFailure(3, missing)
    try ProgramRun(["--input", input, "--output", folder.path]).expectFailure(3, folder.path)
  }

  @Test(.enabled(if: FullDevice.exists, "no /dev/full")) func `names a full device`() throws {
    let folder = try TemporaryFolder()
    let input = try folder.write("questions.jsonl", questions[0])
    try ProgramRun(["-t", "1", "-n", "0", "--input", input, "--output", FullDevice.path])
      .expectFailure(3, FullDevice.path)
  }
}
