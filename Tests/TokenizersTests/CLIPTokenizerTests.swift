import Foundation
import TestSupport
import Testing
@testable import Tokenizers

/// CLIP's tokenizer against the ids of the reference library.
@Suite struct CLIPTokenizerTests {
  private struct Cases: Decodable {
    struct Text: Decodable {
      var text: String
      var ids: [Int32]
    }
    struct Question: Decodable {
      var text: String
      var pieces: [[Int]]
    }

    var tokenizer: [Text]
    var questions: [Question]
  }

  private static let directory = Goldens.url("clip/tiny-clip")

  /// A copy of the directory with only some of its files.
  private func copy(_ names: [String], change: (String) -> String = { $0 }) throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    for name in names {
      let text = try String(contentsOf: Self.directory.appending(path: name), encoding: .utf8)
      try change(text).write(to: folder.url.appending(path: name), atomically: true, encoding: .utf8)
    }
    return folder
  }

  @Test func `gives the ids of the reference, from either kind of file`() throws {
    let cases = try Goldens.json("clip/cases.json", as: Cases.self)
    let folder = try copy(["vocab.json", "merges.txt"])
    for directory in [Self.directory, folder.url] {
      let tokenizer = try CLIPTokenizer(directory: directory)
      for text in cases.tokenizer { #expect(tokenizer.encode(text.text) == text.ids, "\(text.text.debugDescription)") }
      for question in cases.questions { #expect(tokenizer.pieces(of: question.text, length: 77) == question.pieces) }
      #expect(cases.questions.contains { $0.pieces.count > 1 })
      #expect(tokenizer.vocabularySize == 674)
    }
  }

  @Test func `a text that fills its last piece gets no other`() throws {
    let tokenizer = try CLIPTokenizer(directory: Self.directory)
    #expect(tokenizer.pieces(of: "1 2 3", length: 5) == [[672, 272, 273, 274, 673]])
    #expect(tokenizer.pieces(of: "1 2 3", length: 4) == [[672, 272, 273, 274], [673, 0, 0, 0]])
  }

  @Test func `names what a file of another tokenizer lacks`() throws {
    let without = try copy(["vocab.json"])
    #expect(throws: VocabularyError.missingCLIP(directory: without.url.path)) {
      _ = try CLIPTokenizer(directory: without.url)
    }
    let other = try copy(["tokenizer.json"]) { $0.replacing("\"</w>\"", with: "\"\"") }
    #expect(
      throws: VocabularyError.missingField(
        file: "tokenizer.json", field: "model.end_of_word_suffix", expected: "'</w>', as in CLIP")
    ) { _ = try CLIPTokenizer(directory: other.url) }
    let upper = try copy(["tokenizer.json"]) { $0.replacing("\"Lowercase\"", with: "\"Uppercase\"") }
    #expect(
      throws: VocabularyError.unsupported(
        file: "tokenizer.json", part: "normalizer", found: "NFC, Replace, Uppercase")
    ) { _ = try CLIPTokenizer(directory: upper.url) }
  }
}
