import Foundation
import TestSupport
import Testing

/// Batch input: both record formats, image folders, pipes, parts of files and hostile lines.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct BatchInputTests {
  /// The tested fields of an answer line, in either format.
  private struct Answer: Decodable {
    struct Failure: Decodable {
      var code: String
      var message: String
    }
    struct Response: Decodable {
      struct Body: Decodable {
        struct Choice: Decodable {
          struct Message: Decodable { var content: String }

          var message: Message
          var finishReason: String

          enum CodingKeys: String, CodingKey {
            case message
            case finishReason = "finish_reason"
          }
        }

        var choices: [Choice]
        var object: String
        var usage: [String: Int]
      }

      var statusCode: Int
      var body: Body?

      enum CodingKeys: String, CodingKey {
        case body
        case statusCode = "status_code"
      }
    }

    var questionID: String?
    var customID: String?
    var text: String?
    var prompt: String?
    var response: Response?
    var error: Failure?

    enum CodingKeys: String, CodingKey {
      case text, prompt, response, error
      case questionID = "question_id"
      case customID = "custom_id"
    }
  }

  private func answers(_ run: ProgramRun) throws -> [Answer] {
    try run.outputLines.map { try JSONDecoder().decode(Answer.self, from: Data($0.utf8)) }
  }

  @Test func `both record formats give the same answers`() throws {
    let data = try Data(contentsOf: URL(filePath: BatchFolder.samples + "/bike.png")).base64EncodedString()
    func chat(_ id: String, _ image: String, _ more: String = "") -> String {
      #"{"custom_id": "\#(id)", "method": "POST", "url": "/v1/chat/completions", "body": {\#(more)"messages": [{"#
        + #""role": "user", "content": [{"type": "image_url", "image_url": \#(image)}, {"type": "text", "text": "#
        + #""\#(BatchFolder.question)"}]}]}}"#
    }
    let lines = [
      #"{"question_id": "a", "image": "bike.png", "text": "\#(BatchFolder.question)"}"#,
      chat("b", #"{"url": "bike.png"}"#), chat("c", #""data:image/png;base64,\#(data)""#),
      chat("d", #"{"url": "bike.png"}"#, #""max_tokens": 1, "temperature": 0, "model": "m", "#),
      chat("e", #"{"url": "https://example.org/a.png"}"#), chat("f", #""none.png""#),
      chat("g", #""bike.png""#, #""stream": true, "#), chat("h", #""bike.png""#, #""max_tokens": "many", "#),
      #"{"custom_id": "i", "url": "/v1/embeddings", "body": {"input": "a"}}"#, #"{"custom_id": "j", "body": []}"#,
    ]
    let run = try ProgramRun(
      ["-t", "1", "-n", "8", "--input", "-", "--image-folder", BatchFolder.samples],
      input: lines.joined(separator: "\n"))
    #expect(run.status == 1, "\(run)")
    let answers = try answers(run)
    #expect(answers.map { $0.questionID ?? $0.customID } == "abcdefghij".map { "\($0)" })
    let text = try #require(answers[0].text)
    #expect(!text.isEmpty && answers[0].prompt == BatchFolder.question)
    for answer in answers[1...2] {
      let body = try #require(answer.response?.body)
      #expect(body.choices.map(\.message.content) == [text] && body.object == "chat.completion")
      #expect(answer.response?.statusCode == 200 && answer.error == nil)
      #expect(body.usage["prompt_tokens"]! + body.usage["completion_tokens"]! == body.usage["total_tokens"])
    }
    let short = try #require(answers[3].response?.body)
    #expect(short.usage["completion_tokens"] == 1 && short.choices[0].finishReason == "length")
    let codes = [
      "image_remote", "image_missing", "unsupported_option", "bad_record", "unsupported_option", "bad_record",
    ]
    #expect(answers[4...].map { $0.error?.code } == codes)
    #expect(answers[4...].allSatisfy { $0.response?.statusCode == 400 && $0.response?.body == nil })
  }

  @Test func `answers one question about every image in a folder and its subfolders, by name`() throws {
    let folder = try TemporaryFolder()
    let manager = FileManager.default
    for name in ["b", "b/c", ".hidden"] {
      try manager.createDirectory(atPath: folder.path(name), withIntermediateDirectories: true)
    }
    for name in ["z.PNG", "a.png", "b/c/d.png", "b/a.png", ".hidden/x.png", "b0.png"] {
      try manager.copyItem(atPath: BatchFolder.samples + "/bike.png", toPath: folder.path(name))
    }
    try folder.write("notes.txt", "no image")
    try folder.write("old.gif", "GIF89a")
    let arguments = ["-t", "1", "-n", "2", "--image-folder", folder.path, "-p", BatchFolder.question]
    let run = try ProgramRun(arguments)
    #expect(run.status == 1, "\(run)")
    let answers = try answers(run)
    #expect(answers.map(\.questionID) == ["a.png", "b/a.png", "b/c/d.png", "b0.png", "old.gif", "z.PNG"])
    #expect(answers.map { $0.error?.code } == [nil, nil, nil, nil, "image_unsupported", nil])
    #expect(Set(answers.compactMap(\.text)).count == 1 && answers.allSatisfy { $0.prompt == BatchFolder.question })
    let shard = try ProgramRun(arguments + ["--shard", "2/3"])
    #expect(try self.answers(shard).map(\.questionID) == ["b/a.png", "old.gif"])
    try ProgramRun(["--image-folder", folder.path("none"), "-p", "a"]).expectFailure(3, "none")
    try ProgramRun(["--image-folder", folder.path]).expectFailure(2, "about all images")
  }

  @Test func `answers about images whose names are not UTF-8, and resumes after them`() throws {
    let folder = try TemporaryFolder()
    let image = try Data(contentsOf: URL(filePath: BatchFolder.samples + "/bike.png"))
    try FileManager.default.createDirectory(atPath: folder.path("images"), withIntermediateDirectories: false)
    let names: [[UInt8]] = [
      Array("caf".utf8) + [0xE9] + Array(".png".utf8), Array(#"caf\xE9.png"#.utf8), Array("caf\u{E9}.png".utf8),
      Array("cafe\u{301}.png".utf8),
    ]
    for name in names {
      let path = (Array((folder.path("images") + "/").utf8) + name).map { CChar(bitPattern: $0) } + [0]
      guard let file = unsafe fopen(path, "w") else {
        Issue.record("the file system refuses a name: \(name)")
        return
      }
      defer { unsafe fclose(file) }
      _ = unsafe [UInt8](image).withUnsafeBytes { unsafe fwrite($0.baseAddress, 1, $0.count, file) }
    }
    let output = folder.path("answers.jsonl")
    let arguments = ["-t", "1", "-n", "2", "--no-timings", "--image-folder", folder.path("images"), "-p", "a"]
    let run = try ProgramRun(arguments + ["--output", output])
    #expect(run.status == 0, "\(run)")
    let bytes = try Data(contentsOf: URL(filePath: output))
    let lines = bytes.split(separator: 0x0A)
    try #require(lines.count == names.count)
    let answers = try lines.map { try JSONDecoder().decode(Answer.self, from: $0) }
    #expect(Set(answers.map { Array(($0.questionID ?? "").utf8) }).count == names.count)
    #expect(answers.contains { $0.questionID == #"caf\xE9.png"# } && Set(answers.map(\.text)).count == 1)
    for count in 1..<lines.count {
      try Data(lines[..<count].joined(separator: [0x0A])).write(to: URL(filePath: output))
      #expect(try ProgramRun(arguments + ["--output", output, "--resume"]).status == 0)
      #expect(try Data(contentsOf: URL(filePath: output)) == bytes)
    }
  }

  @Test func `a program in a pipe answers each question before it reads the next`() throws {
    let (input, output, errors) = (Pipe(), Pipe(), Pipe())
    let process = try ProgramRun.start(
      ["-t", "1", "-n", "1", "--input", "-", "--output", "-"], input: input.fileHandleForReading,
      output: output.fileHandleForWriting, errors: errors.fileHandleForWriting)
    for pipe in [output, errors] { try pipe.fileHandleForWriting.close() }
    for number in 1...3 {
      try input.fileHandleForWriting.write(
        contentsOf: Data("{\"question_id\": \"\(number)\", \"text\": \"a\"}\n".utf8))
      var line = Data()
      while line.last != 0x0A {
        let data = output.fileHandleForReading.availableData
        guard !data.isEmpty else { break }
        line += data
      }
      #expect(try JSONDecoder().decode(Answer.self, from: line).questionID == "\(number)")
    }
    try input.fileHandleForWriting.close()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    #expect(output.fileHandleForReading.readDataToEndOfFile().isEmpty)
  }

  @Test func `parts of a file with --first-line give the answers of the whole file`() throws {
    let lines = [
      #"{"question_id": "a", "text": "a"}"#, #"{"question_id": "b", "text": "b"}"#, "", #"{"question_id": "c", "text"#,
      #"{"question_id": "d", "text": "d"}"#,
      #"{"custom_id": "e", "body": {"messages": [{"role": "user", "content": "e"}]}}"#,
    ].map { $0 + "\n" }
    let arguments = ["-t", "1", "-n", "1", "--no-timings", "--input", "-"]
    let whole = try ProgramRun(arguments, input: lines.joined())
    #expect(whole.outputLines.count == 5 && whole.status == 1, "\(whole)")
    for cut in 1..<lines.count {
      let first = try ProgramRun(arguments, input: lines[..<cut].joined())
      let second = try ProgramRun(arguments + ["--first-line", "\(cut + 1)"], input: lines[cut...].joined())
      #expect(first.output + second.output == whole.output, "cut after line \(cut)")
      #expect((first.errors + second.errors).contains("error: line 4: "))
    }
  }

  /// Lines without a valid record, with the error code and the id that can still be read.
  static let hostile: [(line: [UInt8], code: String, name: String?)] = [
    (Array(#"{"question_id": "a", "text": ""#.utf8) + [0xFF, 0xFE] + Array(#""}"#.utf8), "bad_record", "a"),
    ([0, 1, 2, 3], "bad_record", nil),
    (Array(String(repeating: #"{"a":["#, count: 50_000).utf8), "bad_record", nil),
    (
      Array((#"{"question_id": "a", "text": ""# + String(repeating: "x ", count: 40_000) + #""}"#).utf8),
      "prompt_too_long", "a"
    ),
    (
      Array((#"{"question_id": "a", "image": ""# + String(repeating: "x", count: 5000) + #"", "text": "b"}"#).utf8),
      "image_damaged", "a"
    ),
    (
      Array(#"{"question_id": "a", "text": "b", "image": "data:image/png;base64,AAAA"}"#.utf8), "image_unsupported", "a"
    ),
    (Array(#"{"question_id": "a", "text": "b", "image": ""}"#.utf8), "image_unreadable", "a"),
    (Array(#"{"question_id": "a", "text": "b", "image": "x\u0000y.png"}"#.utf8), "image_missing", "a"),
    (Array(#"{"question_id": "a"}"#.utf8), "bad_record", "a"), (Array(#"{"text": "b"}"#.utf8), "bad_record", nil),
    (Array(#"{"question_id": "a", "text": 5}"#.utf8), "bad_record", "a"),
    (Array(#"{"question_id": "a", "text": null}"#.utf8), "bad_record", "a"),
    (Array(#"{"question_id": 1.5, "text": "b"}"#.utf8), "bad_record", nil),
    (Array(#"{"question_id": 123456789012345678901234567890, "text": "b"}"#.utf8), "bad_record", nil),
    (Array(#"{"question_id": "a", "text": "b", "image": ["c", 4]}"#.utf8), "bad_record", "a"),
    (Array(#"{"question_id": "a", "text": "b", "text": "c"}"#.utf8), "bad_record", "a"),
    (Array(#"{"question_id": "a", "text": "b", "question_id": "c"}"#.utf8), "bad_record", nil),
    (Array(#"{"question_id": "a", "text": "<image> b"}"#.utf8), "bad_record", "a"),
    (Array(#"{"question_id": "a", "text": "b"} {"#.utf8), "bad_record", "a"), (Array("[]".utf8), "bad_record", nil),
    (Array("null".utf8), "bad_record", nil), (Array("\"text\"".utf8), "bad_record", nil),
  ]

  @Test func `hostile lines result in one error record each, and the rest is answered`() throws {
    let folder = try TemporaryFolder()
    let good = Array(#"{"question_id": "good", "text": "a"}"#.utf8)
    let lines = Self.hostile.flatMap { [$0.line, good] }
    let input = try folder.write("questions.jsonl", Array(lines.joined(separator: [0x0A])))
    let run = try ProgramRun(["-t", "1", "-n", "1", "--progress", "none", "--input", input])
    #expect(run.status == 1, "\(run.errors)")
    let answers = try answers(run)
    #expect(answers.count == lines.count)
    for (index, hostile) in Self.hostile.enumerated() {
      let answer = answers[2 * index]
      let line = "\(String(decoding: hostile.line.prefix(80), as: UTF8.self)): \(answer)"
      #expect(answer.error?.code == hostile.code && answer.questionID == hostile.name, "\(line)")
      #expect(answer.text == nil && (answer.error?.message.count ?? 0) < 6000)
      #expect(answers[2 * index + 1].text != nil && answers[2 * index + 1].questionID == "good")
    }
  }

  @Test func `a line of unknown format is answered in the format of the file`() throws {
    let good = #"{"custom_id": "a", "body": {"messages": [{"role": "user", "content": "a"}]}}"#
    let folder = try TemporaryFolder()
    let input = try folder.write("questions.jsonl", "{\n\(good)\n[]\n")
    let run = try ProgramRun(["-t", "1", "-n", "1", "--input", input])
    let answers = try answers(run)
    #expect(run.status == 1 && answers.count == 3)
    #expect(answers.map { $0.response?.statusCode } == [400, 200, 400])
  }
}
