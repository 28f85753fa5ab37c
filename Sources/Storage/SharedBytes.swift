#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Bytes that never change and are shared by all who read them: a mapped file, a copy on the heap, or a part of either.
///
/// `@unchecked Sendable`: the bytes are written once, in `init`, and only read afterwards.
@safe package final class SharedBytes: @unchecked Sendable {
  private enum Owner {
    case mapping, heap
    /// These bytes are some of those.
    case whole(SharedBytes)
  }

  private let base: UnsafeRawPointer
  package let count: Int
  private let owner: Owner
  /// When the mapped file was last modified, in nanoseconds since 1970; `nil` where the bytes are no whole file.
  package let modificationTime: Int?

  /// Maps a file for reading; its pages are loaded when they are first touched.
  ///
  /// - Throws: `FileError` when there is no such file, or it is empty or not readable.
  package init(mapping path: String) throws(FileError) {
    let (descriptor, status) = try Self.opened(path)
    defer { close(descriptor) }
    count = Int(status.st_size)
    guard let mapped = unsafe mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), unsafe mapped != MAP_FAILED
    else {
      throw .unreadable(path: path, reason: lastSystemError())
    }
    unsafe base = UnsafeRawPointer(mapped)
    owner = .mapping
    modificationTime = status.modificationTime
  }

  /// Reads a file whole. Unlike a mapping it stays as it is when another machine removes or cuts the file.
  ///
  /// - Parameter limit: The longest file that is read, in bytes.
  /// - Throws: `FileError` when there is no such file, or it is empty, too long or not readable.
  package init(reading path: String, limit: Int) throws(FileError) {
    let (descriptor, status) = try Self.opened(path)
    defer { close(descriptor) }
    guard status.st_size <= limit else {
      throw .unreadable(path: path, reason: "\(status.st_size) bytes, at most \(limit) expected")
    }
    count = Int(status.st_size)
    let bytes = unsafe allocateBytes(count)
    var offset = 0
    while offset < count {
      let read = unsafe Self.read(descriptor, bytes + offset, count - offset)
      if read > 0 {
        offset += read
      } else if read == 0 || errno != EINTR {
        let reason = read == 0 ? "it ends after \(offset) of \(count) bytes" : lastSystemError()
        unsafe bytes.deallocate()
        throw .unreadable(path: path, reason: reason)
      }
    }
    unsafe base = UnsafeRawPointer(bytes)
    owner = .heap
    modificationTime = status.modificationTime
  }

  /// Opens a regular file that is not empty.
  private static func opened(_ path: String) throws(FileError) -> (descriptor: Int32, status: stat) {
    // Opening a pipe would otherwise wait for somebody to write to it.
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      throw errno == ENOENT || errno == ENOTDIR
        ? .notFound(path: path) : .unreadable(path: path, reason: lastSystemError())
    }
    var status = stat()
    let error: FileError
    if unsafe fstat(descriptor, &status) != 0 {
      error = .unreadable(path: path, reason: lastSystemError())
    } else if status.st_mode & S_IFMT != S_IFREG {
      error = .notAFile(path: path)
    } else if status.st_size <= 0 {
      error = .empty(path: path)
    } else {
      return (descriptor, status)
    }
    close(descriptor)
    throw error
  }

  private static func read(_ descriptor: Int32, _ bytes: UnsafeMutableRawPointer, _ count: Int) -> Int {
    #if canImport(Glibc)
      unsafe Glibc.read(descriptor, bytes, count)
    #else
      unsafe Darwin.read(descriptor, bytes, count)
    #endif
  }

  /// Copies the bytes of `values`, aligned to 64 bytes.
  package init<Element: BitwiseCopyable>(copying values: [Element]) {
    count = values.count * MemoryLayout<Element>.stride
    let copy = unsafe allocateBytes(count)
    unsafe values.withUnsafeBytes { source in
      unsafe copy.copyMemory(from: source.baseAddress ?? UnsafeRawPointer(copy), byteCount: source.count)
    }
    unsafe base = UnsafeRawPointer(copy)
    owner = .heap
    modificationTime = nil
  }

  /// Bytes that `fill` writes, aligned to 64 bytes.
  ///
  /// - Parameter fill: Receives the first of `count` bytes and must write all of them.
  package init(count: Int, filledBy fill: (UnsafeMutableRawPointer) -> Void) {
    precondition(count >= 0, "SharedBytes: \(count) bytes")
    self.count = count
    let bytes = unsafe allocateBytes(count)
    unsafe fill(bytes)
    unsafe base = UnsafeRawPointer(bytes)
    owner = .heap
    modificationTime = nil
  }

  private init(_ range: Range<Int>, of whole: SharedBytes) {
    count = range.count
    unsafe base = whole.address(of: range.lowerBound)
    owner = .whole(whole)
    modificationTime = nil
  }

  deinit {
    switch owner {
    case .mapping: unsafe munmap(UnsafeMutableRawPointer(mutating: base), count)
    case .heap: unsafe base.deallocate()
    case .whole: break
    }
  }

  /// A range of the bytes, where they are.
  ///
  /// - Precondition: `range` lies within `0..<count`.
  package func part(_ range: Range<Int>) -> SharedBytes {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "part: \(range) of \(count) bytes")
    return SharedBytes(range, of: self)
  }

  /// One of the bytes.
  ///
  /// - Precondition: `offset` lies within `0..<count`.
  package subscript(offset: Int) -> UInt8 {
    precondition(offset >= 0 && offset < count, "byte \(offset) of \(count)")
    return unsafe base.load(fromByteOffset: offset, as: UInt8.self)
  }

  /// A copy of a range of the bytes.
  ///
  /// - Precondition: `range` lies within `0..<count`.
  package func copy(_ range: Range<Int>) -> [UInt8] {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "copy: \(range) of \(count) bytes")
    return unsafe [UInt8](UnsafeRawBufferPointer(start: base + range.lowerBound, count: range.count))
  }

  /// The address of a byte; valid while `self` lives.
  package func address(of offset: Int) -> UnsafeRawPointer { unsafe base + offset }
}

extension stat {
  /// In nanoseconds since 1970.
  var modificationTime: Int {
    #if canImport(Glibc)
      let time = st_mtim
    #else
      let time = st_mtimespec
    #endif
    // Wraps only for times that no file has, centuries away.
    return time.tv_sec &* 1_000_000_000 &+ time.tv_nsec
  }
}

/// From this size on, memory is taken in large pages where the system has them.
private let largePageBytes = 2 << 20

/// Room for bytes on a 64-byte boundary, not initialised; freed with `deallocate()`.
///
/// Memory of several megabytes asks for large pages: a request then touches new memory some hundred times instead of some ten
/// thousand times, each of which stops the program, and products look up fewer addresses.
package func allocateBytes(_ count: Int) -> UnsafeMutableRawPointer {
  #if canImport(Glibc)
    if count >= 2 * largePageBytes {
      let bytes = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: largePageBytes)
      // A wish: where it is not granted, pages are small. Bytes after the last whole page stay in small ones.
      unsafe _ = madvise(bytes, count / largePageBytes * largePageBytes, MADV_HUGEPAGE)
      return unsafe bytes
    }
  #endif
  return .allocate(byteCount: max(count, 1), alignment: 64)
}

/// Room for floats on a 64-byte boundary, not initialised; freed with `deallocate()`.
package func allocateFloats(_ count: Int) -> UnsafeMutablePointer<Float> {
  let bytes = unsafe allocateBytes(max(count, 1) * MemoryLayout<Float>.stride)
  return unsafe bytes.bindMemory(to: Float.self, capacity: max(count, 1))
}

/// Why a file could not be mapped, or not be written.
package enum FileError: UserFacingError, Equatable {
  case notFound(path: String)
  case notAFile(path: String)
  case empty(path: String)
  case unreadable(path: String, reason: String)
  case unwritable(path: String, reason: String)

  package var category: ErrorCategory { .resource }
  package var problem: String {
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

/// The few lines that Git LFS leaves in place of a large file until it is fetched.
///
/// Source: Git LFS's specification of pointer files, version 1.
package enum FilePointer {
  package static let beginning = Array("version https://git-lfs.github.com/spec/".utf8)

  /// What such a file is and how to get the one that it stands for.
  package static let reason = "a pointer of Git LFS in place of the file; fetch the file itself with 'git lfs pull'"

  /// Whether a file begins as such pointers do.
  package static func isFound(_ bytes: some Collection<UInt8>) -> Bool { bytes.starts(with: beginning) }
}
