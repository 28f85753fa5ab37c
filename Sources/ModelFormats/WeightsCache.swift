import Foundation
package import Kernels
package import Storage

/// The weights cache: a file of converted weights that is reused by later runs of the program.
///
/// A folder has one file for each model directory and compute type, named after both. If the file is valid, weights are
/// mapped from it. Otherwise they are converted as without a cache, and the file is rebuilt. Answers are the same in
/// both cases. An invalid file or folder is not an error; the outcome describes it.
package final class WeightsCache {
  /// The result of using the cache while a model was loaded.
  package enum Outcome: Equatable, Sendable {
    /// All weights are used as stored.
    case notNeeded
    case used(file: String, byteCount: Int)
    case written(file: String, byteCount: Int, because: WeightsCacheError)
    /// Another process is writing the file.
    case leftToAnother(file: String)
    case failed(FileError)
  }

  private let directory: String
  private let path: String
  private let sources: [Checkpoint]
  private let workers: Workers
  private lazy var key = SharedBytes.checksum(of: sources.map(\.contentKey).joined(separator: "\n"))
  private lazy var file = Result { () throws(WeightsCacheError) in
    try WeightsCacheFile(path, key: key, workers: workers)
  }
  private var weights: [(name: String, weight: Linear.Weight)] = []
  /// The reason for the last conversion of a weight; `nil` without conversions.
  private var rebuildReason: WeightsCacheError?

  /// - Parameters:
  ///   - directory: The folder of the files; created when a file is written.
  ///   - sources: The checkpoints of the weights, the model's own first.
  ///   - computeType: The compute type, as a part of the file name.
  ///   - workers: The threads that compute checksums.
  package init(directory: String, sources: [Checkpoint], computeType: String, workers: Workers) {
    let paths = sources.map { URL(filePath: $0.directory).standardizedFileURL.resolvingSymlinksInPath().path }
    let model = URL(filePath: paths.first ?? "").lastPathComponent.unicodeScalars.prefix(40)
    let name = "\(String(model))-\(computeType)-\(SharedBytes.checksum(of: paths.joined(separator: "\n"))).safetensors"
    self.directory = directory
    self.path = directory + "/" + name
    self.sources = sources
    self.workers = workers
  }

  /// A layer with its weight from the file, or the converted layer.
  func weight(
    of stored: Linear, named name: String, for computeType: ComputeType, orElse convert: () -> Linear
  ) -> Linear {
    let converted = cachedWeight(name, for: computeType, like: stored).map(stored.with) ?? convert()
    weights.append((name, converted.weight))
    return converted
  }

  private func cachedWeight(_ name: String, for computeType: ComputeType, like stored: Linear) -> Linear.Weight? {
    do throws(WeightsCacheError) {
      let file = try file.get()
      if let weight = file.weight(name, for: computeType, outputs: stored.outputSize, inputs: stored.inputSize) {
        return weight
      }
      rebuildReason = .damaged("it has no '\(name)' in \(computeType.rawValue)")
    } catch {
      rebuildReason = error
    }
    return nil
  }

  /// Writes the file if weights were converted; called when all weights are loaded.
  package func finish() -> Outcome {
    guard !weights.isEmpty else { return .notNeeded }
    guard let rebuildReason else { return .used(file: path, byteCount: (try? file.get().byteCount) ?? 0) }
    do throws(FileError) {
      do { try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true) } catch {
        throw .noFolder(at: directory)
      }
      guard let count = try WeightsCacheFile.write(weights, key: key, to: path, workers: workers) else {
        return .leftToAnother(file: path)
      }
      return .written(file: path, byteCount: count, because: rebuildReason)
    } catch {
      return .failed(error)
    }
  }
}

extension WeightsCache.Outcome: CustomStringConvertible {
  package var description: String {
    switch self {
    case .notNeeded: "not needed, all weights are used as stored"
    case .used(let file, let bytes): "used \(file), \(bytes / 1_000_000) MB"
    case .written(let file, let bytes, let reason): "wrote \(file), \(bytes / 1_000_000) MB, because \(reason)"
    case .leftToAnother(let file): "another process is writing \(file)"
    case .failed(let error): "\(error); continuing without the cache"
    }
  }
}

/// The reason why a file of converted weights cannot be used.
package enum WeightsCacheError: UserFacingError, Equatable {
  case missing
  case otherVersion
  case otherWeights
  case damaged(String)

  package var category: ErrorCategory { .model }
  package var problem: String {
    switch self {
    case .missing: "there was no file"
    case .otherVersion: "the file had another version"
    case .otherWeights: "the model's weights have changed"
    case .damaged(let reason): "the file was damaged: \(reason)"
    }
  }
}

/// A memory-mapped safetensors file of a model's converted weights.
///
/// An int8 weight is three tensors: its name, `[outputs, inputs]` in `I8`; the name plus `.scales`, `[outputs]` in
/// `F32`; and the name plus `.sums`, `[outputs]` in `I32`. A bf16 weight is one tensor, `[outputs, inputs]`. A weight of
/// packed blocks is one tensor in `I8`, its name plus type and outputs, such as `.Q4_K.4096`. Tensors begin at multiples
/// of 64 bytes, with `U8` tensors named `padding.…` between them where needed. `TensorChecksums` follow.
///
/// Checks before use:
/// - Always: sizes and offsets, as in every safetensors file; the version; the key of the model's content; the checksum
///   of the header and of every tensor smaller than 1 MiB. The type and shape of a weight when it is read.
/// - If the file was modified or copied since it was written: the checksums of all tensors. A modification is detected
///   by the modification time, which the writer sets to the time in the header. Reading the whole file at every start
///   would take longer than the rest of the start, so a flipped bit in a large weight is not detected, as in a
///   checkpoint.
package struct WeightsCacheFile {
  /// The version of the layout; increment it with every change. The quantization scheme has its own version.
  static let version = "pdrop-weights 2; \(Int8Weights.scheme); \(BlockWeights.scheme)"
  static let alignment = 64
  static let paddingElement = "U8"
  /// The size in bytes below which tensors are always checked.
  private static let alwaysCheckedSize = 1 << 20

  /// The metadata fields of the file.
  enum Field {
    static let version = "version"
    static let key = "key"
    /// The modification time that the writer sets, in seconds since 1970.
    static let written = "written"
  }

  private let file: SafetensorsFile

  /// Opens and checks a file.
  ///
  /// - Parameters:
  ///   - path: The file.
  ///   - key: The content key of the model's files.
  ///   - workers: The threads that compute checksums.
  package init(_ path: String, key: String, workers: Workers) throws(WeightsCacheError) {
    do { file = try SafetensorsFile(path) } catch .file(.notFound) { throw .missing } catch {
      throw .damaged("\(error)")
    }
    guard file.metadata[Field.version] == Self.version else { throw .otherVersion }
    guard file.metadata[Field.key] == key else { throw .otherWeights }
    try check(workers)
  }

  package var byteCount: Int { file.storage.count }

  /// A weight for a compute type; `nil` unless the file has it in the matching type and shape.
  ///
  /// - Parameter inputs: As many as the compute type supports.
  package func weight(_ name: String, for computeType: ComputeType, outputs: Int, inputs: Int) -> Linear.Weight? {
    switch computeType {
    case .f32: return nil
    case .bf16:
      guard let numbers = bytes(name, "BF16", [outputs, inputs]) else { return nil }
      return .bf16(Tensor(numbers, shape: [outputs, inputs], element: .bf16))
    case .int8:
      guard let numbers = bytes(name, "I8", [outputs, inputs]), let scales = bytes(name + ".scales", "F32", [outputs]),
        let sums = bytes(name + ".sums", "I32", [outputs])
      else { return nil }
      return .int8(Int8Weights(outputs: outputs, inputs: inputs, numbers: numbers, scales: scales, sums: sums))
    case .blocks:
      for type in BlockWeights.types where inputs.isMultiple(of: type.valuesPerBlock) {
        let byteCount = BlockWeights.groupByteCount(type, outputs: outputs, inputs: inputs)
        guard let groups = bytes(Self.name(name, type, outputs: outputs), "I8", [byteCount]) else { continue }
        return .blocks(
          BlockWeights(type: type, outputs: outputs, inputs: inputs, groups: groups))
      }
      return nil
    }
  }

  /// The name of packed blocks. It has the outputs, as the bytes of the last group are the same for 1 to 16 rows.
  fileprivate static func name(_ name: String, _ type: BlockType, outputs: Int) -> String {
    "\(name).\(type.rawValue).\(outputs)"
  }

  private func bytes(_ name: String, _ element: String, _ shape: [Int]) -> SharedBytes? {
    guard let info = file.records[name], info.elementName == element, info.shape == shape else { return nil }
    return file.storage.part(info.bytes)
  }

  /// Compares checksums: all of them, or only those of small tensors if the file is unmodified.
  private func check(_ workers: Workers) throws(WeightsCacheError) {
    let weights = file.records.values.filter { $0.elementName != Self.paddingElement }
    guard weights.allSatisfy({ $0.bytes.lowerBound.isMultiple(of: Self.alignment) }) else {
      throw .damaged("its tensors are not aligned")
    }
    guard let pieces = TensorChecksums.pieces(of: file) else { throw .damaged("it has no checksums") }
    let isUnmodified = file.storage.modificationTime.map { time in
      file.metadata[Field.written] == String(time / 1_000_000_000) && time.isMultiple(of: 1_000_000_000)
    }
    let checked = pieces.indices.filter {
      $0 == 0 || isUnmodified != true || pieces[$0].bytes.count < Self.alwaysCheckedSize
    }
    let found = workers.map(tasks: checked.count) { file.storage.checksum(pieces[checked[$0]].bytes) }
    for (index, checksum) in zip(checked, found) where checksum != pieces[index].checksum {
      throw .damaged("the checksum of \(pieces[index].name) is wrong")
    }
  }
}

extension WeightsCacheFile {
  /// Writes weights to a file, which appears at `path` when it is complete.
  ///
  /// - Parameters:
  ///   - weights: The converted weights by name.
  ///   - key: The content key of the model's files.
  ///   - path: The file.
  ///   - workers: The threads that compute checksums.
  /// - Returns: The number of bytes written; `nil` if another process is writing the file.
  /// - Throws: `FileError` if the file cannot be written.
  static func write(
    _ weights: [(name: String, weight: Linear.Weight)], key: String, to path: String, workers: Workers
  ) throws(FileError) -> Int? {
    guard var file = try AtomicFile(path) else { return nil }
    // A full second in the past, so that a later change has another time even if the file system stores whole seconds.
    let written = Int(Date().timeIntervalSince1970) - 1
    var layout = Layout(metadata: [Field.version: version, Field.key: key, Field.written: "\(written)"])
    for (name, weight) in weights { layout.add(name, weight) }
    let parts = try layout.parts(file: path, workers)
    for part in parts { try file.write(part) }
    try file.finish(modified: written)
    return parts.reduce(0) { $0 + $1.count }
  }

  /// The tensors of a file in order.
  private struct Layout {
    private var header: SafetensorsHeader
    private var tensors: [SharedBytes] = []

    init(metadata: [String: String]) { header = SafetensorsHeader(metadata: metadata) }

    mutating func add(_ name: String, _ weight: Linear.Weight) {
      switch weight {
      case .native: preconditionFailure("'\(name)' is not converted")
      case .bf16(let tensor): add(name, "BF16", [tensor.rows, tensor.columns], tensor.storedBytes)
      case .int8(let weights):
        add(name, "I8", [weights.outputs, weights.inputs], weights.numbers)
        add(name + ".scales", "F32", [weights.outputs], weights.scales)
        add(name + ".sums", "I32", [weights.outputs], weights.sums)
      case .blocks(let weights):
        add(
          WeightsCacheFile.name(name, weights.type, outputs: weights.outputs), "I8", [weights.groups.count],
          weights.groups)
      }
    }

    /// Adds a tensor and the padding up to the next one.
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

extension Checkpoint {
  /// A checksum of the content of the weight files, the key of weights converted from them.
  ///
  /// It covers the name, type, shape and offset of every tensor, the first, middle and last 4 KiB of its bytes, and the
  /// size and modification time of every file. It therefore changes when a file is modified, replaced or downloaded
  /// again, and for another fine-tuned model even if sizes and times are equal. It does not read all bytes, which for
  /// 14 GB would take longer than the rest of the start: an edit between the samples with a restored modification time
  /// is not detected.
  package var contentKey: String {
    var lines: [String] = []
    for (name, entry) in tensors.sorted(by: { $0.key < $1.key }) {
      guard let info = entry.file.records[entry.storedName] else { continue }
      let samples = Self.samples(of: info.bytes).map { entry.file.storage.checksum($0) }
      let storage = entry.file.storage
      lines.append(
        "\(name) \(info.elementName) \(info.shape) \(info.strides ?? []) \(info.bytes) \(samples) "
          + "\(storage.count) \(storage.modificationTime ?? 0)")
    }
    return SharedBytes.checksum(of: lines.joined(separator: "\n"))
  }

  private static func samples(of bytes: Range<Int>) -> [Range<Int>] {
    let size = min(4096, bytes.count)
    let starts = [bytes.lowerBound, bytes.lowerBound + (bytes.count - size) / 2, bytes.upperBound - size]
    return starts.map { $0..<$0 + size }
  }
}

extension ModelDirectory {
  /// The key of cached features; it covers the content keys of the weights, vision encoder included, and the
  /// configuration files of preprocessing and vision encoder.
  package var contentKey: String {
    let directories = [path] + (visionDirectory.map { [$0] } ?? [])
    let settings = directories.flatMap { directory in
      ["config.json", "preprocessor_config.json", "processor_config.json"].map { name in
        (try? SharedBytes(mapping: directory + "/" + name)).map { "\(name) \($0.count) \($0.checksum)" } ?? "no \(name)"
      }
    }
    let weights = [checkpoint.contentKey] + (visionCheckpoint.map { [$0.contentKey] } ?? [])
    return SharedBytes.checksum(of: (weights + settings).joined(separator: "\n"))
  }
}

extension SharedBytes {
  /// The checksum of the UTF-8 bytes of a text, as 16 hexadecimal digits.
  package static func checksum(of text: String) -> String {
    let digits = String(SharedBytes(copying: Array(text.utf8)).checksum, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}
