/// A streaming detokenizer: token ids to text, one token at a time, returning only text that later ids cannot change.
///
/// The returned parts together equal the text of `Tokenizer.decode` for all ids at once. A run of byte tokens is
/// buffered until it ends: its bytes become text if the whole run is valid UTF-8, otherwise one U+FFFD each. A
/// byte-level tokenizer buffers an incomplete character until its last byte arrives.
public struct Detokenizer: Sendable {
  private let tokenizer: Tokenizer
  private let skipSpecialTokens: Bool
  private var bytes: [UInt8] = []
  private var isAtStart = true

  public init(_ tokenizer: Tokenizer, skipSpecialTokens: Bool = true) {
    self.tokenizer = tokenizer
    self.skipSpecialTokens = skipSpecialTokens
  }

  /// Adds the next id and returns the text that is now final, often empty.
  public mutating func push(_ id: Int32) -> String {
    guard let token = tokenizer.token(id), !(skipSpecialTokens && tokenizer.isSpecial(id)),
      !tokenizer.isHidden(id)
    else { return "" }
    if tokenizer.vocabulary.normalizer.isByteLevel {
      bytes += ByteAlphabet.bytes(of: token)
      return takeWholeCharacters()
    }
    if let byte = Tokenizer.byte(of: token) {
      bytes.append(byte)
      return ""
    }
    return strip(takeBytes() + Tokenizer.text(of: token))
  }

  /// The text that is still buffered.
  public mutating func finish() -> String {
    guard tokenizer.vocabulary.normalizer.isByteLevel else { return strip(takeBytes()) }
    defer { bytes.removeAll() }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Removes and decodes all bytes except those of an incomplete character at the end.
  private mutating func takeWholeCharacters() -> String {
    let pending = bytes.incompleteByteCount
    defer { bytes.removeFirst(bytes.count - pending) }
    return String(decoding: bytes.dropLast(pending), as: UTF8.self)
  }

  private mutating func takeBytes() -> String {
    defer { bytes.removeAll() }
    return String(validating: bytes, as: UTF8.self) ?? String(repeating: "\u{FFFD}", count: bytes.count)
  }

  /// Removes the space that the tokenizer added before the text.
  private mutating func strip(_ text: String) -> String {
    guard isAtStart, !text.isEmpty else { return text }
    isAtStart = false
    guard tokenizer.vocabulary.normalizer.stripsLeadingSpace, text.utf8.first == 0x20 else { return text }
    return String(text.unicodeScalars.dropFirst())
  }
}

extension Tokenizer {
  /// The byte of a byte token such as `<0x0A>`.
  fileprivate static func byte(of token: String) -> UInt8? {
    guard token.utf8.count == 6, token.hasPrefix("<0x"), token.hasSuffix(">") else { return nil }
    return UInt8(token.dropFirst(3).dropLast(), radix: 16)
  }

  fileprivate static func text(of token: String) -> String {
    String(String.UnicodeScalarView(token.unicodeScalars.map { $0 == "▁" ? " " : $0 }))
  }

  /// The bytes that a token adds to an answer, possibly a part of a character; empty for a special token and for an id
  /// outside the vocabulary.
  ///
  /// The space that a tokenizer adds before a text, which `Detokenizer` removes, is included.
  public func bytes(of id: Int32) -> [UInt8] {
    guard let token = token(id), !isSpecial(id), !isHidden(id) else { return [] }
    if vocabulary.normalizer.isByteLevel { return ByteAlphabet.bytes(of: token) }
    return Self.byte(of: token).map { [$0] } ?? Array(Self.text(of: token).utf8)
  }

  /// Whether a space at the beginning of an answer is removed.
  public var stripsLeadingSpace: Bool { vocabulary.normalizer.stripsLeadingSpace }
}

extension [UInt8] {
  /// The number of bytes at the end that begin a UTF-8 character which later bytes can complete.
  fileprivate var incompleteByteCount: Int {
    for count in 1...3 where count <= self.count {
      let start = self.count - count
      let length =
        switch self[start] {
        case 0x80...0xBF: 0
        case 0xC2...0xDF: 2
        case 0xE0...0xEF: 3
        case 0xF0...0xF4: 4
        default: 1
        }
      if length == 0 { continue }
      guard count < length else { return 0 }
      // The range of the second byte excludes overlong encodings, surrogates and values beyond Unicode.
      let second: ClosedRange<UInt8> =
        switch self[start] {
        case 0xE0: 0xA0...0xBF
        case 0xED: 0x80...0x9F
        case 0xF0: 0x90...0xBF
        case 0xF4: 0x80...0x8F
        default: 0x80...0xBF
        }
      return count == 1 || second.contains(self[start + 1]) ? count : 0
    }
    return 0
  }
}
