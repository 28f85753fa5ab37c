package import Kernels
import Storage

/// A writer of GGUF files: metadata and tensor infos first, then the tensors one by one, so that a large file needs
/// little memory.
///
/// Source: ggml's description of the format, version 3.
package struct GGUFWriter {
  /// A metadata value.
  package enum Value: Sendable, Equatable {
    case integer(UInt32)
    case real(Float)
    case bool(Bool)
    case text(String)
    case integers([Int32])
    case reals([Float])
    case texts([String])
  }

  private struct Entry {
    var name: String
    var type: StoredType
    var shape: [Int]

    var byteCount: Int { type.byteCount(shape.reduce(1, *)) }
  }

  private static let alignment = 32

  private var metadata: [(key: String, value: Value)] = []
  private var tensors: [Entry] = []

  package init() {}

  /// Appends a metadata value.
  ///
  /// - Precondition: The key has no value yet.
  package mutating func set(_ key: String, _ value: Value) {
    precondition(!metadata.contains { $0.key == key }, "GGUFWriter: \(key) occurs twice")
    metadata.append((key, value))
  }

  /// Appends a tensor, whose values follow in `write`.
  ///
  /// - Precondition: A row is whole blocks of the type, and no size is zero.
  package mutating func add(_ name: String, _ type: StoredType, shape: [Int]) {
    precondition(
      (1...4).contains(shape.count) && shape.allSatisfy { $0 > 0 }
        && (shape.last ?? 0).isMultiple(of: type.valuesPerBlock), "GGUFWriter: \(name) \(type.name) \(shape)")
    tensors.append(Entry(name: name, type: type, shape: shape))
  }

  /// The size of the file.
  package var byteCount: Int { tensors.reduce(header().count) { $0 + Self.padded($1.byteCount) } }

  /// Writes the file; an existing one is replaced when the new one is complete.
  ///
  /// - Parameter tensor: Called for each tensor in the order of `add`; its result has that type and shape.
  /// - Throws: `CheckpointError` of the closure, or `.file`.
  package func write(
    to path: String, _ tensor: (_ name: String) throws(CheckpointError) -> Tensor
  ) throws(CheckpointError) {
    do {
      guard var file = try AtomicFile(path) else {
        throw FileError.unwritable(path: path, reason: "another process is writing it")
      }
      try file.write(SharedBytes(copying: header()))
      for entry in tensors {
        let tensor = try tensor(entry.name)
        precondition(
          tensor.type == entry.type && tensor.shape == entry.shape,
          "GGUFWriter: \(entry.name) is \(tensor.type.name) \(tensor.shape), not \(entry.type.name) \(entry.shape)")
        try file.write(tensor.storedBytes)
        let padding = Self.padded(entry.byteCount) - entry.byteCount
        try file.write(SharedBytes(copying: [UInt8](repeating: 0, count: padding)))
      }
      try file.finish(modified: nil)
    } catch let error as CheckpointError {
      throw error
    } catch let error as FileError {
      throw .file(error)
    } catch {
      preconditionFailure("GGUFWriter: \(error)")
    }
  }

  // MARK: - Bytes

  /// The file up to the first tensor.
  private func header() -> [UInt8] {
    var bytes = GGUFReader.magic
    bytes.append(little: UInt32(3))
    bytes.append(little: UInt64(tensors.count))
    bytes.append(little: UInt64(metadata.count))
    for (key, value) in metadata {
      bytes.append(text: key)
      bytes.append(value)
    }
    var offset = 0
    for tensor in tensors {
      bytes.append(text: tensor.name)
      bytes.append(little: UInt32(tensor.shape.count))
      for size in tensor.shape.reversed() { bytes.append(little: UInt64(size)) }
      bytes.append(little: GGUFTensorType(tensor.type).number)
      bytes.append(little: UInt64(offset))
      offset += Self.padded(tensor.byteCount)
    }
    return bytes + [UInt8](repeating: 0, count: Self.padded(bytes.count) - bytes.count)
  }

  private static func padded(_ count: Int) -> Int { (count + alignment - 1) / alignment * alignment }
}

extension [UInt8] {
  fileprivate mutating func append(little value: some FixedWidthInteger & UnsignedInteger) {
    for shift in stride(from: 0, to: value.bitWidth, by: 8) { append(UInt8(truncatingIfNeeded: value >> shift)) }
  }

  fileprivate mutating func append(text: String) {
    append(little: UInt64(text.utf8.count))
    append(contentsOf: text.utf8)
  }

  /// The type of a value and the value.
  fileprivate mutating func append(_ value: GGUFWriter.Value) {
    func list(_ type: GGUFValueType, _ count: Int) {
      append(little: GGUFValueType.array.rawValue)
      append(little: type.rawValue)
      append(little: UInt64(count))
    }
    switch value {
    case .integer(let value):
      append(little: GGUFValueType.uint32.rawValue)
      append(little: value)
    case .real(let value):
      append(little: GGUFValueType.float32.rawValue)
      append(little: value.bitPattern)
    case .bool(let value):
      append(little: GGUFValueType.bool.rawValue)
      append(value ? 1 : 0)
    case .text(let value):
      append(little: GGUFValueType.string.rawValue)
      append(text: value)
    case .integers(let values):
      list(.int32, values.count)
      for value in values { append(little: UInt32(bitPattern: value)) }
    case .reals(let values):
      list(.float32, values.count)
      for value in values { append(little: value.bitPattern) }
    case .texts(let values):
      list(.string, values.count)
      for value in values { append(text: value) }
    }
  }
}
