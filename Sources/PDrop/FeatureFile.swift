import Foundation
import Kernels
import ModelFormats
package import Storage

/// What a model has seen of an image, kept in a file.
///
/// A safetensors file: `features` `[tokens, D]` in `F32`, as the projector's sums are, so that they come back bit for bit; then
/// the file's `TensorChecksums`. The metadata have the version, the key of image and model, which tokens show only padding, and
/// what encoding has cost.
package struct FeatureFile: Sendable, Equatable {
  /// To be raised whenever the same features would be laid out otherwise.
  static let version = "pdrop-features 2"
  private static let featuresName = "features"
  private static let alignment = 64
  /// More operations than any vision encoder does for an image; sums of them stay far from overflow.
  private static let largestCost = 1 << 46
  /// Bytes beside the features, at most.
  private static let overhead = 1 << 14

  private enum Field {
    static let version = "version"
    static let key = "key"
    static let padding = "padding_tokens"
    static let encodeFlops = "flops_encode"
    static let projectFlops = "flops_project"
  }

  /// `[tokenCount, columns]`.
  package let features: [Float]
  /// `D`.
  package let columns: Int
  /// Which of the tokens show only padding, ascending.
  package let paddingTokens: [Int]
  /// What the vision encoder's and the projector's work was, in operations.
  package let encodeFlops: Int
  package let projectFlops: Int

  /// - Precondition: The features are rows of so many columns.
  package init(_ features: [Float], columns: Int, paddingTokens: [Int], encodeFlops: Int, projectFlops: Int) {
    precondition(
      features.count.isMultiple(of: columns), "FeatureFile: \(features.count) features of \(columns) columns")
    self.features = features
    self.columns = columns
    self.paddingTokens = paddingTokens
    self.encodeFlops = encodeFlops
    self.projectFlops = projectFlops
  }

  /// Bytes of a file of so many features, at most.
  package static func byteCount(features: Int) -> Int {
    features * ElementType.f32.byteCount + overhead
  }

  // MARK: - Reading

  /// Why a file is not what it should be.
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
  ///   - key: Of the image and of the model.
  ///   - columns: `D` of the model.
  ///   - tokenCounts: How many tokens an image of the model can have.
  package init(_ path: String, key: String, columns: Int, tokenCounts: ClosedRange<Int>) throws(ReadError) {
    let file = try Self.opened(path, limit: Self.byteCount(features: tokenCounts.upperBound * columns))
    guard file.metadata[Field.version] == Self.version else { throw .unusable("\(path): it is of another version") }
    guard file.metadata[Field.key] == key else { throw .unusable("\(path): it is of another image or model") }
    guard let pieces = TensorChecksums.pieces(of: file) else { throw .unusable("\(path): it has no checksums") }
    if let wrong = pieces.first(where: { file.storage.checksum($0.bytes) != $0.checksum }) {
      throw .unusable("\(path): the checksum of \(wrong.name) is wrong")
    }
    guard let record = file.records[Self.featuresName], record.elementName == ElementType.f32.rawValue,
      record.shape.count == 2, tokenCounts.contains(record.shape[0]), record.shape[1] == columns,
      let features = try? file.tensor(Self.featuresName).floats()
    else { throw .unusable("\(path): its features are not \(tokenCounts) rows of \(columns) floats") }
    guard let padding = file.metadata[Field.padding].flatMap({ TokenRuns($0, of: record.shape[0]) }) else {
      throw .unusable("\(path): it does not say which tokens are padding")
    }
    guard let encode = Self.cost(file.metadata[Field.encodeFlops]),
      let project = Self.cost(file.metadata[Field.projectFlops])
    else { throw .unusable("\(path): it does not say what it cost") }
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

  private static func cost(_ text: String?) -> Int? {
    guard let text, let cost = Int(text), (0...largestCost).contains(cost) else { return nil }
    return cost
  }

  // MARK: - Writing

  /// Writes the file, which takes its place when it is whole.
  ///
  /// - Returns: Bytes written; `nil` where another process is writing the file.
  /// - Throws: `FileError` when it cannot be written.
  package func write(to path: String, key: String) throws(FileError) -> Int? {
    guard var file = try FileReplacement(path) else { return nil }
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

/// A folder of files that can be made again, kept below a size: those that were used last stay.
///
/// Several processes may share it. None knows what the others have written since it looked last, so together they may be above
/// the limit by a twentieth for each. Only files of this folder's own names are counted or removed.
package struct CappedFolder: Sendable {
  package let path: String
  private let byteLimit: Int
  private let isOurs: @Sendable (String) -> Bool
  /// Bytes of our files: what was there at the last look, and what was written since; `nil` before the first.
  private var byteCount: Int?
  private var byteCountSinceLook = 0

  /// How long a file may take to be written before it is taken for what a killed process has left, in nanoseconds.
  private static let longestWriting = 3600 * 1_000_000_000

  /// - Parameter isOurs: Whether a name is one that only this folder's own files have.
  package init(_ path: String, byteLimit: Int, isOurs: @escaping @Sendable (String) -> Bool) {
    self.path = path
    self.byteLimit = byteLimit
    self.isOurs = isOurs
  }

  /// Makes the folder if need be.
  package func make() throws(FileError) {
    do { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) } catch {
      throw .unwritable(path: path, reason: "no folder, and none can be made there")
    }
  }

  /// Removes what was not used for the longest time until so many bytes more fit, and books them.
  ///
  /// - Returns: How many files were removed.
  /// - Throws: `FileError` when there is no room for so many, whatever is removed.
  package mutating func ensureCapacity(for bytes: Int) throws(FileError) -> Int {
    guard bytes <= byteLimit else {
      throw .unwritable(path: path, reason: "\(bytes) bytes for a file, all may take \(byteLimit)")
    }
    var removed = 0
    if byteCount.map({ $0 + bytes > byteLimit }) ?? true || byteCountSinceLook > byteLimit / 20 {
      let files = files()
      var present = files.reduce(0) { $0 + $1.byteCount }
      if present + bytes > byteLimit {
        // Somewhat more than is needed, so that the next need not look again.
        let goal = max(0, byteLimit - byteLimit / 10 - bytes)
        for file in files {
          guard present > goal else { break }
          guard file.remove() else { continue }
          removed += 1
          present -= file.byteCount
        }
        guard present + bytes <= byteLimit else {
          throw .unwritable(path: path, reason: "its files cannot be removed to make room")
        }
      }
      (byteCount, byteCountSinceLook) = (present, 0)
    }
    byteCount = (byteCount ?? 0) + bytes
    byteCountSinceLook += bytes
    return removed
  }

  /// Our files, those that were used last at the end; without those that are just being written.
  private func files() -> [FolderEntry] {
    let now = Int(Date().timeIntervalSince1970 * 1e9)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    let files = names.compactMap { name -> FolderEntry? in
      let partial = FileReplacement.finalName(ofPartial: name)
      guard isOurs(partial ?? name), let file = FolderEntry(path + "/" + name) else { return nil }
      return partial != nil && now - file.modificationTime < Self.longestWriting ? nil : file
    }
    return files.sorted { ($0.modificationTime, $0.path) < ($1.modificationTime, $1.path) }
  }
}

/// Ascending numbers of tokens as a text of runs, `0+24,552+24`: first token and how many.
struct TokenRuns: Equatable {
  let tokens: [Int]

  init(_ tokens: [Int]) { self.tokens = tokens }

  /// - Parameter count: Of all tokens, each of which is named at most once.
  /// - Returns: `nil` for another text.
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
