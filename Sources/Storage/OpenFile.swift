#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// An `errno` of a system call on an open file.
package struct SystemError: UserFacingError, Equatable {
  package let code: Int32

  /// Whether the disk is full, the user's quota is used up, or the file would exceed the maximum size.
  package var isOutOfSpace: Bool { [ENOSPC, EDQUOT, EFBIG].contains(code) }
  package var category: ErrorCategory { .resource }
  package var problem: String { unsafe String(cString: strerror(code)) }

  fileprivate static var last: SystemError { SystemError(code: errno) }
}

/// An open file, pipe or device with unbuffered reads and writes; closed when the last reference is released.
package final class OpenFile: Sendable {
  /// Device and inode of a file; equal for all paths of the same file.
  package struct Identity: Equatable, Sendable {
    fileprivate let device: UInt64
    fileprivate let inode: UInt64
  }

  package static let standardInput = OpenFile(descriptor: STDIN_FILENO)
  package static let standardOutput = OpenFile(descriptor: STDOUT_FILENO)

  private let descriptor: Int32

  private init(descriptor: Int32) { self.descriptor = descriptor }

  /// Opens a file for reading.
  package init(reading path: String) throws(SystemError) {
    descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .last }
  }

  /// Opens a file for appending; creates it if it does not exist.
  package init(appendingTo path: String) throws(SystemError) {
    descriptor = unsafe open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw .last }
  }

  deinit { if descriptor > STDERR_FILENO { close(descriptor) } }

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

  // MARK: Attributes

  private var status: stat {
    var status = stat()
    _ = unsafe fstat(descriptor, &status)
    return status
  }

  package var isRegular: Bool { status.st_mode & S_IFMT == S_IFREG }
  /// Size in bytes.
  package var size: Int { Int(status.st_size) }
  package var identity: Identity {
    let status = status
    return Identity(device: UInt64(truncatingIfNeeded: status.st_dev), inode: UInt64(status.st_ino))
  }
}
