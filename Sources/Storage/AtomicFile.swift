#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A file that is written to a temporary path and renamed to its final path when it is complete.
///
/// The temporary path is the final path with `.partial` appended. The partial file is locked, so only one process
/// writes it at a time. It is removed if the value is destroyed before `finish`. The next writer overwrites a partial
/// file left by a killed process.
package struct AtomicFile: ~Copyable {
  /// The suffix of the path until the file is complete.
  private static let partialSuffix = ".partial"

  private let path: String
  private let partialPath: String
  private let descriptor: Int32
  private var isFinished = false

  /// Creates the partial file; `nil` if another process or thread is writing it.
  ///
  /// - Throws: `FileError` if the file cannot be created.
  package init?(_ path: String) throws(FileError) {
    let partialPath = path + Self.partialSuffix
    let descriptor = unsafe open(partialPath, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o666)
    guard descriptor >= 0 else { throw .unwritable(path: partialPath, reason: lastSystemError()) }
    do throws(FileError) {
      guard try Self.acquire(descriptor, at: partialPath) else {
        close(descriptor)
        return nil
      }
    } catch {
      close(descriptor)
      throw error
    }
    self.path = path
    self.partialPath = partialPath
    self.descriptor = descriptor
  }

  /// Locks and truncates an open file; false if another writer holds it or has just finished it.
  private static func acquire(_ descriptor: Int32, at path: String) throws(FileError) -> Bool {
    if flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      if errno == EWOULDBLOCK { return false }
      throw .unwritable(path: path, reason: lastSystemError())
    }
    // The previous holder of the lock may have renamed the file to its final path, where it must not be truncated.
    var (opened, named) = (stat(), stat())
    guard unsafe fstat(descriptor, &opened) == 0, unsafe lstat(path, &named) == 0, opened.st_ino == named.st_ino,
      opened.st_dev == named.st_dev
    else { return false }
    guard opened.st_mode & S_IFMT == S_IFREG, opened.st_nlink == 1 else { throw .notAFile(path: path) }
    guard ftruncate(descriptor, 0) == 0 else { throw .unwritable(path: path, reason: lastSystemError()) }
    return true
  }

  deinit {
    guard !isFinished else { return }
    unsafe unlink(partialPath)
    releaseLock(descriptor)
    close(descriptor)
  }

  /// The final name of a partial file; `nil` if `name` is not the name of a partial file.
  package static func finalName(ofPartial name: String) -> String? {
    name.hasSuffix(partialSuffix) ? String(name.dropLast(partialSuffix.count)) : nil
  }

  /// Appends bytes.
  ///
  /// - Throws: `FileError`, for example on a full disk.
  package mutating func write(_ bytes: SharedBytes) throws(FileError) {
    var offset = 0
    while offset < bytes.count {
      // Linux and macOS write at most 2 GiB per call.
      let written = unsafe Self.write(descriptor, bytes.address(of: offset), min(bytes.count - offset, 1 << 30))
      if written > 0 {
        offset += written
      } else if errno != EINTR {
        throw .unwritable(path: partialPath, reason: lastSystemError())
      }
    }
  }

  /// Renames the file to its final path and replaces any existing file.
  ///
  /// - Parameters:
  ///   - seconds: The modification time to set, in seconds since 1970; `nil` to keep the actual time.
  ///   - isDurable: Whether to sync the bytes to disk before the rename, so that a power failure cannot leave an empty
  ///     file at the final path. Not needed if readers verify the whole file and can recompute it.
  package mutating func finish(modified seconds: Int?, isDurable: Bool = true) throws(FileError) {
    guard !isDurable || fsync(descriptor) == 0, setTime(seconds), unsafe rename(partialPath, path) == 0
    else { throw .unwritable(path: path, reason: lastSystemError()) }
    isFinished = true
    releaseLock(descriptor)
    close(descriptor)
  }

  private func setTime(_ seconds: Int?) -> Bool {
    guard let seconds else { return true }
    var times = timespec()
    times.tv_sec = seconds
    let both = [times, times]
    return unsafe futimens(descriptor, both) == 0
  }

  private static func write(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
    #if canImport(Glibc)
      unsafe Glibc.write(descriptor, bytes, count)
    #else
      unsafe Darwin.write(descriptor, bytes, count)
    #endif
  }
}

extension AtomicFile {
  /// Writes a whole file, atomically if it is a regular file or does not exist.
  ///
  /// A device or pipe is written where it is, and a symbolic link is followed. A path of this process's standard output
  /// or error, such as `/dev/stdout`, is written after what they have, whatever they are. `-` is standard output.
  ///
  /// - Throws: `FileError`; a regular file is then unchanged.
  package static func write(_ bytes: [UInt8], to path: String) throws(FileError) {
    do throws(SystemError) {
      if let stream = standardStream(at: path) { return try stream.append(bytes) }
      guard isReplaceable(path) else { return try OpenFile(overwriting: path).append(bytes) }
    } catch {
      throw .unwritable(path: path, reason: error.problem)
    }
    guard var file = try AtomicFile(path) else {
      throw .unwritable(path: path, reason: "another process is writing it")
    }
    file.copyMode(of: path)
    try file.write(SharedBytes(copying: bytes))
    try file.finish(modified: nil)
  }

  /// Whether a path has no file or a regular one, not a link, which another file may replace.
  package static func isReplaceable(_ path: String) -> Bool {
    var status = stat()
    return unsafe lstat(path, &status) != 0 || status.st_mode & S_IFMT == S_IFREG
  }

  private static func standardStream(at path: String) -> OpenFile? {
    if path == "-" { return .standardOutput }
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { return nil }
    let identity = OpenFile.Identity(status)
    return [OpenFile.standardOutput, .standardError].first { $0.identity == identity }
  }

  /// Copies the permissions of an existing file, which the new one replaces.
  private func copyMode(of path: String) {
    var status = stat()
    guard unsafe lstat(path, &status) == 0 else { return }
    _ = fchmod(descriptor, status.st_mode & 0o7777)
  }
}

/// A regular file in a folder shared by several processes; symbolic links are not followed.
package struct FolderEntry: Sendable {
  package let path: String
  package let byteCount: Int
  /// Nanoseconds since 1970.
  package let modificationTime: Int

  /// The entry at `path`; `nil` if it is not a regular file.
  package init?(_ path: String) {
    var status = stat()
    guard unsafe lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    self.path = path
    byteCount = Int(status.st_size)
    modificationTime = status.modificationTime
  }

  /// Removes the file, but never a folder that has replaced it.
  ///
  /// - Returns: Whether the file no longer exists, including after removal by another process.
  package func remove() -> Bool { unsafe unlink(path) == 0 || errno == ENOENT }

  /// Sets the modification time to the current time of the file system, if permissions allow it.
  package static func touch(_ path: String) { unsafe _ = utimensat(AT_FDCWD, path, nil, 0) }
}
