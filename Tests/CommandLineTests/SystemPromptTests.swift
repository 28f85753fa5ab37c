import Foundation
import TestSupport
import Testing

@Suite struct SystemPromptTests {
  private struct Tokens: Decodable { var ids: [Int] }

  private struct Answer: Decodable {
    struct Metadata: Decodable {
      var sequenceLength: Int

      enum CodingKeys: String, CodingKey { case sequenceLength = "sequence_length" }
    }

    var metadata: Metadata
  }

  /// The sequence length of the only question in a file.
  private func length(of input: String, _ arguments: String...) throws -> Int {
    let run = try ProgramRun(["-t", "1", "-n", "1", "--input", input] + arguments)
    return try JSONDecoder().decode(Answer.self, from: Data(run.output.utf8)).metadata.sequenceLength
  }

  private func prompt(_ arguments: String...) throws -> Substring {
    let run = try ProgramRun(["-t", "1", "-n", "1", "--verbose-prompt"] + arguments)
    #expect(run.status == 0, "\(run)")
    return try #require(run.errorLines.first { $0.hasPrefix("prompt ") })
  }

  @Test func `replaces the system prompt of the model`() throws {
    #expect(try prompt("-p", "A", "--system", "S").hasSuffix("\"SYSTEM: S USER: A ASSISTANT:\""))
    #expect(
      try prompt("-p", "A", "--system", "S", "--chat-template", "vicuna_v1").hasSuffix("\"S USER: A ASSISTANT:\""))
    #expect(try prompt("-p", "A", "--system", "", "--chat-template", "v1").hasSuffix("\"USER: A ASSISTANT:\""))
  }

  @Test func `replaces the system message of a conversation`() throws {
    let folder = try TemporaryFolder()
    let chat = try folder.write(
      "chat.json", #"[{"role": "system", "content": "Old"}, {"role": "user", "content": "A"}]"#)
    #expect(try prompt("--chat", chat).hasSuffix("\"SYSTEM: Old USER: A ASSISTANT:\""))
    #expect(try prompt("--chat", chat, "--system", "S").hasSuffix("\"SYSTEM: S USER: A ASSISTANT:\""))
    #expect(try prompt("--chat", chat, "--system", "").hasSuffix("\"USER: A ASSISTANT:\""))
  }

  @Test func `applies to every question of a file`() throws {
    let folder = try TemporaryFolder()
    let input = try folder.write("questions.jsonl", #"{"question_id": 1, "text": "A"}"#)
    let tokens = try ProgramRun(["tokenize", "-p", "SYSTEM: S USER: A ASSISTANT:"])
    let ids = try JSONDecoder().decode(Tokens.self, from: Data(tokens.output.utf8)).ids
    #expect(try length(of: input, "--system", "S") == ids.count + 1)
    #expect(try length(of: input) < ids.count)
  }

  @Test func `is refused by a chat template without a place for it`() throws {
    for question in [["-p", "a"], ["-i"], ["--input", "-"]] {
      try ProgramRun(question + ["--system", "S", "--chat-template", "plain"]).expectUsageLine("plain has no place")
    }
    let model = Goldens.path("models/tiny-llava-next-mistral")
    try ProgramRun(["-m", model, "-p", "a", "--system", "S"]).expectUsageLine("chat_template.json has no place")
  }

  @Test func `prints the origin of the chat template, and warns of a guess`() throws {
    #expect(try prompt("-p", "A").hasPrefix("prompt (from chat_template.json): "))
    #expect(try prompt("-p", "A", "--chat-template", "v1").hasPrefix("prompt (vicuna_v1, as requested): "))

    let folder = try TemporaryFolder()
    let model = Goldens.url("../../Models/tiny-textvqa")
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
      try folder.write(name, Data(contentsOf: model.appending(path: name)))
    }
    let guess = try ProgramRun(["-m", folder.path, "-t", "1", "-n", "1", "-i"], input: "A\nB\n")
    #expect(guess.status == 0 && guess.errorLines.count == 1, "\(guess)")
    #expect(guess.errors.hasPrefix("warning: ") && guess.errors.contains("using vicuna_v1"), "\(guess)")
    try folder.write("my.jinja", Data("{{ messages[0].content[0].text }}".utf8))
    #expect(
      try prompt("-p", "A", "--chat-template", folder.path + "/my.jinja") == "prompt (my.jinja, as requested): \"A\"")
    for settled in [["-p", "a", "--chat-template", "v1"], ["--raw", "-p", "a"]] {
      #expect(try ProgramRun(["-m", folder.path, "-t", "1", "-n", "1"] + settled).errors.isEmpty)
    }
  }
}

extension ProgramRun {
  /// Expects the usage status with one error line and no usage text, for options that do not fit the model.
  fileprivate func expectUsageLine(_ words: String, sourceLocation: SourceLocation = #_sourceLocation) {
    expectFailure(2, words, sourceLocation: sourceLocation)
    #expect(errorLines.count == 1, "\(errors)", sourceLocation: sourceLocation)
  }
}
