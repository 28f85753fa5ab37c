import Storage

/// A reader of the parts of a GGUF file before its tensors, in their order.
///
/// Every count and length is compared with the bytes that remain before it is used, so that the cost is bounded by the
/// size of the file.
struct GGUFReader {
  /// Name, type, shape and offset of a tensor, unchecked but for the sizes of the shape.
  struct Info {
    var name: String
    var type: GGUFTensorType
    /// Rows first; the file has columns first.
    var shape: [Int]
    /// From the start of the tensors.
    var offset: UInt64
  }

  static let magic = Array("GGUF".utf8)
  /// The maximum number of elements for which memory is reserved before they are read, as their count may be damaged.
  static let reservedCount = 1 << 16

  private let storage: SharedBytes
  private let file: String
  /// The offset of the next byte.
  private(set) var offset = 0

  init(_ storage: SharedBytes, file: String) {
    self.storage = storage
    self.file = file
  }

  /// The numbers of tensors and of key-value pairs in the header.
  mutating func counts() throws(CheckpointError) -> (tensors: Int, pairs: Int) {
    let first = storage.copy(0..<min(Self.magic.count, storage.count))
    guard first == Self.magic else {
      let text = String(decoding: first, as: UTF8.self)
      throw malformed("not a GGUF file: it begins with \(text.excerpt), expected \"GGUF\"")
    }
    offset = Self.magic.count
    let version = try integer(UInt32.self)
    guard version & 0xFFFF != 0 || version == 0 else {
      throw malformed("a GGUF file of a big-endian machine, expected little-endian; convert the model again")
    }
    guard version == 2 || version == 3 else {
      throw malformed("GGUF version \(version), expected 2 or 3; convert the model again with a current llama.cpp")
    }
    let (tensors, pairs) = (try integer(UInt64.self), try integer(UInt64.self))
    // The smallest tensor info and the smallest pair.
    return (try count(tensors, of: "tensors", atLeast: 32), try count(pairs, of: "metadata pairs", atLeast: 13))
  }

  // MARK: - Metadata

  mutating func pairs(_ count: Int) throws(CheckpointError) -> [String: GGUFValue] {
    var values: [String: GGUFValue] = [:]
    values.reserveCapacity(min(count, Self.reservedCount))
    for _ in 0..<count {
      let key = try text()
      let value = try self.value(of: key)
      guard values.updateValue(value, forKey: key) == nil else {
        throw malformed("the key \(key.excerpt) occurs twice")
      }
    }
    return values
  }

  private mutating func value(of key: String) throws(CheckpointError) -> GGUFValue {
    let type = try valueType(of: key)
    switch type {
    case .string: return .text(try textRange())
    case .array:
      let (element, announced) = (try valueType(of: key), try integer(UInt64.self))
      let count = try self.count(announced, of: "elements of \(key.excerpt)", atLeast: element.byteCount ?? 8)
      let start = offset
      switch element {
      case .array: throw malformed("\(key.excerpt) is a list of lists, which is not supported")
      case .string: for _ in 0..<count { _ = try textRange() }
      default: offset += count * (element.byteCount ?? 0)
      }
      return .array(element, count: count, start..<offset)
    default:
      let start = offset
      try advance(type.byteCount ?? 0)
      guard let value = GGUFValue(type, in: storage, at: start) else { preconditionFailure("value of \(type)") }
      return value
    }
  }

  private mutating func valueType(of key: String) throws(CheckpointError) -> GGUFValueType {
    let number = try integer(UInt32.self)
    guard let type = GGUFValueType(rawValue: number) else {
      throw malformed("\(key.excerpt) has the value type \(number), expected 0 to 12; the file is damaged")
    }
    return type
  }

  // MARK: - Tensors

  mutating func tensorInfos(_ count: Int) throws(CheckpointError) -> [Info] {
    var infos: [Info] = []
    infos.reserveCapacity(min(count, Self.reservedCount))
    for _ in 0..<count {
      let name = try text()
      let dimensionCount = try integer(UInt32.self)
      guard (1...4).contains(dimensionCount) else {
        throw malformed("\(name.excerpt) has \(dimensionCount) dimensions, expected 1 to 4")
      }
      var shape: [Int] = []
      for _ in 0..<dimensionCount {
        let size = try integer(UInt64.self)
        guard let size = Int(exactly: size), size > 0 else {
          throw malformed("\(name.excerpt) has a dimension of \(size), expected 1 or more")
        }
        shape.append(size)
      }
      let type = GGUFTensorType(number: try integer(UInt32.self))
      infos.append(Info(name: name, type: type, shape: shape.reversed(), offset: try integer(UInt64.self)))
    }
    return infos
  }

  // MARK: - Parts

  private mutating func integer<Value: FixedWidthInteger>(_ type: Value.Type) throws(CheckpointError) -> Value {
    let start = offset
    try advance(MemoryLayout<Value>.size)
    return storage.littleEndian(start)
  }

  private mutating func text() throws(CheckpointError) -> String {
    String(decoding: storage.copy(try textRange()), as: UTF8.self)
  }

  /// The bytes of a text, which follow its length.
  private mutating func textRange() throws(CheckpointError) -> Range<Int> {
    let length = try integer(UInt64.self)
    let start = offset
    guard length <= UInt64(storage.count - offset) else { throw truncated() }
    offset += Int(length)
    return start..<offset
  }

  /// A count whose elements can have room in the remaining bytes.
  private func count(_ announced: UInt64, of things: String, atLeast size: Int) throws(CheckpointError) -> Int {
    let most = (storage.count - offset) / size
    guard announced <= UInt64(most) else {
      throw malformed(
        "\(announced) \(things) at byte \(offset) of \(storage.count), room for at most \(most); the file is truncated "
          + "or damaged")
    }
    return Int(announced)
  }

  private mutating func advance(_ count: Int) throws(CheckpointError) {
    guard count <= storage.count - offset else { throw truncated() }
    offset += count
  }

  private func truncated() -> CheckpointError {
    malformed("it ends within the metadata, at byte \(offset) of \(storage.count); is the download complete?")
  }

  private func malformed(_ reason: String) -> CheckpointError { .malformed(file: file, reason: reason) }
}
