import ModelFormats

/// Turns token ids into text as they come, giving out only what later ids cannot change.
///
/// The parts together are the text that `Tokenizer.decode` gives for all ids at once. Held back is a run of byte
/// tokens: its bytes are a text only if they are valid UTF-8 to the end of the run, else each of them becomes U+FFFD.
public struct StreamingDecoder: Sendable {
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
    if let byte = Self.byte(of: piece) {
      bytes.append(byte)
      return ""
    }
    return strip(takeBytes() + Self.text(of: piece))
  }

  /// The text still held back.
  public mutating func finish() -> String { strip(takeBytes()) }

  private mutating func takeBytes() -> String {
    defer { bytes.removeAll() }
    return String(validating: bytes, as: UTF8.self) ?? String(repeating: "\u{FFFD}", count: bytes.count)
  }

  /// Takes off the space that the tokenizer put in front of the text.
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
