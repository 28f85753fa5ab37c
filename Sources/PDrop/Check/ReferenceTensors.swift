internal import Foundation
internal import Kernels
internal import ModelFormats

/// The tensors of a reference's file, each in the type and of the shape that the format gives it.
struct ReferenceTensors {
  private let file: SafetensorsFile

  init(_ path: String) throws(ReferenceError) {
    do { file = try SafetensorsFile(path) } catch { throw .file(error) }
  }

  /// The tensors of a file that need not exist.
  init?(ifPresent path: String) throws(ReferenceError) {
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    try self.init(path)
  }

  /// The values of an `F32` tensor; `nil` when the reference does not store it.
  ///
  /// - Parameter shape: The size of each axis, 0 where any will do.
  func floats(_ name: String, _ shape: [Int]) throws(ReferenceError) -> [Float]? {
    guard try has(name, "F32", shape) else { return nil }
    do { return try file.tensor(name).floats() } catch { throw .file(error) }
  }

  /// The values of an `I32` tensor; `nil` when the reference does not store it.
  func integers(_ name: String, _ shape: [Int]) throws(ReferenceError) -> [Int]? {
    guard try has(name, "I32", shape) else { return nil }
    let bytes = try stored(name)
    return stride(from: 0, to: bytes.count, by: 4).map { i in
      let word = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[i + $1]) << (8 * UInt32($1)) }
      return Int(Int32(bitPattern: word))
    }
  }

  /// The values of a `U8` tensor; `nil` when the reference does not store it.
  func bytes(_ name: String, _ shape: [Int]) throws(ReferenceError) -> [UInt8]? {
    try has(name, "U8", shape) ? stored(name) : nil
  }

  /// How many axes a tensor has; 0 when the reference does not store it.
  func rank(_ name: String) -> Int { file.records[name]?.shape.count ?? 0 }

  private func stored(_ name: String) throws(ReferenceError) -> [UInt8] {
    do { return try file.bytes(name) } catch { throw .file(error) }
  }

  private func has(_ name: String, _ element: String, _ shape: [Int]) throws(ReferenceError) -> Bool {
    guard let record = file.records[name] else { return false }
    let fits = record.shape.count == shape.count && zip(record.shape, shape).allSatisfy { $1 == 0 || $0 == $1 }
    guard fits, record.elementName == element else {
      let sizes = shape.map { $0 == 0 ? "any" : "\($0)" }.joined(separator: ", ")
      throw .badTensor(
        file: file.path, name: name, expected: "\(element) [\(sizes)]", found: "\(record.elementName) \(record.shape)")
    }
    return true
  }
}
