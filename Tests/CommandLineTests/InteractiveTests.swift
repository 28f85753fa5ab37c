import Foundation
import TestSupport
import Testing

@Suite struct InteractiveTests {
  private let image = Goldens.folder.deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Models/samples/bike.png").path

  private func chat(_ arguments: String..., input: String) throws -> ProgramRun {
    try ProgramRun(["-t", "1", "-n", "6", "--interactive"] + arguments, input: input)
  }

  /// The lines of `--verbose-prompt` on stderr.
  private func prompts(_ run: ProgramRun) -> [Substring] {
    run.errorLines.filter { $0.hasPrefix("prompt ") || $0.hasPrefix("tokens: ") }
  }

  /// The answers, one per line; may be empty.
  private func answers(_ run: ProgramRun) -> [Substring] {
    run.output.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
  }

  @Test func `a turn has the prompt and answer of a conversation file with the same messages`() throws {
    let (first, second) = ("What number is at the top right?", "And what shape?")
    let run = try chat("--image", image, "--verbose-prompt", input: "\(first)\n\n  \n\(second)\n")
    #expect(run.status == 0 && run.outputLines.count == 2, "\(run)")
    let prompts = prompts(run)
    #expect(run.errorLines == prompts && prompts.count == 4, "\(run)")
    let answer = try #require(run.outputLines.first)
    #expect(prompts[2].contains("USER: <image>\\n\(first) ASSISTANT: \(answer) USER: \(second) ASSISTANT:"))

    let folder = try TemporaryFolder()
    let file = try folder.write(
      "chat.json",
      """
      [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "\(image)"}},
          {"type": "text", "text": "\(first)"}]},
       {"role": "assistant", "content": "\(answer)"}, {"role": "user", "content": "\(second)"}]
      """)
    let whole = try ProgramRun(["-t", "1", "-n", "6", "--chat", file, "--verbose-prompt"])
    #expect(whole.status == 0 && whole.outputLines == [run.outputLines[1]], "\(whole)")
    #expect(self.prompts(whole).map(String.init) == prompts[2...].map(String.init))
  }

  @Test func `encodes an image once, and charges the first turn`() throws {
    let run = try chat("--image", image, "--format", "json", input: "a\nb\n")
    struct Record: Decodable {
      struct Flops: Decodable {
        var encode: Int
        var project: Int
      }
      struct Stage: Decodable {
        var tokensBefore: Int

        enum CodingKeys: String, CodingKey {
          case tokensBefore = "tokens_before"
        }
      }

      var flops: Flops
      var stages: [Stage]
      var imageSpans: [[Int]]

      enum CodingKeys: String, CodingKey {
        case flops, stages
        case imageSpans = "image_spans"
      }
    }
    let records = try run.outputLines.map { try JSONDecoder().decode(Record.self, from: Data($0.utf8)) }
    #expect(records.count == 2 && run.errors.isEmpty, "\(run)")
    let single = try ProgramRun(
      ["-t", "1", "-n", "6", "--image", image, "-p", "a", "--format", "json"])
    let alone = try JSONDecoder().decode(Record.self, from: Data(single.output.utf8))
    #expect(records[0].flops.encode == alone.flops.encode && records[0].flops.project == alone.flops.project)
    #expect(records[1].flops.encode == 0 && records[1].flops.project == 0)
    // All visual tokens are available again for the second question.
    #expect(records.map { $0.imageSpans[0][1] } == [576, 576])
    #expect(records[1].stages[0].tokensBefore > records[0].stages[0].tokensBefore)
  }

  @Test func `discards a turn that fails and continues`() throws {
    let long = String(repeating: "one two three ", count: 40)
    let run = try chat(
      "-c", "64", "--verbose-prompt",
      input: "\(long)\nA <image>\n/nonsense\n/image none.png\n/image\nA\n/clear\nB\n")
    #expect(run.status == 1 && answers(run).count == 1, "\(run)")
    let errors = run.errorLines.filter { $0.hasPrefix("error: ") }
    let words = [
      "only 64", "no image", "/nonsense: no such command", "none.png: no such file", "needs the path", "not answered",
    ]
    #expect(errors.count == words.count, "\(run)")
    for (error, word) in zip(errors, words) { #expect(error.contains(word), "\(error)") }
    #expect(prompts(run).last { $0.hasPrefix("prompt ") }?.hasSuffix("\"USER: B ASSISTANT:\"") == true, "\(run)")
  }

  @Test func `adds and clears images by command`() throws {
    let run = try chat(
      "-p", "A", "--verbose-prompt", "--system", "S", input: "/image \(image)\nB\n/clear\nC\n/exit\nD\n")
    #expect(run.status == 0 && answers(run).count == 3, "\(run)")
    let prompts = prompts(run).filter { $0.hasPrefix("prompt ") }
    #expect(prompts.count == 3, "\(run)")
    let answer = try #require(answers(run).first)
    #expect(prompts[0].hasSuffix("\"SYSTEM: S USER: A ASSISTANT:\""))
    #expect(prompts[1].hasSuffix("\"SYSTEM: S USER: A ASSISTANT: \(answer) USER: <image>\\nB ASSISTANT:\""))
    #expect(prompts[2].hasSuffix("\"SYSTEM: S USER: C ASSISTANT:\""))
  }

  @Test func `answers no question about an image that cannot be read, until there is another one`() throws {
    let run = try chat("--verbose-prompt", input: "/image none.png\nA\nB\n/image \(image)\nC\n")
    #expect(run.status == 1 && answers(run).count == 1, "\(run)")
    let errors = run.errorLines.filter { $0.hasPrefix("error: ") }
    #expect(errors.count == 3 && errors[1].contains("not answered") && errors[2].contains("not answered"), "\(run)")
    #expect(prompts(run).first?.hasSuffix("\"USER: <image>\\nC ASSISTANT:\"") == true, "\(run)")
  }

  @Test func `reads paths as terminals paste them`() throws {
    let folder = try TemporaryFolder()
    let path = folder.path("my \"own\" pic's.png")
    try FileManager.default.copyItem(atPath: image, toPath: path)
    let shell = path.replacing(#"'"#, with: #"'\''"#)
    var escaped = path
    for character in [" ", "'", "\""] { escaped = escaped.replacing(character, with: "\\" + character) }
    let url = "file://" + path.replacing(" ", with: "%20").replacing("\"", with: "%22")
    let pasted = [
      path, "  \(path)  ", "'\(shell)'", "'\(shell)' ", escaped, "\"\(path.replacing("\"", with: "\\\""))\"", url,
      "'\(url.replacing("'", with: "%27"))'",
    ]
    let run = try chat(input: pasted.map { "/image \($0)\nA\n/clear\n" }.joined())
    #expect(run.status == 0 && answers(run).count == pasted.count && run.errors.isEmpty, "\(run)")
  }

  @Test func `prints help, and no notes without a terminal`() throws {
    let run = try chat(input: "/help\n/quit\n")
    #expect(run.status == 0 && run.output.isEmpty)
    #expect(run.errors.contains("/image PATH") && run.errors.contains("ranks all visual tokens again"))
    #expect(try chat(input: "").errors.isEmpty)
  }

  @Test func `refuses an invalid first image`() throws {
    try chat("--image", "none.png", input: "A\n").expectFailure(3, "none.png")
  }

  @Test func `an interrupt stops an answer and keeps the chat, or ends a waiting program`() throws {
    let (input, output, errors) = (Pipe(), Pipe(), Pipe())
    // Sampled at high temperature without EOS, the answer continues until it is stopped, and has words.
    let process = try ProgramRun.start(
      ["-t", "1", "-n", "\(Int.max)", "-c", "\(Int.max)", "--ignore-eos", "--temp", "5", "--top-k", "0", "-i", "-v"]
        + ["--verbose-prompt"], input: input.fileHandleForReading, output: output.fileHandleForWriting,
      errors: errors.fileHandleForWriting)
    try output.fileHandleForWriting.close()
    try errors.fileHandleForWriting.close()
    var log = ""
    /// Waits until stderr contains the words `count` times.
    func wait(for words: String, count: Int) {
      while log.components(separatedBy: words).count <= count {
        let data = errors.fileHandleForReading.availableData
        guard !data.isEmpty else {
          Issue.record("\(words) not found: \(log)")
          return
        }
        log += String(decoding: data, as: UTF8.self)
      }
    }
    for (index, question) in ["A", "B"].enumerated() {
      try input.fileHandleForWriting.write(contentsOf: Data("\(question)\n".utf8))
      wait(for: "\ntokens: ", count: index + 1)
      if index == 0 { #expect(!output.fileHandleForReading.availableData.isEmpty) }
      process.interrupt()
      try input.fileHandleForWriting.write(contentsOf: Data("/none\n".utf8))
      wait(for: "no such command", count: index + 1)
    }
    process.interrupt()
    process.waitUntilExit()
    #expect(process.terminationReason == .uncaughtSignal && process.terminationStatus == SIGINT)
    let prompts = log.split(separator: "\n").filter { $0.hasPrefix("prompt ") }
    #expect(prompts.count == 2 && prompts[0].hasSuffix("\"USER: A ASSISTANT:\""), "\(log)")
    #expect(prompts.last?.contains("USER: A ASSISTANT: ") == true, "\(log)")
    #expect(prompts.last?.hasSuffix(" USER: B ASSISTANT:\"") == true, "\(log)")
  }

  @Test func `a pasted path is no question, and the next one is not answered without its image`() throws {
    for line in [image, "'\(image)'", "/img \(image)", "/IMG '\(image)'"] {
      let run = try chat(input: "\(line)\nWhat?\n/image \(image)\nWhat?\n")
      #expect(run.status == 1 && run.outputLines.count == 1 && run.errors.contains("not answered"), "\(line): \(run)")
    }
    try chat(input: "\(image)\n").expectFailure(1, "give an image with /image PATH")
    try chat(input: "/clear all\n").expectFailure(1, "/clear takes nothing after it")
  }

  @Test func `a byte order mark is no part of the first line`() throws {
    let run = try chat(input: "\u{FEFF}/image \(image)\nWhat number is at the top right?\n")
    #expect(run.status == 0 && run.outputLines.count == 1 && run.errors.isEmpty, "\(run)")
  }
}
