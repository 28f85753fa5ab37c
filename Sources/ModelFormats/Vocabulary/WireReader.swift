/// Walks the fields of one protobuf message, checking every length.
///
/// Source: the protobuf encoding guide, "Message Structure".
struct WireReader {
  struct Failure: Error, Equatable {
    var offset: Int
    var expected: String
  }

  enum Value {
    case integer(UInt64)
    case fixed32(UInt32)
    case fixed64(UInt64)
    case bytes(ArraySlice<UInt8>)
  }

  private var rest: ArraySlice<UInt8>

  init(_ message: ArraySlice<UInt8>) { rest = message }

  /// The next field's number and value, or nil at the end of the message.
  mutating func next() throws(Failure) -> (number: UInt64, value: Value)? {
    guard !rest.isEmpty else { return nil }
    let offset = rest.startIndex
    let key = try integer()
    guard key >> 3 > 0, key >> 3 < 1 << 29 else { throw Failure(offset: offset, expected: "a field number") }
    let value: Value
    switch key & 7 {
    case 0: value = .integer(try integer())
    case 1: value = .fixed64(try fixed(8))
    case 2:
      let count = try integer()
      guard count <= UInt64(rest.count) else { throw failure("\(count) bytes") }
      value = .bytes(take(Int(count)))
    case 5: value = .fixed32(UInt32(try fixed(4)))
    default: throw Failure(offset: offset, expected: "wire type 0, 1, 2 or 5")
    }
    return (key >> 3, value)
  }

  private func failure(_ expected: String) -> Failure { Failure(offset: rest.startIndex, expected: expected) }

  private mutating func take(_ count: Int) -> ArraySlice<UInt8> {
    defer { rest = rest.dropFirst(count) }
    return rest.prefix(count)
  }

  private mutating func fixed(_ count: Int) throws(Failure) -> UInt64 {
    guard rest.count >= count else { throw failure("\(count) bytes") }
    return take(count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  private mutating func integer() throws(Failure) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: 0, to: 70, by: 7) {
      guard let byte = rest.popFirst() else { throw failure("the rest of an integer") }
      guard shift < 63 || byte <= 1 else { break }
      value |= UInt64(byte & 0x7F) << UInt64(shift)
      if byte < 0x80 { return value }
    }
    throw failure("an integer of 64 bits")
  }
}

extension WireReader.Value {
  /// The value as the `int32`, `enum` or `bool` that the schema says it is.
  func int32(at offset: Int) throws(WireReader.Failure) -> Int32 {
    guard case .integer(let bits) = self else { throw .init(offset: offset, expected: "an integer") }
    return Int32(truncatingIfNeeded: bits)
  }

  func float(at offset: Int) throws(WireReader.Failure) -> Float {
    guard case .fixed32(let bits) = self else { throw .init(offset: offset, expected: "a float") }
    return Float(bitPattern: bits)
  }

  func bytes(at offset: Int) throws(WireReader.Failure) -> ArraySlice<UInt8> {
    guard case .bytes(let bytes) = self else { throw .init(offset: offset, expected: "a message or string") }
    return bytes
  }
}
