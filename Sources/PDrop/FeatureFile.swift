import Foundation
import Kernels
import ModelFormats
package import Storage

/// The features of an image in a file of the feature cache.
///
/// The format is safetensors: `features` `[V, D]` in `F32`, as the projector computes them, so that they are restored
/// bit for bit; then the file's `TensorChecksums`. The metadata are the version, the key of image and model, the
/// padding tokens and the cost of encoding.
package struct FeatureFile: Sendable, Equatable {
  /// Version of the layout; increased with every change to it.
  static let version = "pdrop-features 2"
  private static let featuresName = "features"
  private static let alignment = 64
  /// More operations than any vision encoder needs for an image; sums of such numbers do not overflow.
  private static let maxFlops = 1 << 46
  /// Maximum number of bytes in addition to the features.
  private static let overhead = 1 << 14

  private enum Field {
    static let version = "version"
    static let key = "key"
    static let padding = "padding_tokens"
    static let encodeFlops = "flops_encode"
    static let projectFlops = "flops_project"
  }

  /// `[V, D]`.
  package let features: [Float]
  /// Columns of the features, `D`.
  package let columns: Int
  /// Indices of the tokens that show only padding, ascending.
  package let paddingTokens: [Int]
  /// Operations of the vision encoder.
  package let encodeFlops: Int
  /// Operations of the projector.
  package let projectFlops: Int

  /// - Precondition: The number of features is a multiple of `columns`.
  package init(_ features: [Float], columns: Int, paddingTokens: [Int], encodeFlops: Int, projectFlops: Int) {
    precondition(
      features.count.isMultiple(of: columns), "FeatureFile: \(features.count) features of \(columns) columns")
    self.features = features
    self.columns = columns
    self.paddingTokens = paddingTokens
    self.encodeFlops = encodeFlops
    self.projectFlops = projectFlops
  }

  /// Maximum number of bytes of a file with the given number of feature values.
  package static func byteCount(features: Int) -> Int {
    features * ElementType.f32.byteCount + overhead
  }

  // MARK: - Reading

  /// The reason why a feature file cannot be used.
  package enum ReadError: UserFacingError, Equatable {
    case missing
    case unusable(String)

    package var category: ErrorCategory { .resource }
    package var problem: String {
      switch self {
      case .missing: "there is none"
      case .unusable(let reason): reason
      }
    }
  }

  /// Reads a file and checks all of it.
  ///
  /// - Parameters:
  ///   - key: The key of image and model.
  ///   - columns: `D` of the model.
  ///   - tokenCounts: Smallest and largest number of tokens of an image.
  package init(_ path: String, key: String, columns: Int, tokenCounts: ClosedRange<Int>) throws(ReadError) {
    let file = try Self.opened(path, limit: Self.byteCount(features: tokenCounts.upperBound * columns))
    guard file.metadata[Field.version] == Self.version else { throw .unusable("\(path): it has another version") }
    guard file.metadata[Field.key] == key else { throw .unusable("\(path): it is the file of another image or model") }
    guard let parts = TensorChecksums.pieces(of: file) else { throw .unusable("\(path): it has no checksums") }
    if let wrong = parts.first(where: { file.storage.checksum($0.bytes) != $0.checksum }) {
      throw .unusable("\(path): the checksum of \(wrong.name) is wrong")
    }
    guard let info = file.records[Self.featuresName], info.elementName == ElementType.f32.rawValue,
      info.shape.count == 2, tokenCounts.contains(info.shape[0]), info.shape[1] == columns,
      let features = try? file.tensor(Self.featuresName).floats()
    else { throw .unusable("\(path): its features are not \(tokenCounts) rows of \(columns) floats") }
    guard let padding = file.metadata[Field.padding].flatMap({ TokenRuns($0, of: info.shape[0]) }) else {
      throw .unusable("\(path): its list of padding tokens is missing or damaged")
    }
    guard let encode = Self.flops(file.metadata[Field.encodeFlops]),
      let project = Self.flops(file.metadata[Field.projectFlops])
    else { throw .unusable("\(path): its cost of encoding is missing or damaged") }
    self.init(
      features, columns: columns, paddingTokens: padding.tokens, encodeFlops: encode, projectFlops: project)
  }

  private static func opened(_ path: String, limit: Int) throws(ReadError) -> SafetensorsFile {
    let bytes: SharedBytes
    do { bytes = try SharedBytes(reading: path, limit: limit) } catch .notFound { throw .missing } catch {
      throw .unusable("\(error)")
    }
    do { return try SafetensorsFile(bytes, path: path) } catch { throw .unusable("\(error)") }
  }

  private static func flops(_ text: String?) -> Int? {
    guard let text, let flops = Int(text), (0...maxFlops).contains(flops) else { return nil }
    return flops
  }

  // MARK: - Writing

  /// Writes the file atomically.
  ///
  /// - Returns: Bytes written; `nil` if another process is writing the file.
  /// - Throws: `FileError` when it cannot be written.
  package func write(to path: String, key: String) throws(FileError) -> Int? {
    guard var file = try AtomicFile(path) else { return nil }
    var header = SafetensorsHeader(metadata: [
      Field.version: Self.version, Field.key: key, Field.padding: TokenRuns(paddingTokens).text,
      Field.encodeFlops: "\(encodeFlops)", Field.projectFlops: "\(projectFlops)",
    ])
    let bytes = Tensor(features, shape: [features.count / columns, columns]).storedBytes
    header.add(
      Self.featuresName, ElementType.f32.rawValue, [features.count / columns, columns], byteCount: bytes.count)
    let parts = try TensorChecksums.file(
      header, [bytes], alignment: Self.alignment, path: path, Workers(count: 1))
    for part in parts { try file.write(part) }
    try file.finish(modified: nil, isDurable: false)
    return parts.reduce(0) { $0 + $1.count }
  }
}

/// A cache folder with a maximum size, from which the least recently used files are removed.
///
/// Several processes may share it. Each scans the folder only from time to time, so every process may exceed the limit
/// by a twentieth. Only files with the cache's own names are counted or removed.
package struct CappedFolder: Sendable {
  package let path: String
  private let byteLimit: Int
  private let isOurs: @Sendable (String) -> Bool
  /// Bytes of our files: those of the last scan and those written since; `nil` before the first scan.
  private var byteCount: Int?
  private var byteCountSinceScan = 0

  /// Age in nanoseconds after which a partial file counts as left by a killed process.
  private static let maxWriteDuration = 3600 * 1_000_000_000

  /// - Parameter isOurs: Whether a file name belongs to the cache.
  package init(_ path: String, byteLimit: Int, isOurs: @escaping @Sendable (String) -> Bool) {
    self.path = path
    self.byteLimit = byteLimit
    self.isOurs = isOurs
  }

  /// Creates the folder if it does not exist.
  package func make() throws(FileError) {
    do { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) } catch {
      throw .unwritable(path: path, reason: "the folder does not exist and cannot be created")
    }
  }

  /// Reserves bytes for a file, and removes the least recently used files until it fits.
  ///
  /// - Returns: Number of files removed.
  /// - Throws: `FileError` if the file does not fit even after removing others.
  package mutating func ensureCapacity(for bytes: Int) throws(FileError) -> Int {
    guard bytes <= byteLimit else {
      throw .unwritable(path: path, reason: "a file of \(bytes) bytes exceeds the limit of \(byteLimit)")
    }
    var removed = 0
    if byteCount.map({ $0 + bytes > byteLimit }) ?? true || byteCountSinceScan > byteLimit / 20 {
      let files = files()
      var present = files.reduce(0) { $0 + $1.byteCount }
      if present + bytes > byteLimit {
        // A tenth more than necessary, so that the next file needs no scan.
        let goal = max(0, byteLimit - byteLimit / 10 - bytes)
        for file in files {
          guard present > goal else { break }
          guard file.remove() else { continue }
          removed += 1
          present -= file.byteCount
        }
        guard present + bytes <= byteLimit else {
          throw .unwritable(path: path, reason: "its files cannot be removed to free space")
        }
      }
      (byteCount, byteCountSinceScan) = (present, 0)
    }
    byteCount = (byteCount ?? 0) + bytes
    byteCountSinceScan += bytes
    return removed
  }

  /// Our files, the most recently used ones last, without those that are being written.
  private func files() -> [FolderEntry] {
    let now = Int(Date().timeIntervalSince1970 * 1e9)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    let files = names.compactMap { name -> FolderEntry? in
      let partial = AtomicFile.finalName(ofPartial: name)
      guard isOurs(partial ?? name), let file = FolderEntry(path + "/" + name) else { return nil }
      return partial != nil && now - file.modificationTime < Self.maxWriteDuration ? nil : file
    }
    return files.sorted { ($0.modificationTime, $0.path) < ($1.modificationTime, $1.path) }
  }
}

/// Ascending token indices as a text of runs such as `0+24,552+24`, each a first index and a count.
struct TokenRuns: Equatable {
  let tokens: [Int]

  init(_ tokens: [Int]) { self.tokens = tokens }

  /// - Parameter count: Number of all tokens; each index occurs at most once.
  /// - Returns: `nil` for any other text.
  init?(_ text: String, of count: Int) {
    var tokens: [Int] = []
    for run in text.split(separator: ",", omittingEmptySubsequences: false) where !text.isEmpty {
      let parts = run.split(separator: "+", omittingEmptySubsequences: false).map { Int($0) }
      guard parts.count == 2, let first = parts[0], let length = parts[1], first > tokens.last ?? -1, first < count,
        length >= 1, length <= count - first
      else { return nil }
      tokens += first..<first + length
    }
    self.tokens = tokens
  }

  var text: String {
    var runs: [Range<Int>] = []
    for token in tokens {
      if let last = runs.last, last.upperBound == token {
        runs[runs.count - 1] = last.lowerBound..<token + 1
      } else {
        runs.append(token..<token + 1)
      }
    }
    return runs.map { "\($0.lowerBound)+\($0.count)" }.joined(separator: ",")
  }
}
