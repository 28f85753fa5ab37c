import Foundation
import Storage
import TestSupport
import Testing
@testable import Tokenizers

/// Sequences of pre-tokenizer steps against the tokenizers library.
@Suite struct PreTokenizerSequenceTests {
  private struct Case: Decodable {
    var text: String
    var words: [String]?
    var ids: [Int32]?
  }

  @Test func `splits like the reference, whatever the steps`() throws {
    let bytes = try [UInt8](Data(contentsOf: Fixtures.url("tokenizers/sequences.json")))
    let sequences = try #require(try JSONParser.parse(bytes).array)
    #expect(sequences.count > 50)
    for sequence in sequences {
      let steps = sequence["pre_tokenizer"].steps("pretokenizers")
      let splitter = try PreTokenizerSequence(steps, file: "tokenizer.json")
      for golden in sequence["cases"].array ?? [] {
        let text = golden["text"].string ?? ""
        let words = splitter.words(of: text, isBeginning: true).map { String(String.UnicodeScalarView($0)) }
        // Compared by bytes: strings that are canonically equivalent are equal.
        let (found, expected) = (
          words.map { Array($0.utf8) }, golden["words"].array?.map { Array(($0.string ?? "").utf8) }
        )
        #expect(found == expected, "\(splitter.steps) of \(text.debugDescription): \(words)")
      }
    }
  }

  @Test(arguments: ["digits-punctuation", "spaces-before"])
  func `encodes like the reference, and decodes its text`(name: String) throws {
    let folder = Fixtures.url("tokenizers/sequences/\(name)")
    let tokenizer = try Tokenizer(directory: folder)
    let cases = try JSONDecoder().decode([Case].self, from: Data(contentsOf: folder.appending(path: "cases.json")))
    for golden in cases {
      #expect(tokenizer.encode(golden.text) == golden.ids, "\(golden.text.debugDescription)")
    }
  }

  @Test(arguments: [
    (#"{"type":"UnicodeScripts"}"#, "UnicodeScripts"), (#"{"type":"Split","pattern":{"Regex":"a+"}}"#, "a+"),
    (#"{"type":"Split","pattern":{"String":"a"},"behavior":"Kept"}"#, "Kept"),
    (#"{"type":"Metaspace","replacement":"_"}"#, "_"), (#"{"type":"CharDelimiterSplit","delimiter":"ab"}"#, "ab"),
    (#"{"type":"Metaspace","prepend_scheme":"last"}"#, "last"),
    (#"{"type":"Split","pattern":{"String":""}}"#, "an empty text"),
  ])
  func `refuses a step that it does not know, by name`(step: String, name: String) throws {
    let step = try JSONParser.parse(Array(step.utf8))
    let error = #expect(throws: VocabularyError.self) { try PreTokenizerSequence([step], file: "tokenizer.json") }
    #expect(error?.problem.contains(name) == true, "\(String(describing: error))")
    let digits = try JSONParser.parse(Array(#"{"type":"Digits"}"#.utf8))
    let bytes = try JSONParser.parse(Array(#"{"type":"ByteLevel"}"#.utf8))
    for steps in [Array(repeating: digits, count: 17), [bytes, digits, bytes]] {
      #expect(throws: VocabularyError.self) { try PreTokenizerSequence(steps, file: "tokenizer.json") }
    }
  }
}
