public import Foundation

/// Turns text into token ids and back, as the checkpoint's own tokenizer does.
///
/// Added tokens such as `<image>` are found in the text first; the stretches between them are prepared, spelled in
/// characters or bytes, and merged pair by pair. Where the checkpoint puts a space before every stretch, text
/// around an image comes out as in the original LLaVA code, which tokenizes the pieces around `<image>` one by one.
///
/// Source: the Hugging Face tokenizers library, whose ids and texts these equal.
public struct Tokenizer: Sendable {
  let vocabulary: Vocabulary
  private let rawMatcher: AddedTokenMatcher
  private let normalizedMatcher: AddedTokenMatcher
  private let merger: BPEEncoder
  private let added: [Int32: AddedToken]

  /// Reads `tokenizer.json`, or else `tokenizer.model`, and the files beside it.
  ///
  /// - Throws: An error whose description names the file, what was expected and what was found.
  public init(directory: URL) throws { self.init(try Vocabulary.load(directory: directory)) }

  package init(_ vocabulary: Vocabulary) {
    self.vocabulary = vocabulary
    let normalized = vocabulary.addedTokens.filter(\.isNormalized).map { token in
      var token = token
      if vocabulary.preparation.isNormalizer {
        token.content = String(
          decoding: vocabulary.preparation.prepare(Array(token.content.utf8)[...], isBeginning: true), as: UTF8.self)
      }
      return token
    }
    rawMatcher = AddedTokenMatcher(vocabulary.addedTokens.filter { !$0.isNormalized })
    normalizedMatcher = AddedTokenMatcher(normalized)
    merger = BPEEncoder(vocabulary)
    added = Dictionary(vocabulary.addedTokens.map { ($0.id, $0) }) { first, _ in first }
  }

  // MARK: - Properties

  /// The token before a prompt, often `<s>`.
  public var bosToken: Int32? { vocabulary.specialTokens.bos }

  /// The token that ends an answer, often `</s>`.
  public var eosToken: Int32? { vocabulary.specialTokens.eos }

  public var unkToken: Int32? { vocabulary.specialTokens.unk }
  public var paddingToken: Int32? { vocabulary.specialTokens.pad }

  /// The token that stands for an image, often `<image>`.
  public var imageToken: Int32? { vocabulary.specialTokens.image }

  /// Whether `encodePrompt` starts with the BOS token.
  public var addsBOSToken: Bool { vocabulary.specialTokens.addsBOS }

  /// One more than the largest id.
  public var vocabularySize: Int { vocabulary.size }

  // MARK: - Text to ids

  /// The ids of a text, without a BOS token.
  ///
  /// Cost: O(n log n) in the length of the text.
  public func encode(_ text: String) -> [Int32] {
    var ids: [Int32] = []
    let bytes = Array(text.utf8)
    let preparation = vocabulary.preparation
    for segment in rawMatcher.segments(of: bytes[...]) {
      switch segment {
      case .token(let id): ids.append(id)
      case .text(let raw) where preparation.isNormalizer:
        let prepared = preparation.prepare(raw, isBeginning: raw.startIndex == 0)
        for segment in normalizedMatcher.segments(of: prepared[...]) {
          switch segment {
          case .token(let id): ids.append(id)
          case .text(let text): merger.append(text, to: &ids)
          }
        }
      case .text(let raw):
        for segment in normalizedMatcher.segments(of: raw) {
          switch segment {
          case .token(let id): ids.append(id)
          case .text(let text):
            merger.append(preparation.prepare(text, isBeginning: text.startIndex == 0)[...], to: &ids)
          }
        }
      }
    }
    return ids
  }

  /// The ids of a rendered prompt: the BOS token where the checkpoint wants it, then those of the text.
  public func encodePrompt(_ rendered: String) -> [Int32] {
    (addsBOSToken ? bosToken.map { [$0] } ?? [] : []) + encode(rendered)
  }

  // MARK: - Ids to text

  /// The text that ids spell.
  ///
  /// Ids outside the vocabulary are passed over. Bytes that are not UTF-8 become U+FFFD, one for each byte of their
  /// run.
  public func decode(_ ids: some Sequence<Int32>, skipSpecialTokens: Bool = true) -> String {
    var decoder = Detokenizer(self, skipSpecialTokens: skipSpecialTokens)
    var text = ""
    for id in ids { text += decoder.push(id) }
    return text + decoder.finish()
  }

  /// The pieces as the vocabulary spells them, with `▁` for spaces; nil for ids outside it.
  public func pieces(of ids: some Sequence<Int32>) -> [String?] { ids.map(piece) }

  func piece(_ id: Int32) -> String? {
    if let token = added[id] { return token.content }
    return vocabulary.pieces.indices.contains(Int(id)) ? vocabulary.pieces[Int(id)] : nil
  }

  func isSpecial(_ id: Int32) -> Bool { added[id]?.isSpecial ?? false }
}
