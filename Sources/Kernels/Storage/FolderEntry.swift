#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// A regular file in a folder that several processes keep files in; links are not followed.
package struct FolderEntry: Sendable {
  package let path: String
  package let byteCount: Int
  /// In nanoseconds since 1970.
  package let modificationTime: Int

  /// `nil` where there is no regular file.
  package init?(_ path: String) {
    var status = stat()
    guard unsafe lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    self.path = path
    byteCount = Int(status.st_size)
    modificationTime = status.modificationTime
  }

  /// Removes the file; never a folder that has taken its place.
  ///
  /// - Returns: Whether it is gone, also when somebody else was faster.
  package func remove() -> Bool { unsafe unlink(path) == 0 || errno == ENOENT }

  /// Makes a file one that was modified just now by the clock of its disk, where the user may do that.
  package static func touch(_ path: String) { unsafe _ = utimensat(AT_FDCWD, path, nil, 0) }
}
