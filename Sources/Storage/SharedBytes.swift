import CSignals

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Immutable shared bytes: a mapped file, a copy on the heap, or a slice of either.
///
/// `@unchecked Sendable`: the bytes are written once, in `init`, and only read afterwards.
@safe package final class SharedBytes: @unchecked Sendable {
  @safe private enum Owner {
    /// A mapped file; its registration for reads that fault is `nil` if memory was exhausted.
    case mapping(OpaquePointer?)
    case heap
    /// A slice of another buffer, which it keeps alive.
    case whole(SharedBytes)
  }

  private let base: UnsafeRawPointer
  package let count: Int
  private let owner: Owner
  /// Modification time of the file, in nanoseconds since 1970; `nil` if the bytes are not a whole file.
  package let modificationTime: Int?

  /// Maps a file for reading; pages are loaded on first access.
  ///
  /// - Throws: `FileError` if the file does not exist, is empty or cannot be read.
  package init(mapping path: String) throws(FileError) {
    let (descriptor, status) = try Self.opened(path)
    defer { close(descriptor) }
    count = Int(status.st_size)
    try Self.checkRoom(for: count, path)
    guard let mapped = unsafe mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), unsafe mapped != MAP_FAILED
    else {
      throw .unreadable(path: path, reason: lastSystemError())
    }
    unsafe base = UnsafeRawPointer(mapped)
    owner = unsafe .mapping(pdrop_register_mapped_file(mapped, count, ProcessFaults.cutFileLine(path)))
    modificationTime = status.modificationTime
  }

  /// Reads a whole file. Unlike a mapping, the copy stays valid if another machine removes or truncates the file.
  ///
  /// - Parameter limit: The maximum size of the file, in bytes.
  /// - Throws: `FileError` if the file does not exist, is empty, too large or cannot be read.
  package init(reading path: String, limit: Int) throws(FileError) {
    let (descriptor, status) = try Self.opened(path)
    defer { close(descriptor) }
    guard status.st_size <= limit else {
      throw .unreadable(path: path, reason: "\(status.st_size) bytes, at most \(limit) expected")
    }
    count = Int(status.st_size)
    try Self.checkRoom(for: count, path)
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

  private static func checkRoom(for count: Int, _ path: String) throws(FileError) {
    guard AddressSpace.hasRoom(for: count) else {
      throw .unreadable(
        path: path, reason: "the limit on address space has no room for \(count) bytes; raise ulimit -v")
    }
  }

  /// Opens a nonempty regular file.
  private static func opened(_ path: String) throws(FileError) -> (descriptor: Int32, status: stat) {
    // Without O_NONBLOCK, opening a pipe would block until it has a writer.
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

  /// Allocates `count` bytes, aligned to 64 bytes, and initializes them with `fill`.
  ///
  /// - Parameter fill: Receives the address of the first byte and must write all `count` bytes.
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
    case .mapping(let registration):
      unsafe pdrop_unregister_mapped_file(registration)
      unsafe munmap(UnsafeMutableRawPointer(mutating: base), count)
    case .heap: unsafe base.deallocate()
    case .whole: break
    }
  }

  /// A slice of the bytes, without a copy.
  ///
  /// - Precondition: `range` lies within `0..<count`.
  package func part(_ range: Range<Int>) -> SharedBytes {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "part: \(range) of \(count) bytes")
    return SharedBytes(range, of: self)
  }

  /// The byte at an offset.
  ///
  /// - Precondition: `offset` lies within `0..<count`.
  package subscript(offset: Int) -> UInt8 {
    precondition(offset >= 0 && offset < count, "byte \(offset) of \(count)")
    return unsafe base.load(fromByteOffset: offset, as: UInt8.self)
  }

  /// The little-endian number at an offset of any alignment.
  ///
  /// - Precondition: All its bytes lie within `0..<count`.
  package func littleEndian<Value: FixedWidthInteger>(_ offset: Int, as type: Value.Type = Value.self) -> Value {
    let size = MemoryLayout<Value>.size
    precondition(offset >= 0 && offset <= count - size, "\(size) bytes at \(offset) of \(count)")
    return Value(littleEndian: unsafe base.loadUnaligned(fromByteOffset: offset, as: Value.self))
  }

  /// A copy of a range of the bytes.
  ///
  /// - Precondition: `range` lies within `0..<count`.
  package func copy(_ range: Range<Int>) -> [UInt8] {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "copy: \(range) of \(count) bytes")
    return unsafe [UInt8](UnsafeRawBufferPointer(start: base + range.lowerBound, count: range.count))
  }

  /// Gives the pages within a range of a mapped file back to the system, which reads them again when they are used.
  ///
  /// No effect on bytes in memory. Keeps the memory of the process small while a large file is converted.
  ///
  /// - Precondition: `range` lies within `0..<count`.
  package func releasePages(_ range: Range<Int>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "releasePages: \(range) of \(count) bytes")
    switch owner {
    case .whole(let whole):
      let offset = unsafe base - whole.base
      whole.releasePages(range.lowerBound + offset..<range.upperBound + offset)
    case .mapping:
      // A page on the border may be in use by the neighbor.
      let size = Int(getpagesize())
      let (first, end) = ((range.lowerBound + size - 1) / size * size, range.upperBound / size * size)
      guard first < end else { return }
      unsafe madvise(UnsafeMutableRawPointer(mutating: base + first), end - first, MADV_DONTNEED)
    case .heap: break
    }
  }

  /// The address of a byte; valid while `self` is alive.
  package func address(of offset: Int) -> UnsafeRawPointer { unsafe base + offset }
}

extension stat {
  /// Modification time in nanoseconds since 1970.
  var modificationTime: Int {
    #if canImport(Glibc)
      let time = st_mtim
    #else
      let time = st_mtimespec
    #endif
    // Overflows only for times centuries away.
    return time.tv_sec &* 1_000_000_000 &+ time.tv_nsec
  }
}

/// Size of a large page; allocations of at least two of them request large pages.
private let largePageBytes = 2 << 20

/// Uninitialized bytes, aligned to 64 bytes; freed with `deallocate()`.
///
/// Allocations of 4 MiB and more request large pages. A request then causes some hundred page faults instead of some
/// ten thousand, and matmuls cause fewer TLB misses. Exhausted memory ends the process, see `ProcessFaults`.
package func allocateBytes(_ count: Int) -> UnsafeMutableRawPointer {
  let isLarge = count >= 2 * largePageBytes
  guard count < AddressSpace.checkedBytes || AddressSpace.hasRoom(for: count) else {
    ProcessFaults.memoryIsExhausted(allocating: count)
  }
  // Not `allocate`, which ends the process by a signal; `deallocate()` frees memory of `posix_memalign` too.
  var bytes: UnsafeMutableRawPointer?
  let status = unsafe posix_memalign(&bytes, isLarge ? largePageBytes : 64, max(count, 1))
  guard status == 0, let bytes = unsafe bytes else { ProcessFaults.memoryIsExhausted(allocating: count) }
  #if canImport(Glibc)
    // Only a hint: the system may still use small pages. Bytes after the last whole large page use small pages.
    if isLarge { unsafe _ = madvise(bytes, count / largePageBytes * largePageBytes, MADV_HUGEPAGE) }
  #endif
  return unsafe bytes
}

/// Uninitialized floats, aligned to 64 bytes; freed with `deallocate()`.
package func allocateFloats(_ count: Int) -> UnsafeMutablePointer<Float> {
  let bytes = unsafe allocateBytes(max(count, 1) * MemoryLayout<Float>.stride)
  return unsafe bytes.bindMemory(to: Float.self, capacity: max(count, 1))
}
