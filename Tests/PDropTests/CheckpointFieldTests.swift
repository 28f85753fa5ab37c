import Foundation
import LLaVA
import ModelFormats
import ModelTestSupport
import PDrop
import Storage
import TestSupport
import Testing

/// Model directories with values that some programs refuse, read as by the reference library.
@Suite struct CheckpointFieldTests {
  private static let prompt = "USER: <image>\nWhat is this? ASSISTANT:"

  /// A changed `tiny-llava-1.5` whose tokenizer is `tokenizer.model` with these added tokens.
  private func model(addedTokens: String, imageToken: Int) throws -> ChangedModel {
    let model = try ChangedModel()
    for file in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
      try model.remove("\(model.name)/\(file)")
    }
    try model.write("\(model.name)/added_tokens.json", addedTokens.utf8)
    try model.changeJSON("\(model.name)/config.json") { $0["image_token_index"] = imageToken }
    return model
  }

  private func answer(_ model: VisionLanguageModel, contextLength: Int? = nil) throws -> [Int] {
    let image = Request.Image.file(Goldens.path("images/gray_300x400.png"))
    var request = Request(prompt: .rendered(Self.prompt), images: [image])
    request.options.maxTokens = 2
    request.options.ignoresEOS = true
    request.options.contextLength = contextLength
    var session = try Session(model, request, threads: 2)
    while try session.next() != nil {}
    return session.report.tokens
  }

  @Test func `an image token after the vocabulary gives the same answer`() throws {
    let within = try model(addedTokens: #"{"<image>": 1200}"#, imageToken: 1200)
    let after = try model(addedTokens: #"{"<image>": 1216}"#, imageToken: 1216)
    let (first, second) = try (
      VisionLanguageModel(directory: within.directory), VisionLanguageModel(directory: after.directory)
    )
    #expect(second.imageToken == 1216 && second.llava.configuration.text.vocabularySize == 1216)
    #expect(try answer(first) == answer(second))
  }

  @Test func `refuses a tokenizer without an image token, or with another`() throws {
    let none = try model(addedTokens: #"{"<pad>": 1201}"#, imageToken: 1200)
    let error = #expect(throws: ModelError.self) { try VisionLanguageModel(directory: none.directory) }
    #expect(error?.reason == .tokenizer && error?.description.contains("the tokenizer has no <image>") == true)
    let other = try model(addedTokens: #"{"<image>": 1201}"#, imageToken: 1200)
    let mismatch = #expect(throws: ModelError.self) { try VisionLanguageModel(directory: other.directory) }
    #expect(mismatch?.reason == .tokenizer && mismatch?.description.contains("1201") == true)
  }

  @Test func `a sliding window limits the context, also one that a request raises`() throws {
    let plain = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    for (window, isLongEnough) in [(1024, true), (500, false)] {
      let changed = try ChangedModel()
      try changed.changeJSON("\(changed.name)/config.json") { configuration in
        var text = configuration["text_config"] as? [String: Any] ?? [:]
        text["sliding_window"] = window
        configuration["text_config"] = text
      }
      let model = try VisionLanguageModel(directory: changed.directory)
      #expect(model.contextLength == window && model.remarks.contains { $0.contains("sliding window") })
      if isLongEnough {
        #expect(try answer(model, contextLength: 4096) == answer(plain))
      } else {
        let error = #expect(throws: RequestError.self) { try answer(model, contextLength: 4096) }
        guard case .sequence(.beyondModel(_, 500)) = error else {
          Issue.record("\(String(describing: error))")
          continue
        }
      }
    }
  }
}
