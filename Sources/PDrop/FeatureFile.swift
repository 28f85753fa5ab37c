import Foundation
import Kernels
package import LLaVA
package import ModelFormats
package import Storage

/// The features of an image in a file of the feature cache.
///
/// The format is safetensors: `features` `[V, D]` in `F32`, as the projector computes them, so that they are restored
/// bit for bit. For requests that select tokens before the decoder, `patch_features` `[views · patches, C]` and
/// `class_attention` `[2, views · patches]` follow, in `F32`, of the early and of the late layer; vision encoders without
/// a class token have no attention. Then come the file's
/// `TensorChecksums`. The metadata are the version, the key of image and model, the padding tokens, the tiles and the
/// cost of encoding.
package struct FeatureFile: Sendable, Equatable {
  /// Version of the layout; increased with every change to it.
  static let version = "pdrop-features 5"
  private static let featuresName = "features"
  private static let patchFeaturesName = "patch_features"
  private static let attentionName = "class_attention"
  private static let alignment = 64
  /// More operations than any vision encoder needs for an image; sums of such numbers do not overflow.
  private static let maxFlops = 1 << 46
  /// Maximum number of bytes in addition to the features.
  private static let overhead = 1 << 14

  private enum Field {
    static let padding = "padding_tokens"
    static let tiles = "tiles"
    /// `none` for tiles without newlines.
    static let newlines = "newlines"
    static let split = "split"
    static let encodeFlops = "flops_encode"
    static let projectFlops = "flops_project"
  }

  /// `[V, D]`.
  package let features: [Float]
  /// Columns of the features, `D`.
  package let columns: Int
  /// Indices of the tokens that show only padding, ascending.
  package let paddingTokens: [Int]
  package let layout: ViewLayout
  /// What a selection of tokens needs; `nil` if the image was encoded for requests without one.
  package let selectionInputs: SelectionInputs?
  /// Operations of the vision encoder.
  package let encodeFlops: Int
  /// Operations of the projector.
  package let projectFlops: Int

  /// - Precondition: The number of features is a multiple of `columns`.
  package init(
    _ features: [Float], columns: Int, paddingTokens: [Int], layout: ViewLayout = .single,
    selectionInputs: SelectionInputs? = nil, encodeFlops: Int, projectFlops: Int
  ) {
    precondition(
      features.count.isMultiple(of: columns), "FeatureFile: \(features.count) features of \(columns) columns")
    self.features = features
    self.columns = columns
    self.paddingTokens = paddingTokens
    self.layout = layout
    self.selectionInputs = selectionInputs
    self.encodeFlops = encodeFlops
    self.projectFlops = projectFlops
  }

  /// Maximum number of bytes of a file with the given number of feature values.
  package static func byteCount(features: Int, _ inputs: SelectionInputs? = nil) -> Int {
    features * ElementType.f32.byteCount + (inputs?.byteCount ?? 0) + overhead
  }

  // MARK: - Reading

  /// Reads a file and checks all of it.
  ///
  /// - Parameters:
  ///   - key: The key of image and model.
  ///   - columns: `D` of the model.
  ///   - tokenCounts: Smallest and largest number of tokens of an image.
  ///   - selectionBytes: Maximum bytes of what a selection needs.
  package init(
    _ path: String, key: String, columns: Int, tokenCounts: ClosedRange<Int>, selectionBytes: Int = 0
  ) throws(CacheFileError) {
    let file = try SafetensorsFile(
      cached: path,
      limit: Self.byteCount(features: tokenCounts.upperBound * columns) + selectionBytes, version: Self.version,
      key: key,
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
      features, columns: columns, paddingTokens: padding.tokens, layout: try Self.layout(file),
      selectionInputs: try Self.selectionInputs(file), encodeFlops: encode, projectFlops: project)
  }

  /// The tiles of the metadata: rows, columns, the kept rows and columns of the map, and its size if it is reduced; or
  /// rows and columns of a split image.
  private static func layout(_ file: SafetensorsFile) throws(CacheFileError) -> ViewLayout {
    let damaged = CacheFileError.unusable("\(file.path): its tiles are damaged")
    func numbers(_ text: String) throws(CacheFileError) -> [Int] {
      let numbers = text.split(separator: " ", omittingEmptySubsequences: false).compactMap { Int($0) }
      guard numbers.allSatisfy({ (0...1 << 16).contains($0) }), numbers.count >= 2, numbers[0] > 0, numbers[1] > 0
      else { throw damaged }
      return numbers
    }
    if let text = file.metadata[Field.split] {
      let numbers = try numbers(text)
      guard numbers.count == 2 else { throw damaged }
      return .split(rows: numbers[0], columns: numbers[1])
    }
    guard let text = file.metadata[Field.tiles] else { return .single }
    let numbers = try numbers(text)
    guard numbers.count == 6 || numbers.count == 8, numbers[2] <= numbers[3], numbers[4] <= numbers[5] else {
      throw damaged
    }
    var tiles = TileGrid(
      rows: numbers[0], columns: numbers[1], keptRows: numbers[2]..<numbers[3], keptColumns: numbers[4]..<numbers[5],
      reduced: numbers.count == 8 ? MapSize(rows: numbers[6], columns: numbers[7]) : nil)
    tiles.endsRows = file.metadata[Field.newlines] != "none"
    return .tiled(tiles)
  }

  private static func selectionInputs(_ file: SafetensorsFile) throws(CacheFileError) -> SelectionInputs? {
    guard let patches = file.records[patchFeaturesName] else { return nil }
    let damaged = CacheFileError.unusable("\(file.path): its features for a selection are damaged")
    guard patches.elementName == ElementType.f32.rawValue, patches.shape.count == 2, patches.shape[1] > 0,
      let features = try? file.tensor(patchFeaturesName).floats()
    else { throw damaged }
    guard let attention = file.records[attentionName] else {
      return SelectionInputs(
        patchFeatures: features, columns: patches.shape[1], classAttention: [], localAttention: [])
    }
    guard attention.elementName == ElementType.f32.rawValue, attention.shape == [2, patches.shape[0]],
      let both = try? file.tensor(attentionName).floats()
    else { throw damaged }
    return SelectionInputs(
      patchFeatures: features, columns: patches.shape[1], classAttention: Array(both[patches.shape[0]...]),
      localAttention: Array(both[..<patches.shape[0]]))
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
    var metadata = [
      CacheField.version: Self.version, CacheField.key: key, Field.padding: TokenRuns(paddingTokens).text,
      Field.encodeFlops: "\(encodeFlops)", Field.projectFlops: "\(projectFlops)",
    ]
    if let tiles = layout.tiles {
      let numbers = [
        tiles.rows, tiles.columns, tiles.keptRows.lowerBound, tiles.keptRows.upperBound,
        tiles.keptColumns.lowerBound, tiles.keptColumns.upperBound,
      ]
      metadata[Field.tiles] = (numbers + (tiles.reduced.map { [$0.rows, $0.columns] } ?? [])).map(String.init).joined(
        separator: " ")
      if !tiles.endsRows { metadata[Field.newlines] = "none" }
    }
    if case .split(let rows, let columns) = layout { metadata[Field.split] = "\(rows) \(columns)" }
    var tensors = [(Self.featuresName, Tensor(features, shape: [features.count / columns, columns]))]
    if let inputs = selectionInputs {
      let rows = inputs.patchFeatures.count / inputs.columns
      tensors.append((Self.patchFeaturesName, Tensor(inputs.patchFeatures, shape: [rows, inputs.columns])))
      if !inputs.classAttention.isEmpty {
        tensors.append((Self.attentionName, Tensor(inputs.localAttention + inputs.classAttention, shape: [2, rows])))
      }
    }
    var header = SafetensorsHeader(metadata: metadata)
    for (name, tensor) in tensors {
      header.add(name, ElementType.f32.rawValue, tensor.shape, byteCount: tensor.storedBytes.count)
    }
    let count = try TensorChecksums.write(
      header, count: tensors.count, to: &file, path: path, alignment: Self.alignment
    ) { tensors[$0].1.storedBytes }
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
