#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// An `errno` of a system call on an open file.
package struct SystemError: UserFacingError, Equatable {
  package let code: Int32

  package init(code: Int32) { self.code = code }

  /// The error of reading a folder as a file.
  package static let isFolder = SystemError(code: EISDIR)

  /// Whether the disk is full, the user's quota is used up, or the file would exceed the maximum size.
  package var isOutOfSpace: Bool { [ENOSPC, EDQUOT, EFBIG].contains(code) }
  /// Whether a part of the path does not exist.
  package var isNotFound: Bool { [ENOENT, ENOTDIR].contains(code) }
  /// Whether the path is of a socket, or of a device that is not there.
  package var isNoFile: Bool { code == ENXIO }
  package var category: ErrorCategory { .resource }
  package var problem: String { unsafe String(cString: strerror(code)) }

  static var last: SystemError { SystemError(code: errno) }

  /// The error of a call with this path, which is not made if the path has a null byte.
  static func last(orInvalid path: ByteString) -> SystemError {
    path.bytes.contains(0) ? SystemError(code: ENOENT) : .last
  }
}

/// Releases the advisory lock of a file, if it has one, at once.
///
/// Without this, a process that another thread starts keeps the lock until it has loaded its program, because it begins
/// with a copy of every descriptor.
func releaseLock(_ descriptor: Int32) { flock(descriptor, LOCK_UN) }

/// An open file, pipe or device with unbuffered reads and writes; closed when the last reference is released.
package final class OpenFile: Sendable {
  /// Device and inode of a file; equal for all paths of the same file.
  package struct Identity: Equatable, Sendable {
    private let device: UInt64
    private let inode: UInt64

    init(_ status: stat) {
      (device, inode) = (UInt64(truncatingIfNeeded: status.st_dev), UInt64(status.st_ino))
    }
  }

  package static let standardInput = OpenFile(descriptor: STDIN_FILENO)
  package static let standardOutput = OpenFile(descriptor: STDOUT_FILENO)
  package static let standardError = OpenFile(descriptor: STDERR_FILENO)

  private let descriptor: Int32

  private init(descriptor: Int32) { self.descriptor = descriptor }

  /// Opens a file for reading.
  package init(reading path: String) throws(SystemError) {
    descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .last }
  }

  /// Opens a file for reading whose path may not be UTF-8; a pipe without a writer is not waited for.
  package init(reading path: ByteString) throws(SystemError) {
    guard let cPath = path.bytes.cString else { throw .last(orInvalid: path) }
    descriptor = unsafe open(cPath, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard descriptor >= 0 else { throw .last }
  }

  /// Opens a file, pipe or device for writing, where it is; a file is truncated, and created if it does not exist.
  package init(overwriting path: String) throws(SystemError) {
    descriptor = unsafe open(path, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC | O_NOCTTY, 0o666)
    guard descriptor >= 0 else { throw .last }
  }

  /// Opens a file for appending; creates it if it does not exist.
  package init(appendingTo path: String) throws(SystemError) {
    descriptor = unsafe open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw .last }
  }

  /// Creates a file for appending, with the permissions of another file.
  ///
  /// - Throws: `SystemError`, also if there is a file or link at the path.
  package init(creating path: String, like other: OpenFile) throws(SystemError) {
    descriptor = unsafe open(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw .last }
    _ = fchmod(descriptor, other.status.st_mode & 0o7777)
  }

  deinit {
    guard descriptor > STDERR_FILENO else { return }
    releaseLock(descriptor)
    close(descriptor)
  }

  // MARK: Reading

  /// Whether a read would return without blocking, with bytes or at the end of the file; waits up to `milliseconds`.
  package func isReadable(withinMilliseconds milliseconds: Int32) -> Bool {
    var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return unsafe poll(&request, 1, milliseconds) > 0
  }

  /// Reads the available bytes, at most `buffer.count`, into the start of the buffer.
  ///
  /// - Returns: The number of bytes read; 0 at the end of the file.
  package func read(into buffer: inout [UInt8]) throws(SystemError) -> Int {
    while true {
      let count = unsafe buffer.withUnsafeMutableBytes { bytes in
        #if canImport(Glibc)
          unsafe Glibc.read(descriptor, bytes.baseAddress, bytes.count)
        #else
          unsafe Darwin.read(descriptor, bytes.baseAddress, bytes.count)
        #endif
      }
      if count >= 0 { return count }
      guard errno == EINTR else { throw .last }
    }
  }

  /// All bytes from the current position, at most `limit`.
  package func readAll(limit: Int) throws(SystemError) -> [UInt8] {
    var bytes: [UInt8] = []
    if isRegular { bytes.reserveCapacity(min(max(0, size), limit)) }
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count < limit {
      let count = try read(into: &chunk)
      guard count > 0 else { break }
      bytes += chunk.prefix(min(count, limit - bytes.count))
    }
    return bytes
  }

  /// The first bytes of a regular file, without a change of the position; empty if they cannot be read.
  package func firstBytes(_ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let read = unsafe bytes.withUnsafeMutableBytes { unsafe pread(descriptor, $0.baseAddress, $0.count, 0) }
    return Array(bytes.prefix(max(0, read)))
  }

  // MARK: Writing

  /// Writes all bytes; if that fails on a regular file, removes the partial write.
  package func append(_ bytes: [UInt8]) throws(SystemError) {
    var written = 0
    while written < bytes.count {
      let count = unsafe bytes.withUnsafeBytes { bytes in
        unsafe write(descriptor, bytes.baseAddress?.advanced(by: written), bytes.count - written)
      }
      if count > 0 {
        written += count
      } else if count < 0, errno != EINTR {
        let error = SystemError.last
        if isRegular { try? truncate(to: size - written) }
        throw error
      }
    }
  }

  /// Flushes all writes to disk; no effect for pipes and devices that cannot be synced.
  package func sync() throws(SystemError) {
    guard fsync(descriptor) != 0 else { return }
    guard [EINVAL, ENOTSUP, EROFS].contains(errno) else { throw .last }
  }

  package func truncate(to size: Int) throws(SystemError) {
    guard ftruncate(descriptor, off_t(size)) == 0 else { throw .last }
  }

  /// Takes an exclusive advisory lock; `false` if another process holds it.
  package func lock() -> Bool {
    // On a file system without locks, every lock succeeds.
    flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK
  }

  /// Renames a file atomically and replaces any file at the new path.
  package static func rename(_ path: String, to other: String) throws(SystemError) {
    #if canImport(Glibc)
      let result = unsafe Glibc.rename(path, other)
    #else
      let result = unsafe Darwin.rename(path, other)
    #endif
    guard result == 0 else { throw .last }
  }

  /// Whether two paths are of the same regular file, or of one name in the same folder if there are no files yet.
  package static func isSame(_ path: String, _ other: String) -> Bool {
    var (a, b) = (stat(), stat())
    switch (unsafe stat(path, &a) == 0, unsafe stat(other, &b) == 0) {
    case (true, true): return a.st_mode & S_IFMT == S_IFREG && Identity(a) == Identity(b)
    case (false, false):
      let (first, second) = (parts(of: path), parts(of: other))
      return unsafe first.name == second.name && stat(first.folder, &a) == 0 && stat(second.folder, &b) == 0
        && Identity(a) == Identity(b)
    default: return false
    }
  }

  private static func parts(of path: String) -> (folder: String, name: ByteString) {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return (".", ByteString(path)) }
    return (String(path[...slash]), ByteString(path[path.utf8.index(after: slash)...]))
  }

  /// Removes a file; nothing happens if there is none.
  package static func remove(_ path: String) throws(SystemError) {
    guard unsafe unlink(path) == 0 || errno == ENOENT else { throw .last }
  }

  // MARK: Attributes

  private var status: stat {
    var status = stat()
    _ = unsafe fstat(descriptor, &status)
    return status
  }

  package var isRegular: Bool { status.st_mode & S_IFMT == S_IFREG }
  package var isFolder: Bool { status.st_mode & S_IFMT == S_IFDIR }
  /// Size in bytes.
  package var size: Int { Int(status.st_size) }
  package var identity: Identity { Identity(status) }
}
