import Foundation
import ImageProcessing
import Kernels
import LLaVA
import ModelFormats
import Storage
import Synchronization

/// The features of images, kept in files from one run to the next; see `FeatureCacheOptions`.
///
/// Nothing that is wrong with a file or the folder is an error: there is a warning, and the image is encoded.
package final class FeatureCache: Sendable {
  /// What files belong to beside the image.
  struct Model: Sendable {
    /// Tells apart whatever changes features, other images aside.
    var key: String
    /// `D`.
    var columns: Int
    /// How many tokens an image can have.
    var tokenCounts: ClosedRange<Int>
  }

  private struct State {
    var folder: CappedFolder
    var report = FeatureCacheStatistics()
    /// Whether files can be kept, as far as is known.
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

  package var report: FeatureCacheStatistics { state.withLock { $0.report } }

  /// What the vision encoder has seen of an image, and which of its tokens show only padding; `nil` where that is not kept.
  func encoding(of content: ImageDigest) -> (ImageInput.Encoding, paddingTokens: [Int])? {
    let path = path(content)
    do throws(FeatureFile.ReadError) {
      let file = try FeatureFile(
        path, key: key(content), columns: model.columns, tokenCounts: model.tokenCounts)
      FolderEntry.touch(path)
      let flops = RunReport.Flops(encode: file.encodeFlops, project: file.projectFlops)
      state.withLock { state in
        state.report.hits += 1
        state.report.bytes_read += file.features.count * ElementType.f32.byteCount
        state.report.flops_saved += flops.total
      }
      return (ImageInput.Encoding(features: file.features, flops: flops), file.paddingTokens)
    } catch {
      state.withLock { state in
        state.report.misses += 1
        if error != .missing { state.report.damaged += 1 }
      }
      if error != .missing { warn("\(error); encoding the image anew") }
      return nil
    }
  }

  /// Keeps what the vision encoder has seen of an image, if that is possible.
  func keep(_ encoding: ImageInput.Encoding, paddingTokens: [Int], of content: ImageDigest) {
    let file = FeatureFile(
      encoding.features, columns: model.columns, paddingTokens: paddingTokens, encodeFlops: encoding.flops.encode,
      projectFlops: encoding.flops.project)
    do throws(FileError) {
      guard try ensureCapacity(for: FeatureFile.byteCount(features: encoding.features.count)) else { return }
      guard let count = try file.write(to: path(content), key: key(content)) else { return }
      state.withLock { state in
        state.report.written += 1
        state.report.bytes_written += count
      }
    } catch {
      let isFirst = state.withLock { state in
        defer { state.isWritable = false }
        return state.isWritable
      }
      if isFirst { warn("\(error); going on without keeping more") }
    }
  }

  /// Whether files can be kept.
  private func ensureCapacity(for byteCount: Int) throws(FileError) -> Bool {
    try state.withLock { state throws(FileError) in
      guard state.isWritable else { return false }
      try state.folder.make()
      state.report.removed += try state.folder.ensureCapacity(for: byteCount)
      return true
    }
  }

  private func path(_ content: ImageDigest) -> String {
    directory + "/" + FeatureFileName(image: content, modelKey: model.key).text
  }

  /// What the file says that it is of; its name says less.
  private func key(_ content: ImageDigest) -> String { "\(content.byteCount) \(content.name) \(model.key)" }
}

/// `pdrop-features-`, what tells the image from others, what tells the model from others, `.safetensors`.
struct FeatureFileName {
  private static let (start, end) = ("pdrop-features-", ".safetensors")

  let text: String

  init(image: ImageDigest, modelKey: String) { text = Self.start + image.name + "-" + modelKey + Self.end }

  /// `nil` for a name that no such file has.
  init?(_ text: String) {
    guard text.hasPrefix(Self.start), text.hasSuffix(Self.end) else { return nil }
    let parts = text.dropFirst(Self.start.count).dropLast(Self.end.count)
      .split(separator: "-", omittingEmptySubsequences: false)
    let isWhole = parts.count == 2 || parts.count == 3 && parts[1] == ImageDigest.uprightMark
    guard isWhole, Self.isKey(parts[0], count: 32), Self.isKey(parts[parts.count - 1], count: 16) else { return nil }
    self.text = text
  }

  private static func isKey(_ text: Substring, count: Int) -> Bool {
    text.utf8.count == count && text.allSatisfy { $0.isHexDigit && !$0.isUppercase }
  }
}

/// A folder that keeps what a model has seen of images, so that an image asked about again, in another run as well, is
/// neither decoded nor encoded.
///
/// Answers are the same byte for byte. A file belongs to the bytes of an image, the model's weights and settings, how images
/// are fitted and turned, what the vision encoder multiplies in and with which library, and to the program: with another of these it is
/// not looked at. A file takes four bytes for each number of its features, 9.4 MB for an image in LLaVA-1.5-7B and up to 48 MB
/// in LLaVA-NeXT-7B. All of it is checked when it is read; what does not hold is made anew. The checks guard against damage,
/// not against somebody who may write to the folder and means harm.
///
/// Several processes, on several machines as well, may share a folder.
public struct FeatureCacheOptions: Sendable {
  public static let defaultByteLimit = 10 << 30

  /// Made when there is something to keep.
  public var directory: String
  /// The files that were not used for the longest time are removed so that all take no more bytes; nothing else in the folder
  /// is touched. Processes that write at the same time may together be above it by a twentieth each.
  public var byteLimit: Int
  /// Told in one line, from any thread, of a file that is damaged, and once when no more can be kept.
  public var warn: @Sendable (String) -> Void

  public init(
    directory: String, byteLimit: Int = defaultByteLimit, warn: @escaping @Sendable (String) -> Void = { _ in }
  ) {
    self.directory = directory
    self.byteLimit = byteLimit
    self.warn = warn
  }
}

/// What a feature cache has done since its model was loaded.
public struct FeatureCacheStatistics: Codable, Sendable, Equatable {
  /// Images whose features were there.
  public var hits = 0
  /// Images whose features were not, and files that turned out to be no images.
  public var misses = 0
  /// Misses among these because a file was damaged or not what its name says.
  public var damaged = 0
  /// Files written; fewer than misses where a record fails, where another process was faster, or where none can be kept.
  public var written = 0
  /// Files removed to make room.
  public var removed = 0
  public var bytes_read = 0
  public var bytes_written = 0
  /// Operations of vision encoder and projector that hits have saved.
  public var flops_saved = 0

  public init() {}
}

extension FeatureCache.Model {
  /// - Parameters:
  ///   - files: The model's directory.
  ///   - llava: The model from it.
  ///   - preprocessor: What prepares its images.
  ///   - precision: What its vision encoder multiplies in.
  init(
    _ files: ModelDirectory, _ llava: LLaVAModel, _ preprocessor: any ImagePreprocessor, _ precision: ModelPrecision
  ) {
    let processor = Processor.current
    let settings = [
      "weights and settings \(files.contentKey)",
      "program \(Self.program)",
      "images \(preprocessor.mode.rawValue)",
      "arithmetic \(precision.computeType.vision.rawValue)",
      // What multiplies decides the last bits.
      "OpenBLAS \(OpenBLAS.version) \(OpenBLAS.coreName)",
      "oneDNN \(processor.oneDNN?.version ?? "none")",
      "instructions \(processor.instructions)",
    ]
    key = SharedBytes.checksum(of: settings.joined(separator: "\n"))
    columns = llava.configuration.text.hiddenSize
    tokenCounts = llava.visualTokenCounts
  }

  /// The checksum of the program, which is what decodes, prepares and encodes: one that was built from other sources, or for
  /// another processor, may come to other bits. It takes some milliseconds.
  private static let program: String = {
    guard let path = Bundle.main.executablePath, let program = try? SharedBytes(mapping: path) else { return "unknown" }
    return String(program.checksum, radix: 16)
  }()
}

/// What tells the contents of images apart: their bytes, and how they are to be looked at.
///
/// Two checksums of 64 bits each, which guard against chance, not against somebody who makes two files of the same checksums.
package struct ImageDigest: Hashable, Sendable {
  package let byteCount: Int
  package let checksums: [UInt64]
  package let appliesOrientation: Bool

  package init(_ bytes: [UInt8], appliesOrientation: Bool) {
    let shared = SharedBytes(copying: bytes)
    byteCount = bytes.count
    // The second sees all bytes but the first at other places, so that no collision of one is one of the other.
    checksums = [shared.checksum, shared.checksum(min(1, bytes.count)..<bytes.count)]
    self.appliesOrientation = appliesOrientation
  }

  /// What the names of images have at their end that are put upright, after a `-`.
  package static let uprightMark = "upright"

  /// A part of a file's name: 32 hexadecimal digits, and the mark.
  package var name: String {
    let digits = checksums.map { String($0, radix: 16).leftPadded(to: 16) }.joined()
    return appliesOrientation ? digits + "-" + Self.uprightMark : digits
  }
}

extension String {
  /// With zeros in front.
  fileprivate func leftPadded(to count: Int) -> String {
    String(repeating: "0", count: max(0, count - self.count)) + self
  }
}
