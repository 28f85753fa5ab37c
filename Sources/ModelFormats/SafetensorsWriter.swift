#if canImport(FoundationEssentials)
  package import FoundationEssentials
#else
  package import Foundation
#endif

/// Writes tensors in the safetensors format.
package struct SafetensorsWriter {
  private struct Entry: Encodable {
    var dtype: String
    var shape: [Int]
    var data_offsets: [Int]
  }

  private var entries: [String: Entry] = [:]
  private var payload = Data()

  package init() {}

  package mutating func add(_ name: String, _ values: [Float], shape: [Int]) {
    add(name, "F32", shape, values.map { $0.bitPattern.littleEndian })
  }

  package mutating func add(_ name: String, _ values: [Int32], shape: [Int]) {
    add(name, "I32", shape, values.map { UInt32(bitPattern: $0).littleEndian })
  }

  package mutating func add(_ name: String, _ values: [UInt8], shape: [Int]) {
    precondition(values.count == shape.reduce(1, *), "\(name): \(values.count) values for \(shape)")
    append(name, "U8", shape, values)
  }

  /// The whole file.
  package func encoded() throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var header = try encoder.encode(entries)
    // The payload begins at a multiple of eight bytes.
    header.append(contentsOf: [UInt8](repeating: UInt8(ascii: " "), count: (8 - header.count % 8) % 8))
    let size = UInt64(header.count)
    return Data((0..<8).map { UInt8(truncatingIfNeeded: size >> (8 * $0)) }) + header + payload
  }

  private mutating func add(_ name: String, _ dtype: String, _ shape: [Int], _ words: [UInt32]) {
    precondition(words.count == shape.reduce(1, *), "\(name): \(words.count) values for \(shape)")
    var bytes: [UInt8] = []
    bytes.reserveCapacity(4 * words.count)
    for word in words {
      for shift in [0, 8, 16, 24] as [UInt32] { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
    }
    append(name, dtype, shape, bytes)
  }

  private mutating func append(_ name: String, _ dtype: String, _ shape: [Int], _ bytes: [UInt8]) {
    let start = payload.count
    payload.append(contentsOf: bytes)
    entries[name] = Entry(dtype: dtype, shape: shape, data_offsets: [start, payload.count])
  }
}
