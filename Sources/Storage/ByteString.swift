/// A string of bytes that is compared and hashed byte by byte: an id, a key, or a file name that may not be UTF-8.
///
/// `String` compares by canonical equivalence: "é" of one scalar and "é" of two are equal. Ids and file names are equal
/// only if their bytes are, so sets and dictionaries of them use this type.
package struct ByteString: Hashable, Comparable, Sendable, CustomStringConvertible {
  package let bytes: [UInt8]

  package init(_ bytes: [UInt8]) { self.bytes = bytes }

  package init(_ text: some StringProtocol) { bytes = Array(text.utf8) }

  package static func < (a: Self, b: Self) -> Bool { a.bytes.lexicographicallyPrecedes(b.bytes) }

  package static func + (a: Self, b: Self) -> Self { Self(a.bytes + b.bytes) }

  /// The text; `nil` if the bytes are not UTF-8.
  package var text: String? { String(validating: bytes, as: UTF8.self) }

  /// The text with `\xE9` in place of a byte that is not UTF-8; different bytes give different texts.
  ///
  /// A text is unchanged, except that a backslash before an `x` becomes `\x5C`.
  package var description: String {
    var text = ""
    var parser = Unicode.UTF8.ForwardParser()
    var input = bytes.makeIterator()
    var offset = 0
    while true {
      switch parser.parseScalar(from: &input) {
      case .valid(let encoded):
        let scalar = Unicode.UTF8.decode(encoded)
        let end = offset + encoded.count
        let isEscape = scalar == "\\" && end < bytes.count && bytes[end] == UInt8(ascii: "x")
        if isEscape { text += Self.escape(bytes[offset]) } else { text.unicodeScalars.append(scalar) }
        offset = end
      case .error(let length):
        for byte in bytes[offset..<offset + length] { text += Self.escape(byte) }
        offset += length
      case .emptyInput: return text
      }
    }
  }

  private static func escape(_ byte: UInt8) -> String {
    let digits = String(byte, radix: 16, uppercase: true)
    return "\\x" + (digits.count < 2 ? "0" : "") + digits
  }
}

extension StringProtocol {
  /// Whether the texts have equal bytes; `==` also holds for canonically equivalent texts.
  package func hasBytes(of other: some StringProtocol) -> Bool { utf8.elementsEqual(other.utf8) }
}

extension Array where Element == UInt8 {
  /// A null-terminated copy for system calls; `nil` if a byte is null, which would end the string early.
  var cString: [CChar]? { contains(0) ? nil : map { CChar(bitPattern: $0) } + [0] }
}
