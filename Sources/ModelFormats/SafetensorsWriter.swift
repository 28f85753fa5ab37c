#if canImport(FoundationEssentials)
  package import FoundationEssentials
#else
  package import Foundation
#endif

/// Writes tensors in the safetensors format.
package struct SafetensorsWriter {
  private var header = SafetensorsHeader()
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
  package func encoded() throws -> Data { Data(try header.encoded()) + payload }

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
    header.add(name, dtype, shape, byteCount: bytes.count)
    payload.append(contentsOf: bytes)
  }
}
