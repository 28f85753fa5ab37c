import Foundation
import Storage
import TestSupport
import Testing
import Tokenizers

/// Ids of transformers' `LlamaTokenizer` for texts, with small SentencePiece models and several configurations.
private struct LlamaCases: Decodable {
  struct Case: Decodable {
    /// The files of the directory: `tokenizer.model` alone, in either layout of checkpoints, or `tokenizer.json`.
    enum Layout: String, Decodable { case model, original, json }

    var name: String
    var model: String
    var layout: Layout
    /// The configuration files by name.
    var files: [String: String]
    var prompt: [Int32]
    var ids: [[Int32]]
  }

  var texts: [String]
  var cases: [Case]

  static func load() throws -> Self {
    try JSONDecoder().decode(Self.self, from: Data(contentsOf: Fixtures.url("tokenizers/llama/cases.json")))
  }
}

@Suite struct LlamaTokenizerTests {
  private func vocabulary(_ golden: LlamaCases.Case) throws -> Vocabulary {
    let folder = try TemporaryFolder()
    if golden.layout != .json {
      try folder.write("tokenizer.model", try Data(contentsOf: Fixtures.url("tokenizers/llama/\(golden.model).model")))
    }
    for (name, content) in golden.files { try folder.write(name, Data(content.utf8)) }
    var vocabulary = try Vocabulary.load(directory: folder.url)
    if golden.layout == .original { #expect(vocabulary.imageToken(orElse: -200) == -200) }
    return vocabulary
  }

  @Test func `encodes like transformers, from tokenizer.model in both layouts and from tokenizer.json`() throws {
    let goldens = try LlamaCases.load()
    #expect(goldens.cases.count == 17)
    for golden in goldens.cases {
      let tokenizer = Tokenizer(try vocabulary(golden))
      #expect(tokenizer.encodePrompt("a b") == golden.prompt)
      for (text, ids) in zip(goldens.texts, golden.ids) {
        #expect(tokenizer.encode(text) == ids, "\(golden.name): \(text.debugDescription)")
      }
    }
  }

  @Test func `collapses spaces with remove_extra_whitespaces`() throws {
    typealias F = TokenizerFixtures
    let pieces = F.controls + F.piece("▁") + F.piece("a") + F.piece("b") + F.piece("▁a")
    let tokenizer = Tokenizer(
      try Vocabulary.read(
        sentencePieceModel: F.model(pieces, normalizer: F.field(1, Array("identity".utf8)) + F.field(4, 1))))
    #expect(tokenizer.encode("  a   b ") == [6, 3, 5])
    #expect(tokenizer.encode("   ") == [])
    #expect(tokenizer.encode("a ▁ ▁▁ ") == [6])
  }

  @Test func `merges characters that are not pieces themselves`() throws {
    typealias F = TokenizerFixtures
    let pieces = F.controls + F.piece("b") + F.piece("xy") + F.piece("▁xy", score: 1)
    let tokenizer = Tokenizer(try Vocabulary.read(sentencePieceModel: F.model(pieces)))
    #expect(tokenizer.encode("xybxyxx") == [5, 3, 4, 0])
  }
}
