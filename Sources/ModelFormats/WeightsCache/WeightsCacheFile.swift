package import Kernels

/// Why a file of converted weights is not what a model needs.
package enum WeightsCacheFault: Error, Equatable, CustomStringConvertible {
  case missing
  case otherVersion
  case otherWeights
  case damaged(String)

  package var description: String {
    switch self {
    case .missing: "there was none"
    case .otherVersion: "it was of another version"
    case .otherWeights: "the model's weights have changed"
    case .damaged(let what): "it was damaged: \(what)"
    }
  }
}

/// A mapped file of a model's converted weights.
///
/// A safetensors file. A weight in int8 is three tensors: its name `[outputs, inputs]` in `I8`, the name with `.scales` added
/// `[outputs]` in `F32`, and with `.sums` `[outputs]` in `I32`; a weight in bf16 is one `[outputs, inputs]`. They begin at
/// multiples of 64 bytes, with tensors named `padding.…` in `U8` between them where that takes some. Behind them are their
/// `TensorChecksums`.
///
/// What is checked, before any of it is used:
/// - Always: sizes and offsets, as of every safetensors file; the version; the key of the model's content; the checksum of
///   the header, and of every tensor of less than a mebibyte. A weight's types and shapes as it is asked for.
/// - When somebody has written to the file since, or it is a copy: the checksums of all tensors. Whether so is told by its
///   modification time, which the writer sets to what the header says. To read all of it at every start would take longer
///   than everything else; so a bit that a disk turns over in a large weight goes unnoticed, as it does in a checkpoint.
package struct WeightsCacheFile {
  /// To be raised whenever the same weights would be laid out otherwise; how they are quantised has a version of its own.
  static let version = "pdrop-weights 1; " + Int8Weights.scheme
  static let alignment = 64
  static let paddingElement = "U8"
  /// Smaller tensors are always checked.
  private static let smallByteCount = 1 << 20

  /// The metadata of the file.
  enum Field {
    static let version = "version"
    static let key = "key"
    /// The modification time that the writer gives the file, in seconds since 1970.
    static let written = "written"
  }

  private let file: SafetensorsFile

  /// Opens and checks a file.
  ///
  /// - Parameters:
  ///   - key: Of the content of the model's files.
  ///   - workers: Compute checksums in parallel.
  package init(_ path: String, key: String, workers: Workers) throws(WeightsCacheFault) {
    do { file = try SafetensorsFile(path) } catch .file(.notFound) { throw .missing } catch {
      throw .damaged("\(error)")
    }
    guard file.metadata[Field.version] == Self.version else { throw .otherVersion }
    guard file.metadata[Field.key] == key else { throw .otherWeights }
    try check(workers)
  }

  package var byteCount: Int { file.storage.count }

  /// A weight in the form for an arithmetic; `nil` where the file has none of this form and these sizes.
  ///
  /// - Parameter inputs: At most `Int8Weights.largestInputCount` for int8.
  package func weight(_ name: String, for arithmetic: Arithmetic, outputs: Int, inputs: Int) -> Linear.Weight? {
    switch arithmetic {
    case .f32: return nil
    case .bf16:
      guard let numbers = bytes(name, "BF16", [outputs, inputs]) else { return nil }
      return .brain(Tensor(numbers, shape: [outputs, inputs], element: .bf16))
    case .int8:
      guard let numbers = bytes(name, "I8", [outputs, inputs]), let scales = bytes(name + ".scales", "F32", [outputs]),
        let sums = bytes(name + ".sums", "I32", [outputs])
      else { return nil }
      return .whole(Int8Weights(outputs: outputs, inputs: inputs, numbers: numbers, scales: scales, sums: sums))
    }
  }

  private func bytes(_ name: String, _ element: String, _ shape: [Int]) -> SharedBytes? {
    guard let record = file.records[name], record.elementName == element, record.shape == shape else { return nil }
    return file.storage.part(record.bytes)
  }

  /// Compares checksums: of everything, or of what is small if the file is as its writer left it.
  private func check(_ workers: Workers) throws(WeightsCacheFault) {
    let weights = file.records.values.filter { $0.elementName != Self.paddingElement }
    guard weights.allSatisfy({ $0.bytes.lowerBound.isMultiple(of: Self.alignment) }) else {
      throw .damaged("its tensors are not aligned")
    }
    guard let pieces = TensorChecksums.pieces(of: file) else { throw .damaged("it has no checksums") }
    let isUntouched = file.storage.modificationTime.map { time in
      file.metadata[Field.written] == String(time / 1_000_000_000) && time.isMultiple(of: 1_000_000_000)
    }
    let checked = pieces.indices.filter {
      $0 == 0 || isUntouched != true || pieces[$0].bytes.count < Self.smallByteCount
    }
    let found = SharedBytes.checksums(of: checked.map { file.storage.part(pieces[$0].bytes) }, workers: workers)
    for (index, checksum) in zip(checked, found) where checksum != pieces[index].checksum {
      throw .damaged("the checksum of \(pieces[index].name) is wrong")
    }
  }
}
