import Foundation
import ImageProcessing
import Kernels
import LLaVA
import ModelFormats
import Storage
import Synchronization

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
  }

  private struct State {
    var folder: CappedFolder
    var statistics = FeatureCacheStatistics()
    /// Whether no write has failed yet.
    var isWritable = true
  }

  private let directory: String
  private let model: Model
  private let warn: @Sendable (String) -> Void
  private let state: Mutex<State>

  init(_ options: FeatureCacheOptions, _ model: Model) {
    directory = options.directory
    self.model = model
    warn = { options.warn("feature cache: \($0)") }
    state = Mutex(
      State(
        folder: CappedFolder(options.directory, byteLimit: options.byteLimit) { FeatureFileName($0) != nil }))
  }

  package var report: FeatureCacheStatistics { state.withLock { $0.statistics } }

  /// The features of an image and the indices of its padding tokens; `nil` if they are not in the cache.
  func encoding(of content: ImageDigest) -> (ImageInput.Encoding, paddingTokens: [Int])? {
    let path = path(content)
    do throws(FeatureFile.ReadError) {
      let file = try FeatureFile(
        path, key: key(content), columns: model.columns, tokenCounts: model.tokenCounts)
      FolderEntry.touch(path)
      let flops = RunReport.Flops(encode: file.encodeFlops, project: file.projectFlops)
      state.withLock { state in
        state.statistics.hits += 1
        state.statistics.bytesRead += file.features.count * ElementType.f32.byteCount
        state.statistics.flopsSaved += flops.total
      }
      return (ImageInput.Encoding(features: file.features, flops: flops), file.paddingTokens)
    } catch {
      state.withLock { state in
        state.statistics.misses += 1
        if error != .missing { state.statistics.damaged += 1 }
      }
      if error != .missing { warn("\(error); encoding the image again") }
      return nil
    }
  }

  /// Stores the features of an image, if the folder is writable.
  func keep(_ encoding: ImageInput.Encoding, paddingTokens: [Int], of content: ImageDigest) {
    let file = FeatureFile(
      encoding.features, columns: model.columns, paddingTokens: paddingTokens, encodeFlops: encoding.flops.encode,
      projectFlops: encoding.flops.project)
    do throws(FileError) {
      guard try ensureCapacity(for: FeatureFile.byteCount(features: encoding.features.count)) else { return }
      guard let count = try file.write(to: path(content), key: key(content)) else { return }
      state.withLock { state in
        state.statistics.written += 1
        state.statistics.bytesWritten += count
      }
    } catch {
      let isFirst = state.withLock { state in
        defer { state.isWritable = false }
        return state.isWritable
      }
      if isFirst { warn("\(error); continuing without storing more features") }
    }
  }

  /// Removes old files until a new one fits; `false` if the folder is not writable.
  private func ensureCapacity(for byteCount: Int) throws(FileError) -> Bool {
    try state.withLock { state throws(FileError) in
      guard state.isWritable else { return false }
      try state.folder.make()
      state.statistics.removed += try state.folder.ensureCapacity(for: byteCount)
      return true
    }
  }

  private func path(_ content: ImageDigest) -> String {
    directory + "/" + FeatureFileName(image: content, modelKey: model.key).text
  }

  /// The key in the file's metadata, which is more specific than its name.
  private func key(_ content: ImageDigest) -> String { "\(content.byteCount) \(content.name) \(model.key)" }
}

/// A file name: `pdrop-features-`, the image's digest, `-`, the model's key, `.safetensors`.
struct FeatureFileName {
  private static let (start, end) = ("pdrop-features-", ".safetensors")

  let text: String

  init(image: ImageDigest, modelKey: String) { text = Self.start + image.name + "-" + modelKey + Self.end }

  /// `nil` for any other name.
  init?(_ text: String) {
    guard text.hasPrefix(Self.start), text.hasSuffix(Self.end) else { return nil }
    let parts = text.dropFirst(Self.start.count).dropLast(Self.end.count)
      .split(separator: "-", omittingEmptySubsequences: false)
    let isValid = parts.count == 2 || parts.count == 3 && parts[1] == ImageDigest.uprightMark
    guard isValid, Self.isKey(parts[0], count: 32), Self.isKey(parts[parts.count - 1], count: 16) else { return nil }
    self.text = text
  }

  private static func isKey(_ text: Substring, count: Int) -> Bool {
    text.utf8.count == count && text.allSatisfy { $0.isHexDigit && !$0.isUppercase }
  }
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
public struct FeatureCacheStatistics: Codable, Sendable, Equatable {
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
    let processor = Processor.current
    let settings = [
      "weights and settings \(files.contentKey)",
      "program \(Self.program)",
      "images \(preprocessor.mode.rawValue)",
      "arithmetic \(precision.computeType.vision.rawValue)",
      // The matmul library decides the last bits.
      processor.openBLAS.map { "OpenBLAS \($0.version) \($0.coreName)" } ?? "no OpenBLAS",
      "oneDNN \(processor.oneDNN?.version ?? "none")",
      "instructions \(processor.instructions)",
    ]
    key = SharedBytes.checksum(of: settings.joined(separator: "\n"))
    columns = llava.configuration.text.hiddenSize
    tokenCounts = llava.visualTokenCounts
  }

  /// The checksum of the program, which takes some milliseconds.
  ///
  /// A program that was built from other sources or for another processor may give other bits.
  private static let program: String = {
    guard let path = Bundle.main.executablePath, let program = try? SharedBytes(mapping: path) else { return "unknown" }
    return String(program.checksum, radix: 16)
  }()
}

/// The identity of an image: checksums of its bytes, and whether its orientation is applied.
///
/// Two checksums of 64 bits each make accidental collisions unlikely; they do not prevent deliberate ones.
package struct ImageDigest: Hashable, Sendable {
  package let byteCount: Int
  package let checksums: [UInt64]
  package let appliesOrientation: Bool

  package init(_ bytes: [UInt8], appliesOrientation: Bool) {
    let shared = SharedBytes(copying: bytes)
    byteCount = bytes.count
    // The second covers all bytes but the first, at shifted offsets, so that a collision of one is none of the other.
    checksums = [shared.checksum, shared.checksum(min(1, bytes.count)..<bytes.count)]
    self.appliesOrientation = appliesOrientation
  }

  /// The end of the names of images whose orientation is applied, after a `-`.
  package static let uprightMark = "upright"

  /// The image's part of a file name: 32 hexadecimal digits, then the mark.
  package var name: String {
    let digits = checksums.map { String($0, radix: 16).leftPadded(to: 16) }.joined()
    return appliesOrientation ? digits + "-" + Self.uprightMark : digits
  }
}

extension String {
  /// The string with leading zeros.
  fileprivate func leftPadded(to count: Int) -> String {
    String(repeating: "0", count: max(0, count - self.count)) + self
  }
}
