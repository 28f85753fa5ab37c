#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
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
    // Opening a pipe would otherwise wait for somebody to write to it.
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      throw errno == ENOENT ? .notFound(path: path) : .unreadable(path: path, reason: lastSystemError())
    }
    defer { close(descriptor) }
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else { throw .unreadable(path: path, reason: lastSystemError()) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw .notAFile(path: path) }
    guard status.st_size > 0 else { throw .empty(path: path) }
    count = Int(status.st_size)
    guard let mapped = unsafe mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), unsafe mapped != MAP_FAILED
    else {
      throw .unreadable(path: path, reason: lastSystemError())
    }
    unsafe base = UnsafeRawPointer(mapped)
    owner = .mapping
    modificationTime = status.modificationTime
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
  init(count: Int, filledBy fill: (UnsafeMutableRawPointer) -> Void) {
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
  func address(of offset: Int) -> UnsafeRawPointer { unsafe base + offset }
}

extension stat {
  /// In nanoseconds since 1970.
  fileprivate var modificationTime: Int {
    #if canImport(Glibc)
      let time = st_mtim
    #else
      let time = st_mtimespec
    #endif
    // Wraps only for times that no file has, centuries away.
    return time.tv_sec &* 1_000_000_000 &+ time.tv_nsec
  }
}
