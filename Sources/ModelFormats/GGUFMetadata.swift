import Storage

/// The type of a metadata value in a GGUF file; raw values are those of the format.
package enum GGUFValueType: UInt32, Sendable {
  case uint8, int8, uint16, int16, uint32, int32, float32, bool, string, array, uint64, int64, float64

  /// The size of a value in bytes; `nil` for texts and arrays, which have no fixed size.
  var byteCount: Int? {
    switch self {
    case .uint8, .int8, .bool: 1
    case .uint16, .int16: 2
    case .uint32, .int32, .float32: 4
    case .uint64, .int64, .float64: 8
    case .string, .array: nil
    }
  }
}

/// A metadata value of a GGUF file. Texts and arrays are byte ranges of the file, decoded when they are used.
package enum GGUFValue: Sendable {
  case integer(Int)
  /// A float, or an integer above `Int.max`.
  case real(Double)
  case bool(Bool)
  case text(Range<Int>)
  case array(GGUFValueType, count: Int, Range<Int>)
}

/// The metadata of a GGUF file: typed values by key.
///
/// The accessors return `nil` for an absent key, and throw `CheckpointError` with file and key for a value of another
/// kind. Integers and floats of every width are accepted, as converters differ in them.
package struct GGUFMetadata: Sendable {
  /// The path for errors.
  package let file: String
  private let storage: SharedBytes
  private let values: [String: GGUFValue]

  /// - Precondition: The ranges of `values` lie within `storage`, and arrays contain their elements.
  init(_ values: [String: GGUFValue], in storage: SharedBytes, file: String) {
    self.values = values
    self.storage = storage
    self.file = file
  }

  package func contains(_ key: String) -> Bool { values[key] != nil }

  /// The keys, sorted.
  package var keys: [String] { values.keys.sorted() }

  // MARK: - Single values

  package func string(_ key: String) throws(CheckpointError) -> String? {
    switch values[key] {
    case nil: return nil
    case .text(let range): return text(range)
    default: throw mismatch(key, "a text")
    }
  }

  package func bool(_ key: String) throws(CheckpointError) -> Bool? {
    switch values[key] {
    case nil: return nil
    case .bool(let value): return value
    case .integer(0): return false
    case .integer(1): return true
    default: throw mismatch(key, "true or false")
    }
  }

  package func integer(_ key: String) throws(CheckpointError) -> Int? {
    switch values[key] {
    case nil: return nil
    case .integer(let value): return value
    default: throw mismatch(key, "an integer")
    }
  }

  // MARK: - Lists

  package func strings(_ key: String) throws(CheckpointError) -> [String]? {
    guard let value = values[key] else { return nil }
    guard case .array(.string, let count, let bytes) = value else { throw mismatch(key, "a list of texts") }
    var texts: [String] = []
    texts.reserveCapacity(min(count, GGUFReader.reservedCount))
    var offset = bytes.lowerBound
    for _ in 0..<count {
      // Lengths were checked when the file was opened.
      let start = offset + 8
      offset = start + Int(storage.littleEndian(offset, as: UInt64.self))
      texts.append(text(start..<offset))
    }
    return texts
  }

  package func floats(_ key: String) throws(CheckpointError) -> [Float]? {
    guard let value = values[key] else { return nil }
    guard case .array(let type, let count, let bytes) = value, type.byteCount != nil else {
      throw mismatch(key, "a list of numbers")
    }
    return (0..<count).map { index in
      switch element(index, type, bytes) {
      case .real(let value): Float(value)
      case .integer(let value): Float(value)
      default: 0
      }
    }
  }

  package func integers(_ key: String) throws(CheckpointError) -> [Int]? {
    guard let value = values[key] else { return nil }
    guard case .array(let type, let count, let bytes) = value else { throw mismatch(key, "a list of integers") }
    var integers: [Int] = []
    integers.reserveCapacity(min(count, GGUFReader.reservedCount))
    for index in 0..<count {
      guard case .integer(let value) = element(index, type, bytes) else { throw mismatch(key, "a list of integers") }
      integers.append(value)
    }
    return integers
  }

  /// The number of elements of a list; `nil` if the key is absent or has a single value.
  package func count(_ key: String) -> Int? {
    guard case .array(_, let count, _) = values[key] else { return nil }
    return count
  }

  // MARK: - Sections

  /// The keys below a dotted prefix, for reading with range checks; lists of texts and long lists are left out.
  func section(_ prefix: String) -> ConfigurationSection {
    var members: [JSONValue.Member] = []
    for (key, value) in values where key.hasPrefix(prefix) {
      members.append(JSONValue.Member(key: String(key.dropFirst(prefix.count)), value: json(value)))
    }
    return ConfigurationSection(file: file, prefix: prefix, members)
  }

  /// The longest list of a section; those of the tokenizer are longer and read on their own.
  private static let maxSectionList = 4096

  private func json(_ value: GGUFValue) -> JSONValue {
    switch value {
    case .integer(let value): .integer(value)
    case .real(let value): .number(value)
    case .bool(let value): .bool(value)
    case .text(let range): .string(text(range))
    case .array(let type, let count, let bytes) where count <= Self.maxSectionList && type.byteCount != nil:
      .array((0..<count).compactMap { element($0, type, bytes).map(json) })
    case .array(_, let count, _): .array(Array(repeating: .null, count: min(count, Self.maxSectionList)))
    }
  }

  private func text(_ range: Range<Int>) -> String { String(decoding: storage.copy(range), as: UTF8.self) }

  /// An element of a list of numbers.
  private func element(_ index: Int, _ type: GGUFValueType, _ bytes: Range<Int>) -> GGUFValue? {
    type.byteCount.flatMap { GGUFValue(type, in: storage, at: bytes.lowerBound + index * $0) }
  }

  private func mismatch(_ key: String, _ expected: String) -> CheckpointError {
    .badValue(file: file, key: key, expected: expected, found: values[key].map { json($0).excerpt } ?? "nothing")
  }
}

extension GGUFValue {
  /// A value of a fixed size; `nil` for texts and arrays.
  ///
  /// - Precondition: The value lies within `storage`.
  init?(_ type: GGUFValueType, in storage: SharedBytes, at offset: Int) {
    func integer<Value: FixedWidthInteger>(_ type: Value.Type) -> GGUFValue {
      let value: Value = storage.littleEndian(offset)
      return Int(exactly: value).map(GGUFValue.integer) ?? .real(Double(value))
    }
    switch type {
    case .uint8: self = integer(UInt8.self)
    case .int8: self = integer(Int8.self)
    case .uint16: self = integer(UInt16.self)
    case .int16: self = integer(Int16.self)
    case .uint32: self = integer(UInt32.self)
    case .int32: self = integer(Int32.self)
    case .uint64: self = integer(UInt64.self)
    case .int64: self = integer(Int64.self)
    case .float32: self = .real(Double(Float(bitPattern: storage.littleEndian(offset))))
    case .float64: self = .real(Double(bitPattern: storage.littleEndian(offset)))
    case .bool: self = .bool(storage[offset] != 0)
    case .string, .array: return nil
    }
  }
}
