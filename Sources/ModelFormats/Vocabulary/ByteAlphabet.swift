/// The 256 visible characters that byte-level tokenizers spell bytes in.
///
/// Source: GPT-2's `bytes_to_unicode`.
package enum ByteAlphabet {
  /// The character for each byte.
  package static let characters: [Unicode.Scalar] = {
    var next: UInt32 = 0x100
    return (UInt8.min...UInt8.max).map { byte in
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return Unicode.Scalar(byte)
      default:
        defer { next += 1 }
        return Unicode.Scalar(next) ?? "?"
      }
    }
  }()

  private static let bytes = Dictionary(
    uniqueKeysWithValues: characters.enumerated().map { ($1, UInt8($0)) })

  /// The bytes that a piece spells; those of its own text if a character of it is none of the alphabet.
  package static func bytes(of piece: String) -> [UInt8] {
    var spelled: [UInt8] = []
    for scalar in piece.unicodeScalars {
      guard let byte = bytes[scalar] else { return Array(piece.utf8) }
      spelled.append(byte)
    }
    return spelled
  }
}
