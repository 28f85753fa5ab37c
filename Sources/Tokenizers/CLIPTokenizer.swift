package import Foundation
import Storage

/// The tokenizer of CLIP's text encoder: text in lower case, words that end in `</w>`, and BPE over bytes.
///
/// Source: `CLIPTokenizerFast` of transformers and the tokenizers library; ids are equal to theirs.
package struct CLIPTokenizer: Sendable {
  private static let wordEnd = "</w>"

  private let merges: [Vocabulary.Pair: Vocabulary.Merge]
  /// The token of each character of `ByteAlphabet`, within a word and as its last character; missing ones are UNK.
  private let characters: [Unicode.Scalar: Int32]
  private let lastCharacters: [Unicode.Scalar: Int32]
  private let rawMatcher: AddedTokenMatcher
  private let normalizedMatcher: AddedTokenMatcher
  private let unkToken: Int32
  package let bosToken: Int32
  package let eosToken: Int32
  /// One more than the largest id.
  package let vocabularySize: Int

  /// Reads `tokenizer.json`, or `vocab.json` and `merges.txt` without it.
  ///
  /// - Throws: `VocabularyError` naming the file, what was expected and what was found.
  package init(directory: URL) throws(VocabularyError) {
    let configuration = try TokenizerConfigurationFiles(directory: directory)
    if let root = try TokenizerFile.json("tokenizer.json", in: directory) {
      try self.init(tokenizerJSON: root, configuration)
    } else {
      guard let vocabulary = try TokenizerFile.json("vocab.json", in: directory),
        let bytes = try TokenizerFile.bytes("merges.txt", in: directory)
      else { throw .missingCLIP(directory: directory.path) }
      let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
      let merges = lines.filter { !$0.hasPrefix("#version") }.map { JSONValue.string(String($0)) }
      try self.init(vocabulary, merges: .array(merges), file: "vocab.json", added: [], configuration)
    }
  }

  private init(tokenizerJSON root: JSONValue, _ configuration: TokenizerConfigurationFiles) throws(VocabularyError) {
    let file = "tokenizer.json"
    let model = root["model"]
    guard model["end_of_word_suffix"].string == Self.wordEnd else {
      throw .missingField(file: file, field: "model.end_of_word_suffix", expected: "'\(Self.wordEnd)', as in CLIP")
    }
    let normalizers = root["normalizer"].steps("normalizers").map { $0["type"].kind }
    guard normalizers == ["NFC", "Replace", "Lowercase"] else {
      throw .unsupported(file: file, part: "normalizer", found: normalizers.joined(separator: ", "))
    }
    let steps = root["pre_tokenizer"].steps("pretokenizers")
    guard steps.map({ $0["type"].kind }) == ["Split", "ByteLevel"],
      steps[0]["pattern"]["Regex"].string == #"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"#
    else {
      throw .unsupported(
        file: file, part: "pre_tokenizer", found: steps.map { $0["type"].kind }.joined(separator: ", "))
    }
    var added: [AddedToken] = []
    for entry in root["added_tokens"].array ?? [] {
      let id = try Int32(entry["id"], token: entry["content"].kind, file: file)
      added.append(try AddedToken(entry, id: id, file: file))
    }
    try self.init(model["vocab"], merges: model["merges"], file: file, added: added, configuration)
  }

  /// - Parameter added: The added tokens of the file; the special tokens are added to them.
  private init(
    _ vocabulary: JSONValue, merges: JSONValue, file: String, added: [AddedToken],
    _ configuration: TokenizerConfigurationFiles
  ) throws(VocabularyError) {
    let table = try Vocabulary.tokenTable(vocabulary, file: file)
    var tokens = AddedTokenTable(table)
    for token in added { try tokens.add(token, file: file) }
    func special(_ key: String, _ usual: String) throws(VocabularyError) -> Int32 {
      let name = configuration.name(key) ?? usual
      guard let id = tokens[name] else { throw .unknownToken(file: file, token: name, neededFor: key) }
      try tokens.add(AddedToken(id: id, content: name, isSpecial: true, isNormalized: true), file: file)
      return id
    }
    bosToken = try special("bos_token", "<|startoftext|>")
    eosToken = try special("eos_token", "<|endoftext|>")
    unkToken = try special("unk_token", "<|endoftext|>")
    vocabularySize = Int(tokens.nextID)
    self.merges = try Vocabulary.merges(merges, table, file: file)
    func ids(_ suffix: String) -> [Unicode.Scalar: Int32] {
      Dictionary(
        uniqueKeysWithValues: ByteAlphabet.characters.compactMap { scalar in
          table["\(scalar)" + suffix].map { (scalar, $0) }
        })
    }
    (characters, lastCharacters) = (ids(""), ids(Self.wordEnd))
    rawMatcher = AddedTokenMatcher(tokens.sorted.filter { !$0.isNormalized })
    normalizedMatcher = AddedTokenMatcher(tokens.sorted.filter(\.isNormalized))
  }

  /// The ids of a text, without BOS and EOS token.
  ///
  /// Cost: O(n log n) in the length of the text.
  package func encode(_ text: String) -> [Int32] {
    var ids: [Int32] = []
    for segment in rawMatcher.segments(of: Array(text.utf8)[...]) {
      switch segment {
      case .token(let id): ids.append(id)
      case .text(let raw):
        for segment in normalizedMatcher.segments(of: Self.normalized(raw)[...]) {
          switch segment {
          case .token(let id): ids.append(id)
          case .text(let text):
            for word in Self.words(of: String(decoding: text, as: UTF8.self)) { append(word, to: &ids) }
          }
        }
      }
    }
    return ids
  }

  /// The ids of a text in pieces of one length: BOS token, text and EOS token, then zeros.
  ///
  /// Later pieces have no BOS token, and earlier ones no EOS token, as in CDPruner's code.
  package func pieces(of text: String, length: Int) -> [[Int]] {
    let ids = ([bosToken] + encode(text) + [eosToken]).map(Int.init)
    return stride(from: 0, to: ids.count, by: length).map { start in
      let piece = Array(ids[start..<min(start + length, ids.count)])
      return piece + [Int](repeating: 0, count: length - piece.count)
    }
  }

  /// Composed characters in lower case, with one space for each run of white space.
  private static func normalized(_ text: ArraySlice<UInt8>) -> [UInt8] {
    var composing = Normalizer(prependScheme: .never, preTokenizer: .byteLevel(.gpt2))
    composing.composes = true
    let composed = String(decoding: composing.normalized(text, isBeginning: false), as: UTF8.self)
    var (result, endsInSpace) = (String.UnicodeScalarView(), false)
    for scalar in composed.unicodeScalars {
      if scalar.properties.isWhitespace {
        if !endsInSpace { result.append(" ") }
      } else {
        result.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
      }
      endsInSpace = scalar.properties.isWhitespace
    }
    return Array(String(result).utf8)
  }

  /// Contractions, runs of letters, single numbers, and runs of other characters, without white space.
  ///
  /// Between white space these are the words of GPT-2's regex, with the digits of numbers apart.
  private static func words(of text: String) -> [ArraySlice<Unicode.Scalar>] {
    text.unicodeScalars.split(whereSeparator: \.properties.isWhitespace)
      .flatMap { PreTokenizerSplitter(String(String.UnicodeScalarView($0)), .gpt2).words }
      .flatMap { word in word.first?.isNumber == true ? word.indices.map { word[$0...$0] } : [word] }
  }

  private func append(_ word: ArraySlice<Unicode.Scalar>, to ids: inout [Int32]) {
    let spelled = word.flatMap { (UTF8.encode($0) ?? .init()).map { ByteAlphabet.characters[Int($0)] } }
    var symbols = spelled.enumerated().map { index, character in
      (index == spelled.count - 1 ? lastCharacters : characters)[character] ?? unkToken
    }
    symbols.mergeNeighbours { left, right in merges[.init(left, right)].map { ($0.token, $0.rank) } }
    ids += symbols
  }
}
