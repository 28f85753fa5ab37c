package import Kernels

/// What a model has seen of a picture, kept in a file.
///
/// A safetensors file: `features` `[tokens, D]` in `F32`, as the projector's sums are, so that they come back to the bit; then
/// the file's `TensorChecksums`. The metadata have the version, the key of picture and model, and what encoding has cost.
package struct FeatureFile: Sendable, Equatable {
  /// To be raised whenever the same features would be laid out otherwise.
  static let version = "pdrop-features 1"
  private static let featuresName = "features"
  private static let alignment = 64
  /// More operations than any tower does for a picture; sums of them stay far from overflow.
  private static let largestCost = 1 << 46
  /// Bytes beside the features, at most.
  private static let overhead = 1 << 12

  private enum Field {
    static let version = "version"
    static let key = "key"
    static let encodeFlops = "flops_encode"
    static let projectFlops = "flops_project"
  }

  /// `[tokenCount, columns]`.
  package let features: [Float]
  /// `D`.
  package let columns: Int
  /// What the tower's and the projector's work was, in operations.
  package let encodeFlops: Int
  package let projectFlops: Int

  /// - Precondition: The features are rows of so many columns.
  package init(_ features: [Float], columns: Int, encodeFlops: Int, projectFlops: Int) {
    precondition(
      features.count.isMultiple(of: columns), "FeatureFile: \(features.count) features of \(columns) columns")
    self.features = features
    self.columns = columns
    self.encodeFlops = encodeFlops
    self.projectFlops = projectFlops
  }

  /// Bytes of a file of so many features, at most.
  package static func byteCount(features: Int) -> Int {
    features * ElementType.f32.byteCount + overhead
  }

  // MARK: - Reading

  /// Why a file is not what it should be.
  package enum Fault: Error, Equatable, CustomStringConvertible {
    case missing
    case unusable(String)

    package var description: String {
      switch self {
      case .missing: "there is none"
      case .unusable(let reason): reason
      }
    }
  }

  /// Reads a file and checks all of it.
  ///
  /// - Parameters:
  ///   - key: Of the picture and of the model.
  ///   - columns: `D` of the model.
  ///   - tokenCounts: How many tokens a picture of the model can have.
  package init(_ path: String, key: String, columns: Int, tokenCounts: ClosedRange<Int>) throws(Fault) {
    let file = try Self.opened(path, limit: Self.byteCount(features: tokenCounts.upperBound * columns))
    guard file.metadata[Field.version] == Self.version else { throw .unusable("\(path): it is of another version") }
    guard file.metadata[Field.key] == key else { throw .unusable("\(path): it is of another picture or model") }
    guard let pieces = TensorChecksums.pieces(of: file) else { throw .unusable("\(path): it has no checksums") }
    if let wrong = pieces.first(where: { file.storage.checksum($0.bytes) != $0.checksum }) {
      throw .unusable("\(path): the checksum of \(wrong.name) is wrong")
    }
    guard let record = file.records[Self.featuresName], record.elementName == ElementType.f32.rawValue,
      record.shape.count == 2, tokenCounts.contains(record.shape[0]), record.shape[1] == columns,
      let features = try? file.tensor(Self.featuresName).floats()
    else { throw .unusable("\(path): its features are not \(tokenCounts) rows of \(columns) floats") }
    guard let encode = Self.cost(file.metadata[Field.encodeFlops]),
      let project = Self.cost(file.metadata[Field.projectFlops])
    else { throw .unusable("\(path): it does not say what it cost") }
    self.init(features, columns: columns, encodeFlops: encode, projectFlops: project)
  }

  private static func opened(_ path: String, limit: Int) throws(Fault) -> SafetensorsFile {
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
      Field.version: Self.version, Field.key: key, Field.encodeFlops: "\(encodeFlops)",
      Field.projectFlops: "\(projectFlops)",
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
