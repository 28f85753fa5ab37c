#if canImport(Glibc)
  internal import Glibc
#endif

/// From this size on, memory is taken in large pages where the system has them.
private let largePageBytes = 2 << 20

/// Room for bytes on a 64-byte boundary, not initialised; freed with `deallocate()`.
///
/// Memory of several megabytes asks for large pages: a request then touches new memory some hundred times instead of some ten
/// thousand times, each of which stops the program, and products look up fewer addresses.
func allocateBytes(_ count: Int) -> UnsafeMutableRawPointer {
  #if canImport(Glibc)
    if count >= 2 * largePageBytes {
      let bytes = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: largePageBytes)
      // A wish: where it is not granted, pages are small. Bytes behind the last whole page stay in small ones.
      unsafe _ = madvise(bytes, count / largePageBytes * largePageBytes, MADV_HUGEPAGE)
      return unsafe bytes
    }
  #endif
  return .allocate(byteCount: max(count, 1), alignment: 64)
}

/// Room for floats on a 64-byte boundary, not initialised; freed with `deallocate()`.
func allocateFloats(_ count: Int) -> UnsafeMutablePointer<Float> {
  let bytes = unsafe allocateBytes(max(count, 1) * MemoryLayout<Float>.stride)
  return unsafe bytes.bindMemory(to: Float.self, capacity: max(count, 1))
}
