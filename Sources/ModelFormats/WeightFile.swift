package import Kernels

/// A mapped file of named tensors, whose every offset, shape and type has been checked.
package protocol WeightFile: Sendable {
  var path: String { get }
  var records: [String: WeightRecord] { get }
  /// The file's bytes, which the records' ranges count in.
  var storage: SharedBytes { get }

  /// - Throws: `CheckpointError` naming the file and what is wrong with it.
  init(_ path: String) throws(CheckpointError)
}

/// Where a tensor lies: its type's name, shape and byte range in the file.
package struct WeightRecord: Sendable, Equatable {
  /// The type as safetensors names it, such as `BF16`.
  package let elementName: String
  package let shape: [Int]
  package let bytes: Range<Int>
  /// Steps between elements, in elements, of a tensor that does not lie row after row; `bytes` is then all it may touch.
  package var strides: [Int]?

  /// Bits of a tensor, or nil where there is no such shape.
  static func bitCount(shape: [Int], width: Int) -> Int? {
    var bits = width
    for size in shape {
      // An empty axis does not excuse the others: whoever multiplies some of them must not overflow.
      let (product, overflow) = bits.multipliedReportingOverflow(by: max(size, 1))
      guard size >= 0, !overflow else { return nil }
      bits = product
    }
    return shape.contains(0) ? 0 : bits
  }
}

extension WeightFile {
  /// A tensor of floats by its stored name.
  package func tensor(_ name: String) throws(CheckpointError) -> Tensor {
    guard let record = records[name] else { throw .missingTensor(name: name, directory: path) }
    guard let element = ElementType(rawValue: record.elementName) else {
      throw .unsupportedElement(name: name, found: record.elementName, file: path)
    }
    if let strides = record.strides {
      throw .stridedTensor(name: name, shape: record.shape, strides: strides, file: path)
    }
    return Tensor(storage, offset: record.bytes.lowerBound, shape: record.shape, element: element)
  }
}
