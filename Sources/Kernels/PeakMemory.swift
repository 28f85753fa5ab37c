#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The most physical memory that this process has held so far, in bytes; mapped files count as far as they were touched.
package func peakResidentBytes() -> Int {
  var usage = rusage()
  #if canImport(Glibc)
    _ = unsafe getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
  #else
    _ = unsafe getrusage(RUSAGE_SELF, &usage)
    return usage.ru_maxrss
  #endif
}
