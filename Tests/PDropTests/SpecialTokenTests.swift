import BatchInference
import Foundation
import LLaVA
import PDrop
import Storage
import TestSupport
import Testing

/// Added tokens and EOS tokens of a model's directory, with other token files than those of a golden checkpoint.
@Suite struct SpecialTokenTests {
  /// A golden checkpoint with some files replaced.
  private func model(_ files: [String: String]) throws -> VisionLanguageModel {
    let folder = try TemporaryFolder()
    let golden = Goldens.url("models/tiny-llava-1.5")
    for name in try FileManager.default.contentsOfDirectory(atPath: golden.path) where files[name] == nil {
      try FileManager.default.createSymbolicLink(
        at: folder.url.appending(path: name), withDestinationURL: golden.appending(path: name).resolvingSymlinksInPath()
      )
    }
    for (name, content) in files where !content.isEmpty { try folder.write(name, content) }
    return try VisionLanguageModel(directory: folder.path)
  }

  @Test func `names a prompt token that has no embedding`() throws {
    let model = try model(["added_tokens.json": #"{"<image>": 1200, "<pad>": 1201, "<new>": 1216, "<in>": 1202}"#])
    func error(_ prompt: Request.Prompt) -> RequestError? {
      #expect(throws: RequestError.self) {
        _ = try Session(model, Request(prompt: prompt), threads: 1)
      }
    }
    #expect(
      error(.rendered("What is <new>?"))
        == .sequence(.tokenOutOfRange(token: 1216, text: "<new>", vocabularySize: 1216)))
    #expect(
      error(.tokens([1, 5000])) == .sequence(.tokenOutOfRange(token: 5000, text: nil, vocabularySize: 1216)))
    let failure = RecordFailure(try #require(error(.rendered("<new>"))))
    #expect(failure.reason == .badRecord && failure.category == .input)
    #expect(failure.problem.contains(#""<new>" with id 1216"#))
    _ = try Session(model, Request(prompt: .rendered("What is <in>?")), threads: 1)
  }

  @Test func `names the file of the EOS tokens, and the tokenizer's token if it is none of them`() throws {
    #expect(try model([:]).eosDescription == [#"EOS tokens: "</s>" 2 (from generation_config.json)"#])
    #expect(
      try model(["generation_config.json": #"{"eos_token_id": [17, 262]}"#]).eosDescription == [
        #"EOS tokens: "<0x0E>" 17, "▁a" 262 (from generation_config.json)"#,
        #"note: "</s>" 2, the tokenizer's EOS token, is none of them and does not end an answer"#,
      ])
    #expect(try model(["generation_config.json": ""]).eosDescription == [#"EOS tokens: "</s>" 2 (from the tokenizer)"#])
  }
}
