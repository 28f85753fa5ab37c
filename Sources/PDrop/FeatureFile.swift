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

  /// Reads a file and checks all of it.
  ///
  /// - Parameters:
  ///   - key: The key of image and model.
  ///   - columns: `D` of the model.
  ///   - tokenCounts: Smallest and largest number of tokens of an image.
  package init(_ path: String, key: String, columns: Int, tokenCounts: ClosedRange<Int>) throws(CacheFileError) {
    let file = try SafetensorsFile(
      cached: path, limit: Self.byteCount(features: tokenCounts.upperBound * columns), version: Self.version, key: key,
      owner: "image or model", Workers(count: 1))
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

  static func flops(_ text: String?) -> Int? {
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
      CacheField.version: Self.version, CacheField.key: key, Field.padding: TokenRuns(paddingTokens).text,
      Field.encodeFlops: "\(encodeFlops)", Field.projectFlops: "\(projectFlops)",
    ])
    let bytes = Tensor(features, shape: [features.count / columns, columns]).storedBytes
    header.add(
      Self.featuresName, ElementType.f32.rawValue, [features.count / columns, columns], byteCount: bytes.count)
    let count = try TensorChecksums.write(
      header, count: 1, to: &file, path: path, alignment: Self.alignment
    ) { _ in bytes }
    try file.finish(modified: nil, isDurable: false)
    return count
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
