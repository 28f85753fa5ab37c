import Foundation
import Kernels
import LLaVA
import ModelFormats
package import Storage
import Synchronization

/// The reason why a file of a cache cannot be used.
package enum CacheFileError: UserFacingError, Equatable {
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

/// Counts that every cache of files has.
protocol CacheStatistics: Sendable {
  /// Files that were damaged or did not match their name.
  var damaged: Int { get set }
  /// Files written.
  var written: Int { get set }
  /// Files removed to free space.
  var removed: Int { get set }
  var bytesWritten: Int { get set }

  init()
}

/// A folder of checked files that later runs reuse, with its statistics and warnings.
///
/// Damaged files and an unusable folder are not errors: a warning is issued and the result is computed.
final class CacheFolder<Statistics: CacheStatistics>: Sendable {
  private struct State {
    var folder: CappedFolder
    var statistics = Statistics()
    /// Whether no write has failed yet.
    var isWritable = true
    var hasWarnedOfDamage = false
  }

  private let path: String
  /// Whether there is a warning for each damaged file, and not only for the first one.
  private let warnsOfEachFile: Bool
  private let warn: @Sendable (String) -> Void
  private let state: Mutex<State>

  /// - Parameters:
  ///   - kinds: The kinds of file in the folder, which begin their names.
  ///   - warn: Callback for warnings.
  init(
    _ path: String, byteLimit: Int, kinds: [String], warnsOfEachFile: Bool, warn: @escaping @Sendable (String) -> Void
  ) {
    self.path = path
    self.warnsOfEachFile = warnsOfEachFile
    self.warn = warn
    state = Mutex(
      State(folder: CappedFolder(path, byteLimit: byteLimit) { CacheFileName($0, kinds: kinds) != nil }))
  }

  var statistics: Statistics { state.withLock { $0.statistics } }

  func count(_ change: (inout Statistics) -> Void) { state.withLock { change(&$0.statistics) } }

  func path(of name: CacheFileName) -> String { path + "/" + name.text }

  /// The content of a file; `nil` if there is none or it is damaged.
  ///
  /// - Parameter consequence: The end of the warning about a damaged file.
  func read<Content>(
    _ path: String, consequence: String, _ open: () throws(CacheFileError) -> Content
  ) -> Content? {
    do throws(CacheFileError) {
      let content = try open()
      FolderEntry.touch(path)
      return content
    } catch .missing {
      return nil
    } catch {
      let warns = state.withLock { state in
        state.statistics.damaged += 1
        defer { state.hasWarnedOfDamage = true }
        return warnsOfEachFile || !state.hasWarnedOfDamage
      }
      if warns { warn("\(error); \(consequence)") }
      return nil
    }
  }

  /// Writes a file, if the folder is writable.
  ///
  /// - Parameters:
  ///   - byteCount: Maximum size of the file.
  ///   - consequence: The end of the warning when it cannot be written.
  ///   - write: Returns the size of the file; `nil` if another process is writing it.
  func write(byteCount: Int, consequence: String, _ write: () throws(FileError) -> Int?) {
    do throws(FileError) {
      guard try ensureCapacity(for: byteCount), let count = try write() else { return }
      state.withLock { state in
        state.statistics.written += 1
        state.statistics.bytesWritten += count
      }
    } catch {
      let isFirst = state.withLock { state in
        defer { state.isWritable = false }
        return state.isWritable
      }
      if isFirst { warn("\(error); \(consequence)") }
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
}

/// A file name of a cache: `pdrop-`, the kind, `-`, the digest of the content, `-`, the model's key, `.safetensors`.
struct CacheFileName {
  private static let end = ".safetensors"

  let text: String

  /// - Parameter content: 32 hexadecimal digits, possibly with the mark of `ImageDigest`.
  init(_ kind: String, content: String, modelKey: String) {
    text = Self.start(kind) + content + "-" + modelKey + Self.end
  }

  /// `nil` for any other name.
  init?(_ text: String, kinds: [String]) {
    guard let kind = kinds.first(where: { text.hasPrefix(Self.start($0)) }), text.hasSuffix(Self.end) else {
      return nil
    }
    let parts = text.dropFirst(Self.start(kind).count).dropLast(Self.end.count)
      .split(separator: "-", omittingEmptySubsequences: false)
    let isValid = parts.count == 2 || parts.count == 3 && ImageHandling.marks.contains(String(parts[1]))
    guard isValid, Self.isKey(parts[0], count: 32), Self.isKey(parts[parts.count - 1], count: 16) else { return nil }
    self.text = text
  }

  private static func start(_ kind: String) -> String { "pdrop-\(kind)-" }

  private static func isKey(_ text: Substring, count: Int) -> Bool {
    text.utf8.count == count && text.allSatisfy { $0.isHexDigit && !$0.isUppercase }
  }
}

/// The checksum of everything but the request that results depend on.
enum ModelKey {
  /// - Parameters:
  ///   - files: The model's files.
  ///   - settings: Options that change the results.
  static func checksum(_ files: any ModelFiles, _ settings: [String]) -> String {
    let processor = Processor.current
    let common = [
      "weights and settings \(files.contentKey)",
      "program \(program)",
      // The matmul library decides the last bits.
      processor.openBLAS.map { "OpenBLAS \($0.version) \($0.coreName)" } ?? "no OpenBLAS",
      "oneDNN \(processor.oneDNN?.version ?? "none")",
      "instructions \(processor.instructions)",
    ]
    return SharedBytes.checksum(of: (common + settings).joined(separator: "\n"))
  }

  /// The checksum of the program, which takes some milliseconds.
  ///
  /// A program that was built from other sources or for another processor may give other bits.
  private static let program: String = {
    guard let path = Bundle.main.executablePath, let program = try? SharedBytes(mapping: path) else { return "unknown" }
    return String(program.checksum, radix: 16)
  }()
}

extension SafetensorsFile {
  /// Reads a file of a cache, and checks all of its bytes, its version and its key.
  ///
  /// - Parameters:
  ///   - limit: Maximum size of the file, in bytes.
  ///   - owner: The owners of a key, such as `image or model`, for the error.
  ///   - workers: The threads that compute checksums.
  init(
    cached path: String, limit: Int, version: String, key: String, owner: String, _ workers: Workers
  ) throws(CacheFileError) {
    do { try self.init(SharedBytes(reading: path, limit: limit), path: path) } catch FileError.notFound {
      throw .missing
    } catch { throw .unusable("\(error)") }
    guard metadata[CacheField.version] == version else { throw .unusable("\(path): it has another version") }
    guard metadata[CacheField.key] == key else { throw .unusable("\(path): it is the file of another \(owner)") }
    guard let parts = TensorChecksums.pieces(of: self) else { throw .unusable("\(path): it has no checksums") }
    let found = workers.map(tasks: parts.count) { storage.checksum(parts[$0].bytes) }
    if let wrong = zip(parts, found).first(where: { $0.checksum != $1 }) {
      throw .unusable("\(path): the checksum of \(wrong.0.name) is wrong")
    }
  }
}

/// The metadata fields that every file of a cache has.
enum CacheField {
  static let version = "version"
  static let key = "key"
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
      throw .noFolder(at: path)
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
