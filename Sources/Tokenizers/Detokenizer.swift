/// Turns token ids into text as they come, giving out only what later ids cannot change.
///
/// The parts together are the text that `Tokenizer.decode` gives for all ids at once. Held back is a run of byte
/// tokens: its bytes are a text only if they are valid UTF-8 to the end of the run, else each of them becomes U+FFFD.
/// Where all pieces spell bytes, a character is held back until its last byte has come.
public struct Detokenizer: Sendable {
  private let tokenizer: Tokenizer
  private let skipSpecialTokens: Bool
  private var bytes: [UInt8] = []
  private var isAtStart = true

  public init(_ tokenizer: Tokenizer, skipSpecialTokens: Bool = true) {
    self.tokenizer = tokenizer
    self.skipSpecialTokens = skipSpecialTokens
  }

  /// Takes the next id and returns the text that is now certain, often empty.
  public mutating func push(_ id: Int32) -> String {
    guard let piece = tokenizer.piece(id), !(skipSpecialTokens && tokenizer.isSpecial(id)) else { return "" }
    if tokenizer.vocabulary.preparation.isByteLevel {
      bytes += ByteAlphabet.bytes(of: piece)
      return takeWholeCharacters()
    }
    if let byte = Self.byte(of: piece) {
      bytes.append(byte)
      return ""
    }
    return strip(takeBytes() + Self.text(of: piece))
  }

  /// The text still held back.
  public mutating func finish() -> String {
    guard tokenizer.vocabulary.preparation.isByteLevel else { return strip(takeBytes()) }
    defer { bytes.removeAll() }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// All bytes but those of a character that has begun and may still be completed.
  private mutating func takeWholeCharacters() -> String {
    let held = bytes.unfinishedCharacterCount
    defer { bytes.removeFirst(bytes.count - held) }
    return String(decoding: bytes.dropLast(held), as: UTF8.self)
  }

  private mutating func takeBytes() -> String {
    defer { bytes.removeAll() }
    return String(validating: bytes, as: UTF8.self) ?? String(repeating: "\u{FFFD}", count: bytes.count)
  }

  /// Takes off the space that the tokenizer put before the text.
  private mutating func strip(_ text: String) -> String {
    guard isAtStart, !text.isEmpty else { return text }
    isAtStart = false
    guard tokenizer.vocabulary.preparation.stripsLeadingSpace, text.utf8.first == 0x20 else { return text }
    return String(text.unicodeScalars.dropFirst())
  }

  /// The byte that a piece such as `<0x0A>` stands for.
  private static func byte(of piece: String) -> UInt8? {
    guard piece.utf8.count == 6, piece.hasPrefix("<0x"), piece.hasSuffix(">") else { return nil }
    return UInt8(piece.dropFirst(3).dropLast(), radix: 16)
  }

  private static func text(of piece: String) -> String {
    String(String.UnicodeScalarView(piece.unicodeScalars.map { $0 == "▁" ? " " : $0 }))
  }
}

extension [UInt8] {
  /// How many bytes at the end are the beginning of a UTF-8 character that later bytes can complete.
  fileprivate var unfinishedCharacterCount: Int {
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
      // The second byte excludes long spellings, surrogates and what lies beyond Unicode.
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
