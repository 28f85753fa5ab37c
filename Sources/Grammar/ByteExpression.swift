/// A set of bytes.
struct ByteSet: Hashable, Sendable {
  private var words = SIMD4<UInt64>()

  init() {}

  init(_ range: ClosedRange<UInt8>) { for byte in range { insert(byte) } }

  init(_ bytes: some Sequence<UInt8>) { for byte in bytes { insert(byte) } }

  mutating func insert(_ byte: UInt8) { words[Int(byte >> 6)] |= 1 << UInt64(byte & 63) }

  func contains(_ byte: UInt8) -> Bool { words[Int(byte >> 6)] >> UInt64(byte & 63) & 1 != 0 }
}

/// A regular expression over bytes, from which DFAs are built.
indirect enum ByteExpression: Sendable {
  case bytes(ByteSet)
  case sequence([ByteExpression])
  /// Any of the alternatives; no text at all if there are none.
  case choice([ByteExpression])
  /// - Parameter maximum: nil for any number.
  case repeated(ByteExpression, minimum: Int, maximum: Int?)

  /// The number of byte sets in the expression, repetitions not counted.
  var byteSetCount: Int {
    switch self {
    case .bytes: 1
    case .sequence(let parts), .choice(let parts): parts.reduce(0) { $0 + $1.byteSetCount }
    case .repeated(let part, _, _): part.byteSetCount
    }
  }

  static func byte(_ character: Unicode.Scalar) -> Self { .bytes(ByteSet(CollectionOfOne(UInt8(ascii: character)))) }

  static func byte(in range: ClosedRange<UInt8>) -> Self { .bytes(ByteSet(range)) }

  static func literal(_ bytes: some Sequence<UInt8>) -> Self {
    .sequence(bytes.map { .bytes(ByteSet(CollectionOfOne($0))) })
  }

  static func literal(_ text: String) -> Self { literal(text.utf8) }

  static func optional(_ expression: Self) -> Self { .repeated(expression, minimum: 0, maximum: 1) }

  static let digit = byte(in: 0x30...0x39)

  /// The whitespace that answers have at structural places: none, a space, or a line break with an indentation.
  static let whitespace = optional(
    .choice([byte(" "), .sequence([byte("\n"), .repeated(byte(" "), minimum: 0, maximum: 20)])]))
}
