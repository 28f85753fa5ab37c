public import Foundation

/// The tokenizer of a checkpoint: text to token ids, and back.
///
/// Added tokens such as `<image>` are matched first. The segments between them are normalized, split into words and
/// encoded by BPE. With a checkpoint of the original LLaVA code, the parts around `<image>` are tokenized separately,
/// as in that code.
///
///     let tokenizer = try Tokenizer(directory: URL(filePath: "Models/tiny-textvqa", directoryHint: .isDirectory))
///     let ids = tokenizer.encodePrompt("USER: <image>\nWhat is on the sign? ASSISTANT:")
///     print(tokenizer.decode(ids, skipSpecialTokens: false))
///
/// Source: the Hugging Face tokenizers library for `tokenizer.json`, transformers' `LlamaTokenizer` for
/// `tokenizer.model`; ids and texts are equal to their own.
public struct Tokenizer: Sendable {
  let vocabulary: Vocabulary
  private let rawMatcher: AddedTokenMatcher
  private let normalizedMatcher: AddedTokenMatcher
  private let encoder: BPEEncoder
  private let sentencePiece: LlamaTokenizer?
  private let added: [Int32: AddedToken]

  /// Reads `tokenizer.json`, or `tokenizer.model` without it, and the configuration files next to it.
  ///
  /// - Throws: `VocabularyError` naming the file, what was expected and what was found.
  public init(directory: URL) throws(VocabularyError) { self.init(try Vocabulary.load(directory: directory)) }

  package init(_ vocabulary: Vocabulary) {
    self.vocabulary = vocabulary
    let normalized = vocabulary.addedTokens.filter(\.isNormalized).map { token in
      var token = token
      if vocabulary.normalizer.isNormalizer {
        token.content = String(
          decoding: vocabulary.normalizer.normalized(Array(token.content.utf8)[...], isBeginning: true), as: UTF8.self)
      }
      return token
    }
    rawMatcher = AddedTokenMatcher(vocabulary.addedTokens.filter { !$0.isNormalized })
    normalizedMatcher = AddedTokenMatcher(normalized)
    encoder = BPEEncoder(vocabulary)
    sentencePiece = vocabulary.sentencePiece.map { LlamaTokenizer(vocabulary, $0) }
    added = Dictionary(vocabulary.addedTokens.map { ($0.id, $0) }) { first, _ in first }
  }

  // MARK: - Properties

  /// The token at the beginning of a prompt, often `<s>`.
  public var bosToken: Int32? { vocabulary.specialTokens.bos }

  /// The token that ends an answer, often `</s>`.
  public var eosToken: Int32? { vocabulary.specialTokens.eos }

  public var unkToken: Int32? { vocabulary.specialTokens.unk }
  public var padToken: Int32? { vocabulary.specialTokens.pad }

  /// The token that stands for an image, often `<image>`; nil unless the tokenizer encodes that text as one token.
  public var imageToken: Int32? { vocabulary.specialTokens.image }

  /// The texts of further special tokens by the names of `tokenizer_config.json`, such as `image_token`.
  package var otherSpecialTokens: [String: String] { vocabulary.otherSpecialTokens }

  /// Whether `encodePrompt` starts with the BOS token.
  public var addsBOSToken: Bool { vocabulary.specialTokens.addsBOS }

  /// One more than the largest id.
  public var vocabularySize: Int { vocabulary.size }

  // MARK: - Text to ids

  /// The ids of a text, without a BOS token.
  ///
  /// Cost: O(n log n) in the length of the text.
  public func encode(_ text: String) -> [Int32] {
    let bytes = Array(text.utf8)
    guard vocabulary.splitsAtImages, let image = imageToken else { return encode(bytes) }
    let parts = bytes.parts(separatedBy: Array("<image>".utf8))
    return Array(parts.map { encode(Array($0)) }.joined(separator: [image]))
  }

  private func encode(_ bytes: [UInt8]) -> [Int32] {
    if let sentencePiece { return sentencePiece.encode(bytes) }
    var ids: [Int32] = []
    let normalizer = vocabulary.normalizer
    for segment in rawMatcher.segments(of: bytes[...]) {
      switch segment {
      case .token(let id): ids.append(id)
      case .text(let raw) where normalizer.isNormalizer:
        let normalized = normalizer.normalized(raw, isBeginning: raw.startIndex == 0)
        for segment in normalizedMatcher.segments(of: normalized[...]) {
          switch segment {
          case .token(let id): ids.append(id)
          case .text(let text):
            encoder.append(text, isBeginning: raw.startIndex == 0 && text.startIndex == 0, to: &ids)
          }
        }
      case .text(let raw):
        for segment in normalizedMatcher.segments(of: raw) {
          switch segment {
          case .token(let id): ids.append(id)
          case .text(let text):
            let isBeginning = text.startIndex == 0
            encoder.append(
              normalizer.normalized(text, isBeginning: isBeginning)[...], isBeginning: isBeginning, to: &ids)
          }
        }
      }
    }
    return ids
  }

  /// The ids of a rendered prompt: the BOS token if the checkpoint adds one and the text has none, then the ids of the
  /// text.
  public func encodePrompt(_ rendered: String) -> [Int32] {
    let ids = encode(rendered)
    guard addsBOSToken, let bosToken, ids.first != bosToken else { return ids }
    return [bosToken] + ids
  }

  // MARK: - Ids to text

  /// The text of token ids.
  ///
  /// Ids outside the vocabulary are skipped. Byte tokens that are not valid UTF-8 become U+FFFD, one for each byte of
  /// their run.
  public func decode(_ ids: some Sequence<Int32>, skipSpecialTokens: Bool = true) -> String {
    var detokenizer = Detokenizer(self, skipSpecialTokens: skipSpecialTokens)
    var text = ""
    for id in ids { text += detokenizer.push(id) }
    return text + detokenizer.finish()
  }

  /// The tokens as the vocabulary writes them, with `▁` for spaces; nil for ids outside the vocabulary.
  public func pieces(of ids: some Sequence<Int32>) -> [String?] { ids.map(token) }

  func token(_ id: Int32) -> String? {
    if let token = added[id] { return token.content }
    return vocabulary.tokens.indices.contains(Int(id)) ? vocabulary.tokens[Int(id)] : nil
  }

  func isSpecial(_ id: Int32) -> Bool { added[id]?.isSpecial ?? false }

  /// Whether a token decodes to no text.
  func isHidden(_ id: Int32) -> Bool { added[id] == nil && vocabulary.sentencePiece?.controls.contains(id) ?? false }
}

extension [UInt8] {
  /// The parts between the occurrences of a separator, which may be empty.
  fileprivate func parts(separatedBy separator: [UInt8]) -> [ArraySlice<UInt8>] {
    var parts: [ArraySlice<UInt8>] = []
    var (start, position) = (0, 0)
    while position < count {
      if self[position...].starts(with: separator) {
        parts.append(self[start..<position])
        position += separator.count
        start = position
      } else {
        position += 1
      }
    }
    return parts + [self[start...]]
  }
}
