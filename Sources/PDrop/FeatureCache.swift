import Foundation
import ImageProcessing
import Kernels
import LLaVA
import ModelFormats
import Storage
import Synchronization
package import TokenDropping

/// A folder of encoded images that later runs reuse; see `FeatureCacheOptions`.
///
/// Damaged files and an unusable folder are not errors: a warning is issued and the image is encoded.
package final class FeatureCache: Sendable {
  /// The model that the features belong to.
  struct Model: Sendable {
    /// Checksum of everything but the image that features depend on.
    var key: String
    /// Columns of the features, `D`.
    var columns: Int
    /// Smallest and largest number of tokens of an image.
    var tokenCounts: ClosedRange<Int>
    var configuration: LLaVAConfiguration

    private var hasClassToken: Bool { configuration.vision?.hasClassToken ?? false }

    /// Patches of an image.
    private func patchCount(_ layout: ViewLayout) -> Int { layout.viewCount * (configuration.vision?.patchCount ?? 0) }

    /// Maximum bytes of what a selection needs.
    var selectionBytes: Int {
      let tiles = configuration.anyResolution?.maxTileCount ?? configuration.imageSplitting?.maxTileCount ?? 0
      let views = 1 + tiles
      return views * configuration.selectionInputByteCount(.single)
    }

    /// Whether tiles and inputs of a selection have the sizes of an image with the file's number of tokens.
    func fits(_ file: FeatureFile) -> Bool {
      if case .split(let rows, let columns) = file.layout {
        guard let splitting = configuration.imageSplitting, rows * columns <= splitting.maxTileCount else {
          return false
        }
      }
      if let tiles = file.layout.tiles {
        let side = configuration.vision?.patchesPerSide ?? 0
        guard tiles.tileCount <= configuration.anyResolution?.maxTileCount ?? 0,
          tiles.keptRows.upperBound <= tiles.rows * side, tiles.keptColumns.upperBound <= tiles.columns * side,
          tiles.reduced
            == configuration.anyResolution?.reduced(
              MapSize(rows: tiles.keptRows.count, columns: tiles.keptColumns.count))
        else { return false }
      }
      guard configuration.visualTokenCount(file.layout) * columns == file.features.count else { return false }
      guard let inputs = file.selectionInputs else { return true }
      return inputs.classAttention.count == (hasClassToken ? patchCount(file.layout) : 0)
        && inputs.byteCount == configuration.selectionInputByteCount(file.layout)
    }
  }

  private static let kind = "features"

  private let model: Model
  private let folder: CacheFolder<FeatureCacheStatistics>

  init(_ options: FeatureCacheOptions, _ model: Model) {
    self.model = model
    folder = CacheFolder(
      options.directory, byteLimit: options.byteLimit, kinds: [Self.kind], warnsOfEachFile: true
    ) { options.warn("feature cache: \($0)") }
  }

  package var report: FeatureCacheStatistics { folder.statistics }

  /// An image of the cache.
  struct Found {
    let encoding: ImageInput.Encoding
    let paddingTokens: [Int]
    let layout: ViewLayout
  }

  /// The features of an image; `nil` if they are not in the cache.
  ///
  /// - Parameter forSelection: Whether a file without the inputs of a selection is not enough.
  func encoding(of content: ImageDigest, forSelection: Bool) -> Found? {
    let path = path(content)
    let file = folder.read(path, consequence: "encoding the image again") { () throws(CacheFileError) in
      let file = try FeatureFile(
        path, key: key(content), columns: model.columns, tokenCounts: model.tokenCounts,
        selectionBytes: model.selectionBytes)
      guard model.fits(file) else { throw .unusable("\(path): its tiles or shapes are not those of the model") }
      return file
    }
    guard let file, !forSelection || file.selectionInputs != nil else {
      folder.count { $0.misses += 1 }
      return nil
    }
    let flops = RunReport.Flops(encode: file.encodeFlops, project: file.projectFlops)
    folder.count { statistics in
      statistics.hits += 1
      statistics.bytesRead +=
        file.features.count * ElementType.f32.byteCount + (file.selectionInputs?.byteCount ?? 0)
      statistics.flopsSaved += flops.total
    }
    return Found(
      encoding: ImageInput.Encoding(features: file.features, selectionInputs: file.selectionInputs, flops: flops),
      paddingTokens: file.paddingTokens, layout: file.layout)
  }

  /// Stores the features of an image, if the folder is writable.
  func keep(_ encoding: ImageInput.Encoding, paddingTokens: [Int], layout: ViewLayout, of content: ImageDigest) {
    let file = FeatureFile(
      encoding.features, columns: model.columns, paddingTokens: paddingTokens, layout: layout,
      selectionInputs: encoding.selectionInputs, encodeFlops: encoding.flops.encode,
      projectFlops: encoding.flops.project)
    folder.write(
      byteCount: FeatureFile.byteCount(features: encoding.features.count, encoding.selectionInputs),
      consequence: "continuing without storing more features"
    ) { () throws(FileError) in try file.write(to: path(content), key: key(content)) }
  }

  private func path(_ content: ImageDigest) -> String {
    folder.path(of: CacheFileName(Self.kind, content: content.name, modelKey: model.key))
  }

  /// The key in the file's metadata, which is more specific than its name.
  private func key(_ content: ImageDigest) -> String { "\(content.byteCount) \(content.name) \(model.key)" }
}

/// Settings of the feature cache: a folder of encoded images, so that later requests and runs neither decode nor encode
/// them.
///
///     var options = VisionLanguageModel.Options()
///     options.featureCache = FeatureCacheOptions(directory: folder + "/features", byteLimit: 1 << 30)
///     let model = try VisionLanguageModel(directory: "Models/tiny-textvqa", options: options)
///     _ = try model.encode(.file("Models/samples/bike.png"), threads: 4)
///     print(model.featureCacheStatistics?.written ?? 0)  // 1 in the first run, 0 in later ones
///
/// Answers are the same byte for byte. A file is used only with the same image bytes, weights, settings, image
/// preprocessing and orientation, compute type, matmul library and program. It takes four bytes per feature value: 9.4
/// MB for an image in LLaVA-1.5-7B and up to 48 MB in LLaVA-NeXT-7B.
///
/// Files are checked in full when they are read, and a damaged file is replaced. The checks detect damage, not
/// deliberate manipulation by a user with write access to the folder.
///
/// Several processes may share a folder, also from several machines.
public struct FeatureCacheOptions: Sendable {
  public static let defaultByteLimit = 10 << 30

  /// Path of the folder, which is created when the first file is stored.
  public var directory: String
  /// Maximum size of all files. The least recently used ones are removed; other files in the folder are not touched.
  /// Every process that writes at the same time may exceed it by a twentieth.
  public var byteLimit: Int
  /// Callback for warnings of one line, from any thread: for each damaged file, and once when storing fails.
  public var warn: @Sendable (String) -> Void

  public init(
    directory: String, byteLimit: Int = defaultByteLimit, warn: @escaping @Sendable (String) -> Void = { _ in }
  ) {
    self.directory = directory
    self.byteLimit = byteLimit
    self.warn = warn
  }
}

/// Counts of a feature cache since its model was loaded.
public struct FeatureCacheStatistics: CacheStatistics, Codable, Sendable, Equatable {
  /// Images whose features were in the cache.
  public var hits = 0
  /// Images whose features were not, files that are not images included.
  public var misses = 0
  /// Misses because a file was damaged or did not match its name.
  public var damaged = 0
  /// Files written; fewer than misses if a record fails, another process was faster, or the folder is not writable.
  public var written = 0
  /// Files removed to free space.
  public var removed = 0
  public var bytesRead = 0
  public var bytesWritten = 0
  /// Operations of vision encoder and projector that hits saved.
  public var flopsSaved = 0

  public init() {}

  enum CodingKeys: String, CodingKey {
    case hits, misses, damaged, written, removed
    case bytesRead = "bytes_read"
    case bytesWritten = "bytes_written"
    case flopsSaved = "flops_saved"
  }
}

extension FeatureCache.Model {
  /// - Parameters:
  ///   - files: The model's files.
  ///   - llava: The model that was loaded from it.
  ///   - preprocessor: Its image preprocessor.
  ///   - precision: Its compute types.
  init(
    _ files: any ModelFiles, _ llava: LLaVAModel, _ preprocessor: any ImagePreprocessor, _ precision: ModelPrecision
  ) {
    key = ModelKey.checksum(
      files,
      ["images \(preprocessor.summary)", "arithmetic \(precision.computeType.vision.rawValue)"] + precision.scoresKey)
    columns = llava.configuration.text.hiddenSize
    tokenCounts = llava.visualTokenCounts
    configuration = llava.configuration
  }
}

/// The identity of an image: checksums of its bytes, and how it becomes views.
///
/// Two checksums of 64 bits each make accidental collisions unlikely; they do not prevent deliberate ones.
package struct ImageDigest: Hashable, Sendable {
  package let byteCount: Int
  package let checksums: [UInt64]
  package let handling: ImageHandling

  package init(_ bytes: [UInt8], _ handling: ImageHandling) {
    byteCount = bytes.count
    checksums = SharedBytes(copying: bytes).twoChecksums
    self.handling = handling
  }

  /// The image's part of a file name: 32 hexadecimal digits, then the mark, if there is one, after a `-`.
  package var name: String { checksums.hexadecimal + (handling.mark.map { "-" + $0 } ?? "") }
}

/// The options of preprocessing by which views of one image file differ.
package struct ImageHandling: Hashable, Sendable {
  /// Whether a photo is rotated upright by its Exif orientation.
  package var appliesOrientation = false
  /// Whether the image has the views of one of several in a prompt, in models where these differ from those of a single
  /// one.
  package var isOneOfSeveral = false
  /// Whether all patches of all tiles are tokens, those of padding too, without newlines.
  package var keepsAllPatches = false

  package init(appliesOrientation: Bool = false, isOneOfSeveral: Bool = false, keepsAllPatches: Bool = false) {
    (self.appliesOrientation, self.isOneOfSeveral) = (appliesOrientation, isOneOfSeveral)
    self.keepsAllPatches = keepsAllPatches
  }

  /// The end of the names of images in caches; `nil` for single images as they are stored.
  package var mark: String? {
    let marks = [(appliesOrientation, "upright"), (isOneOfSeveral, "several"), (keepsAllPatches, "patches")]
    let present = marks.filter(\.0).map(\.1)
    return present.isEmpty ? nil : present.joined(separator: "_")
  }

  /// All marks.
  package static let marks = (1..<8).compactMap { bits in
    ImageHandling(
      appliesOrientation: bits & 1 > 0, isOneOfSeveral: bits & 2 > 0, keepsAllPatches: bits & 4 > 0
    ).mark
  }
}

extension VisionLanguageModel {
  /// Whether a packing keeps padding and leaves out newlines, which only the tiles of LLaVA-NeXT have.
  package func keepsAllPatches(_ packing: Preselection.Packing) -> Bool {
    packing == .patches && llava.configuration.anyResolution?.merge == .spatialUnpad
  }
}

extension Request {
  /// The views that a model uses of the request's images.
  package func handling(by model: VisionLanguageModel) -> ImageHandling {
    ImageHandling(
      appliesOrientation: appliesOrientation,
      isOneOfSeveral: images.count { !$0.isVideo } > 1 && model.preprocessor?.tilesOnlySingleImages ?? false,
      keepsAllPatches: model.keepsAllPatches(policy.preselection?.packing ?? .unpadded))
  }
}

extension SharedBytes {
  /// Two checksums of 64 bits.
  var twoChecksums: [UInt64] {
    // The second covers all bytes but the first, at shifted offsets, so that a collision of one is none of the other.
    [checksum, checksum(min(1, count)..<count)]
  }
}

extension [UInt64] {
  /// 16 hexadecimal digits for each number.
  var hexadecimal: String {
    map { number in
      let digits = String(number, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }
}
