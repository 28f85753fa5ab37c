internal import Kernels
internal import ModelFormats
internal import Synchronization

/// The features of pictures, kept in files from one run to the next; see `FeatureCacheOptions`.
///
/// Nothing that is wrong with a file or the folder is an error: there is a warning, and the picture is encoded.
final class FeatureCache: Sendable {
  /// What files belong to beside the picture.
  struct Model: Sendable {
    /// Tells apart whatever changes features, other pictures aside.
    var key: String
    /// `D`.
    var columns: Int
    /// How many tokens a picture can have.
    var tokenCounts: ClosedRange<Int>
  }

  private struct State {
    var folder: CappedFolder
    var report = FeatureCacheReport()
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

  var report: FeatureCacheReport { state.withLock { $0.report } }

  /// What the tower has seen of a picture; `nil` where that is not kept.
  func encoding(of content: PictureContent) -> PreparedPicture.Encoding? {
    let path = path(content)
    do throws(FeatureFile.Fault) {
      let file = try FeatureFile(
        path, key: key(content), columns: model.columns, tokenCounts: model.tokenCounts)
      FolderEntry.touch(path)
      let flops = RunReport.Flops(encode: file.encodeFlops, project: file.projectFlops)
      state.withLock { state in
        state.report.hits += 1
        state.report.bytes_read += file.features.count * ElementType.f32.byteCount
        state.report.flops_saved += flops.total
      }
      return PreparedPicture.Encoding(features: file.features, flops: flops)
    } catch {
      state.withLock { state in
        state.report.misses += 1
        if error != .missing { state.report.damaged += 1 }
      }
      if error != .missing { warn("\(error); encoding the picture anew") }
      return nil
    }
  }

  /// Keeps what the tower has seen of a picture, if that is possible.
  func keep(_ encoding: PreparedPicture.Encoding, of content: PictureContent) {
    let file = FeatureFile(
      encoding.features, columns: model.columns, encodeFlops: encoding.flops.encode,
      projectFlops: encoding.flops.project)
    do throws(FileError) {
      guard try makeRoom(for: FeatureFile.byteCount(features: encoding.features.count)) else { return }
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
  private func makeRoom(for byteCount: Int) throws(FileError) -> Bool {
    try state.withLock { state throws(FileError) in
      guard state.isWritable else { return false }
      try state.folder.make()
      state.report.removed += try state.folder.makeRoom(for: byteCount)
      return true
    }
  }

  private func path(_ content: PictureContent) -> String {
    directory + "/" + FeatureFileName(picture: content, modelKey: model.key).text
  }

  /// What the file says that it is of; its name says less.
  private func key(_ content: PictureContent) -> String { "\(content.byteCount) \(content.name) \(model.key)" }
}

/// `pdrop-features-`, what tells the picture from others, what tells the model from others, `.safetensors`.
struct FeatureFileName {
  private static let (start, end) = ("pdrop-features-", ".safetensors")

  let text: String

  init(picture: PictureContent, modelKey: String) { text = Self.start + picture.name + "-" + modelKey + Self.end }

  /// `nil` for a name that no such file has.
  init?(_ text: String) {
    guard text.hasPrefix(Self.start), text.hasSuffix(Self.end) else { return nil }
    let parts = text.dropFirst(Self.start.count).dropLast(Self.end.count)
      .split(separator: "-", omittingEmptySubsequences: false)
    let isWhole = parts.count == 2 || parts.count == 3 && parts[1] == PictureContent.uprightMark
    guard isWhole, Self.isKey(parts[0], count: 32), Self.isKey(parts[parts.count - 1], count: 16) else { return nil }
    self.text = text
  }

  private static func isKey(_ text: Substring, count: Int) -> Bool {
    text.utf8.count == count && text.allSatisfy { $0.isHexDigit && !$0.isUppercase }
  }
}
