import Foundation
package import Kernels
package import Storage

/// Converted weights of a model, kept in a file from one start of the program to the next.
///
/// A folder has one file for each model directory and choice of arithmetic, named after both. Where the file is there and fits,
/// weights are mapped from it; where not, they are converted as without a cache, and the file is made anew. Answers do not
/// depend on which. Nothing that is wrong with the file or its folder is an error: the outcome tells.
package final class WeightsCache {
  /// What became of the cache while a model was loaded.
  package enum Outcome: Equatable, Sendable {
    /// All weights are used as they are stored.
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
  /// Why weights had to be converted; `nil` as long as none had to.
  private var fault: WeightsCacheError?

  /// - Parameters:
  ///   - directory: Where the files are kept; made when there is something to keep.
  ///   - sources: The checkpoints that the weights come from, the model's own first.
  ///   - arithmetic: What the file is for, as a part of its name.
  ///   - workers: Compute checksums in parallel.
  package init(directory: String, sources: [Checkpoint], computeType: String, workers: Workers) {
    let places = sources.map { URL(filePath: $0.directory).standardizedFileURL.resolvingSymlinksInPath().path }
    let model = URL(filePath: places.first ?? "").lastPathComponent.unicodeScalars.prefix(40)
    let name = "\(String(model))-\(computeType)-\(SharedBytes.checksum(of: places.joined(separator: "\n"))).safetensors"
    self.directory = directory
    self.path = directory + "/" + name
    self.sources = sources
    self.workers = workers
  }

  /// A layer over its weight from the file, or converted for it.
  func converted(_ stored: Linear, named name: String, to computeType: ComputeType) -> Linear {
    let converted: Linear
    if let kept = kept(name, for: computeType, like: stored) {
      converted = stored.with(kept)
    } else {
      converted = stored.converted(to: computeType, workers: workers)
    }
    weights.append((name, converted.weight))
    return converted
  }

  private func kept(_ name: String, for computeType: ComputeType, like stored: Linear) -> Linear.Weight? {
    do throws(WeightsCacheError) {
      let file = try file.get()
      if let weight = file.weight(name, for: computeType, outputs: stored.outputSize, inputs: stored.inputSize) {
        return weight
      }
      fault = .damaged("it has no '\(name)' in \(computeType.rawValue)")
    } catch {
      fault = error
    }
    return nil
  }

  /// Writes the file if weights had to be converted; to be called when all are loaded.
  package func finish() -> Outcome {
    guard !weights.isEmpty else { return .notNeeded }
    guard let fault else { return .used(file: path, byteCount: (try? file.get().byteCount) ?? 0) }
    do throws(FileError) {
      do { try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true) } catch {
        throw .unwritable(path: directory, reason: "no folder, and none can be made there")
      }
      guard let count = try WeightsCacheFile.write(weights, key: key, to: path, workers: workers) else {
        return .leftToAnother(file: path)
      }
      return .written(file: path, byteCount: count, because: fault)
    } catch {
      return .failed(error)
    }
  }
}

extension WeightsCache.Outcome: CustomStringConvertible {
  package var description: String {
    switch self {
    case .notNeeded: "not needed, all weights are used as they are stored"
    case .used(let file, let bytes): "used \(file), \(bytes / 1_000_000) MB"
    case .written(let file, let bytes, let fault): "wrote \(file), \(bytes / 1_000_000) MB, as \(fault)"
    case .leftToAnother(let file): "another process is writing \(file)"
    case .failed(let error): "\(error); going on without"
    }
  }
}

/// Why a file of converted weights is not what a model needs.
package enum WeightsCacheError: UserFacingError, Equatable {
  case missing
  case otherVersion
  case otherWeights
  case damaged(String)

  package var category: ErrorCategory { .model }
  package var problem: String {
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
/// multiples of 64 bytes, with tensors named `padding.…` in `U8` between them where that takes some. After them are their
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
  package init(_ path: String, key: String, workers: Workers) throws(WeightsCacheError) {
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
    }
  }

  private func bytes(_ name: String, _ element: String, _ shape: [Int]) -> SharedBytes? {
    guard let record = file.records[name], record.elementName == element, record.shape == shape else { return nil }
    return file.storage.part(record.bytes)
  }

  /// Compares checksums: of everything, or of what is small if the file is as its writer left it.
  private func check(_ workers: Workers) throws(WeightsCacheError) {
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
    let found = workers.map(tasks: checked.count) { file.storage.checksum(pieces[checked[$0]].bytes) }
    for (index, checksum) in zip(checked, found) where checksum != pieces[index].checksum {
      throw .damaged("the checksum of \(pieces[index].name) is wrong")
    }
  }
}

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
      case .native: preconditionFailure("'\(name)' is not converted")
      case .bf16(let tensor): add(name, "BF16", [tensor.rows, tensor.columns], tensor.storedBytes)
      case .int8(let weights):
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

extension Checkpoint {
  /// A checksum that tells whether weights converted from these files are still theirs.
  ///
  /// It covers every tensor's name, type, shape and place, and of its bytes the first, the middle and the last 4 KiB; and
  /// every file's size and modification time. So it changes whenever a file is written to, replaced or downloaded anew, and
  /// for another fine-tuning of the same model even where sizes and times agree. It does not read all bytes, which for 14 GB
  /// would take longer than the rest of the start: a file edited in between the samples whose time has been set back goes
  /// unnoticed.
  var contentKey: String {
    var lines: [String] = []
    for (name, entry) in tensors.sorted(by: { $0.key < $1.key }) {
      guard let record = entry.file.records[entry.storedName] else { continue }
      let samples = Self.samples(of: record.bytes).map { entry.file.storage.checksum($0) }
      let storage = entry.file.storage
      lines.append(
        "\(name) \(record.elementName) \(record.shape) \(record.strides ?? []) \(record.bytes) \(samples) "
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
  /// A checksum that tells whether an image's features still are what this model sees: of the weights as above, its vision encoder's
  /// included, and of the files that say how images are prepared and how the vision encoder computes.
  package var contentKey: String {
    let directories = [path] + (visionTower.directory.map { [$0] } ?? [])
    let settings = directories.flatMap { directory in
      ["config.json", "preprocessor_config.json", "processor_config.json"].map { name in
        (try? SharedBytes(mapping: directory + "/" + name)).map { "\(name) \($0.count) \($0.checksum)" } ?? "no \(name)"
      }
    }
    let weights = [checkpoint.contentKey] + (visionTower.checkpoint.map { [$0.contentKey] } ?? [])
    return SharedBytes.checksum(of: (weights + settings).joined(separator: "\n"))
  }
}

extension SharedBytes {
  /// The checksum of a text in UTF-8, as 16 hexadecimal digits.
  package static func checksum(of text: String) -> String {
    let digits = String(SharedBytes(copying: Array(text.utf8)).checksum, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}
