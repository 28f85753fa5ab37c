#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The limits on the address space of this process, as set by `ulimit -v` and `ulimit -d`.
///
/// An allocation beyond them fails. Swift then ends the process by a signal, and some libraries try again for ever. So
/// large allocations, threads and libraries are checked against them first.
package enum AddressSpace {
  /// Bytes left to small allocations, which are not checked.
  private static let reserve = 24 << 20
  /// Bytes of an allocation that is large enough to be checked.
  static let checkedBytes = 16 << 10

  /// The limit in bytes; `nil` if there is none.
  package static var limit: Int? { limits.map(\.bytes).min() }

  /// Bytes that can still be allocated while enough is left for small allocations; `nil` without a limit.
  package static var available: Int? {
    let limits = limits
    guard !limits.isEmpty, let pages = pageCounts() else { return nil }
    return limits.map { limit in max(0, limit.bytes - (limit.countsAll ? pages.all : pages.data) - reserve) }.min()
  }

  /// Whether `bytes` can be allocated and enough is left for small allocations.
  package static func hasRoom(for bytes: Int) -> Bool { available.map { bytes <= $0 } ?? true }

  /// Whether OpenBLAS and oneDNN may be loaded, which need much address space; our own kernels need none.
  package static var allowsLibraries: Bool { limit.map { $0 >= 512 << 20 } ?? true }

  /// The limits that are set, on all of the address space and on the data in it.
  private static var limits: [(bytes: Int, countsAll: Bool)] {
    #if canImport(Glibc)
      return [(RLIMIT_AS, true), (RLIMIT_DATA, false)].compactMap { resource, countsAll in
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(resource.rawValue), &limit) == 0, limit.rlim_cur <= Int.max else {
          return nil
        }
        return (Int(limit.rlim_cur), countsAll)
      }
    #else
      return []
    #endif
  }

  /// Bytes of all mappings of the process, and of the writable private ones; `nil` if unknown.
  private static func pageCounts() -> (all: Int, data: Int)? {
    let descriptor = unsafe open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var text = InlineArray<256, UInt8>(repeating: 0)
    var span = text.mutableSpan
    let count = unsafe span.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
    // Seven numbers: all, resident, shared, text, libraries, data and stack, dirty.
    var numbers = InlineArray<7, Int>(repeating: 0)
    var index = 0
    for byte in 0..<max(0, count) {
      if text[byte] == UInt8(ascii: " ") {
        index += 1
      } else if index < 7, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(text[byte]) {
        numbers[index] = numbers[index] &* 10 &+ Int(text[byte] - UInt8(ascii: "0"))
      }
    }
    guard index >= 5 else { return nil }
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    return (numbers[0] * page, numbers[5] * page)
  }
}
