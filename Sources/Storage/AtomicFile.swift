#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A file being written that others see whole or not at all.
///
/// It grows beside its place under the same name with `.partial` added, locked so that of several processes one writes, and
/// takes its place when it is finished. One that is given up is removed; what a killed process leaves is overwritten by the
/// next that writes.
package struct FileReplacement: ~Copyable {
  /// What a file's name has at its end until the file is whole.
  private static let partialEnding = ".partial"

  private let path: String
  private let partialPath: String
  private let descriptor: Int32
  private var isFinished = false

  /// Begins a file; `nil` where another process, or another thread, is writing it.
  ///
  /// - Throws: `FileError` when the folder takes no file.
  package init?(_ path: String) throws(FileError) {
    let partialPath = path + Self.partialEnding
    let descriptor = unsafe open(partialPath, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o666)
    guard descriptor >= 0 else { throw .unwritable(path: partialPath, reason: lastSystemError()) }
    do throws(FileError) {
      guard try Self.take(descriptor, at: partialPath) else {
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

  /// Locks and empties an opened file; false where it is, or has just been, somebody else's.
  private static func take(_ descriptor: Int32, at path: String) throws(FileError) -> Bool {
    if flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      if errno == EWOULDBLOCK { return false }
      throw .unwritable(path: path, reason: lastSystemError())
    }
    // Whoever held the lock until now may have moved the file to its place, where it must not be touched.
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
    close(descriptor)
  }

  /// The name that a file with this one will have when it is whole; `nil` for a name that says nothing of that.
  package static func finalName(ofPartial name: String) -> String? {
    name.hasSuffix(partialEnding) ? String(name.dropLast(partialEnding.count)) : nil
  }

  /// Adds bytes to the end.
  ///
  /// - Throws: `FileError`, as on a full disk.
  package mutating func write(_ bytes: SharedBytes) throws(FileError) {
    var offset = 0
    while offset < bytes.count {
      // Systems write no more than 2 GiB at a time.
      let written = unsafe Self.write(descriptor, bytes.address(of: offset), min(bytes.count - offset, 1 << 30))
      if written > 0 {
        offset += written
      } else if errno != EINTR {
        throw .unwritable(path: partialPath, reason: lastSystemError())
      }
    }
  }

  /// Puts the file in its place, where it replaces what is there.
  ///
  /// - Parameters:
  ///   - seconds: When the file is to say that it was last modified, in seconds since 1970; `nil` for when it was.
  ///   - isDurable: Whether its bytes are on the disk before its name is, so that a loss of power cannot leave a name without
  ///     bytes; not needed where whoever reads the file checks all of it and can do without.
  package mutating func finish(modified seconds: Int?, isDurable: Bool = true) throws(FileError) {
    guard !isDurable || fsync(descriptor) == 0, setTime(seconds), unsafe rename(partialPath, path) == 0
    else { throw .unwritable(path: path, reason: lastSystemError()) }
    isFinished = true
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
