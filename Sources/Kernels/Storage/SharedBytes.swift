#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// Why a file could not be mapped.
package enum FileError: Error, Equatable, CustomStringConvertible {
  case notFound(path: String)
  case notAFile(path: String)
  case empty(path: String)
  case unreadable(path: String, reason: String)

  package var description: String {
    switch self {
    case .notFound(let path): "\(path): no such file"
    case .notAFile(let path): "\(path): expected a file, found a directory or device"
    case .empty(let path): "\(path): the file is empty"
    case .unreadable(let path, let reason): "\(path): cannot be read (\(reason))"
    }
  }
}

/// Bytes that never change and are shared by all who read them: a mapped file, or a copy on the heap.
///
/// `@unchecked Sendable`: the bytes are written once, in `init`, and only read afterwards.
@safe package final class SharedBytes: @unchecked Sendable {
  private let base: UnsafeRawPointer
  package let count: Int
  private let isMapped: Bool

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
    isMapped = true
  }

  /// Copies the bytes of `values`, aligned to 64 bytes.
  package init<Element: BitwiseCopyable>(copying values: [Element]) {
    count = values.count * MemoryLayout<Element>.stride
    let copy = unsafe allocateBytes(count)
    unsafe values.withUnsafeBytes { source in
      unsafe copy.copyMemory(from: source.baseAddress ?? UnsafeRawPointer(copy), byteCount: source.count)
    }
    unsafe base = UnsafeRawPointer(copy)
    isMapped = false
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
    isMapped = false
  }

  deinit {
    if isMapped {
      unsafe munmap(UnsafeMutableRawPointer(mutating: base), count)
    } else {
      unsafe base.deallocate()
    }
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

private func lastSystemError() -> String { unsafe String(cString: strerror(errno)) }
