package import Kernels

#if canImport(FoundationEssentials)
  internal import FoundationEssentials
#else
  internal import Foundation
#endif

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
  package mutating func makeRoom(for bytes: Int) throws(FileError) -> Int {
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
