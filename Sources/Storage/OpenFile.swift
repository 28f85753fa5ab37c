#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// What the system answered to a request about an open file.
package struct SystemError: UserFacingError, Equatable {
  package let code: Int32

  /// Whether there is no room: on the disk, in the user's quota, or below the longest file allowed.
  package var isOutOfSpace: Bool { [ENOSPC, EDQUOT, EFBIG].contains(code) }
  package var category: ErrorCategory { .resource }
  package var problem: String { unsafe String(cString: strerror(code)) }

  fileprivate static var last: SystemError { SystemError(code: errno) }
}

/// An open file, pipe or device, read and written without a buffer in between; closed with its last owner.
package final class OpenFile: Sendable {
  /// Which file it is, whatever the path it was opened by.
  package struct Identity: Equatable, Sendable {
    fileprivate let device: UInt64
    fileprivate let number: UInt64
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

  /// Opens a file for writing at its end; makes it if need be.
  package init(appendingTo path: String) throws(SystemError) {
    descriptor = unsafe open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw .last }
  }

  deinit { if descriptor > STDERR_FILENO { close(descriptor) } }

  // MARK: Reading

  /// Whether a read would return at once, with bytes or at the end; waits for that as long as is said.
  package func isReadable(withinMilliseconds milliseconds: Int32) -> Bool {
    var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return unsafe poll(&request, 1, milliseconds) > 0
  }

  /// Reads what is there, at most as much as the buffer holds, into its first bytes.
  ///
  /// - Returns: How many bytes were read, 0 at the end.
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

  /// Writes all of the bytes, or, to a regular file, none of them.
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

  /// Returns when what was written is on the disk; at once where there is none.
  package func sync() throws(SystemError) {
    guard fsync(descriptor) != 0 else { return }
    guard [EINVAL, ENOTSUP, EROFS].contains(errno) else { throw .last }
  }

  package func truncate(to size: Int) throws(SystemError) {
    guard ftruncate(descriptor, off_t(size)) == 0 else { throw .last }
  }

  /// Keeps others that ask from having the file at the same time; `false` when somebody has it.
  package func lock() -> Bool {
    // A file system that knows no locks grants all.
    flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK
  }

  /// Gives a file another path, in the place of what is there, at once.
  package static func rename(_ path: String, to other: String) throws(SystemError) {
    #if canImport(Glibc)
      let result = unsafe Glibc.rename(path, other)
    #else
      let result = unsafe Darwin.rename(path, other)
    #endif
    guard result == 0 else { throw .last }
  }

  // MARK: What it is

  private var status: stat {
    var status = stat()
    _ = unsafe fstat(descriptor, &status)
    return status
  }

  package var isRegular: Bool { status.st_mode & S_IFMT == S_IFREG }
  /// In bytes.
  package var size: Int { Int(status.st_size) }
  package var identity: Identity {
    let status = status
    return Identity(device: UInt64(truncatingIfNeeded: status.st_dev), number: UInt64(status.st_ino))
  }
}
