#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// Why a file could not be mapped, or not be written.
package enum FileError: Error, Equatable, CustomStringConvertible {
  case notFound(path: String)
  case notAFile(path: String)
  case empty(path: String)
  case unreadable(path: String, reason: String)
  case unwritable(path: String, reason: String)

  package var description: String {
    switch self {
    case .notFound(let path): "\(path): no such file"
    case .notAFile(let path): "\(path): expected a file, found a directory or device"
    case .empty(let path): "\(path): the file is empty"
    case .unreadable(let path, let reason): "\(path): cannot be read (\(reason))"
    case .unwritable(let path, let reason): "\(path): cannot be written (\(reason))"
    }
  }
}

/// What the system says about its last refusal.
func lastSystemError() -> String { unsafe String(cString: strerror(errno)) }
