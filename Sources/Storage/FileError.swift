#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// An error of opening, reading or writing a file.
package enum FileError: UserFacingError, Equatable {
  case notFound(path: String)
  case notAFile(path: String)
  case empty(path: String)
  case unreadable(path: String, reason: String)
  case unwritable(path: String, reason: String)

  package var category: ErrorCategory { .resource }

  /// The error that a folder cannot be created.
  package static func noFolder(at path: String) -> FileError {
    var status = stat()
    let exists = unsafe stat(path, &status) == 0
    return .unwritable(
      path: path, reason: exists ? "it is not a folder" : "the folder does not exist and cannot be created")
  }

  package var problem: String {
    switch self {
    case .notFound(let path): "\(path.pathExcerpt): no such file"
    case .notAFile(let path): "\(path.pathExcerpt): expected a file, found a directory or device"
    case .empty(let path): "\(path.pathExcerpt): the file is empty"
    case .unreadable(let path, let reason): "\(path.pathExcerpt): cannot be read (\(reason))"
    case .unwritable(let path, let reason): "\(path.pathExcerpt): cannot be written (\(reason))"
    }
  }
}

/// The message of the current `errno`.
func lastSystemError() -> String { unsafe String(cString: strerror(errno)) }

/// The pointer file that Git LFS stores instead of a large file until the file is fetched.
///
/// Source: the Git LFS specification of pointer files, version 1.
package enum GitLFSPointer {
  /// The first bytes of every pointer file.
  package static let beginning = Array("version https://git-lfs.github.com/spec/".utf8)

  /// The cause of an error and its remedy, for messages.
  package static let reason = "a Git LFS pointer instead of the file; fetch the file with 'git lfs pull'"

  /// Whether the first bytes of a file are those of a pointer file.
  package static func isFound(_ bytes: some Collection<UInt8>) -> Bool { bytes.starts(with: beginning) }
}
