internal import Kernels

#if canImport(FoundationEssentials)
  internal import FoundationEssentials
#else
  internal import Foundation
#endif

extension WeightsCacheFile {
  /// Writes weights to a file, which takes its place when it is whole.
  ///
  /// - Parameters:
  ///   - weights: Converted ones, by name.
  ///   - key: Of the content of the model's files.
  ///   - workers: Compute checksums in parallel.
  /// - Returns: Bytes written; `nil` where another process is writing the file.
  /// - Throws: `FileError` when it cannot be written.
  static func write(
    _ weights: [(name: String, weight: Linear.Weight)], key: String, to path: String, workers: Workers
  ) throws(FileError) -> Int? {
    guard var file = try FileReplacement(path) else { return nil }
    // A whole second that has passed: a file system that counts in seconds will not give it to a later change.
    let written = Int(Date().timeIntervalSince1970) - 1
    var layout = Layout(metadata: [Field.version: version, Field.key: key, Field.written: "\(written)"])
    for (name, weight) in weights { layout.add(name, weight) }
    let parts = try layout.parts(file: path, workers)
    for part in parts { try file.write(part) }
    try file.finish(modified: written)
    return parts.reduce(0) { $0 + $1.count }
  }

  /// The tensors of a file, in order.
  private struct Layout {
    private var header: SafetensorsHeader
    private var tensors: [SharedBytes] = []

    init(metadata: [String: String]) { header = SafetensorsHeader(metadata: metadata) }

    mutating func add(_ name: String, _ weight: Linear.Weight) {
      switch weight {
      case .widened: preconditionFailure("'\(name)' is not converted")
      case .brain(let tensor): add(name, "BF16", [tensor.rows, tensor.columns], tensor.storedBytes)
      case .whole(let weights):
        add(name, "I8", [weights.outputs, weights.inputs], weights.numbers)
        add(name + ".scales", "F32", [weights.outputs], weights.scales)
        add(name + ".sums", "I32", [weights.outputs], weights.sums)
      }
    }

    /// A tensor, and what fills up to the place of the next.
    private mutating func add(_ name: String, _ element: String, _ shape: [Int], _ bytes: SharedBytes) {
      header.add(name, element, shape, byteCount: bytes.count)
      tensors.append(bytes)
      let rest = bytes.count % alignment
      guard rest > 0 else { return }
      let padding = [UInt8](repeating: 0, count: alignment - rest)
      header.add("padding.\(tensors.count)", paddingElement, [padding.count], byteCount: padding.count)
      tensors.append(SharedBytes(copying: padding))
    }

    /// The bytes of the whole file.
    func parts(file: String, _ workers: Workers) throws(FileError) -> [SharedBytes] {
      try TensorChecksums.file(header, tensors, alignment: alignment, path: file, workers)
    }
  }
}
