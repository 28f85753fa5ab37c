import Foundation

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The available memory, read from the `/proc` and `/sys` file systems.
package struct SystemMemory {
  private let system: SystemFiles

  /// - Parameter root: The prefix of all system paths; a temporary folder in tests.
  package init(root: String = "") { system = SystemFiles(root: root) }

  /// The fraction of the available memory that a batch uses by default.
  private static let defaultFraction = 0.9

  /// The default memory limit of a batch in bytes: most of the available memory, plus the memory already allocated.
  ///
  /// Pages of mapped weights are reclaimable, so they count as available and not as allocated.
  package var defaultLimit: Int {
    guard let available else { return Int(Self.defaultFraction * Double(ProcessInfo.processInfo.physicalMemory)) }
    let allocated = system.kilobytes(after: "RssAnon", in: "/proc/self/status") ?? 0
    return Int(Self.defaultFraction * (Double(available) + Double(allocated)))
  }

  /// Available bytes, the minimum over the machine and all control groups of the process; `nil` if unknown.
  package var available: Int? {
    ([system.kilobytes(after: "MemAvailable", in: "/proc/meminfo")] + controlGroups).compactMap(\.self).min()
  }

  /// Available bytes in each control group of the process and in their parent groups.
  ///
  /// `memory.high` counts like a limit, because the system slows a process above it down to a crawl.
  private var controlGroups: [Int?] {
    let groups = ControlGroups(system)
    return groups.unified.map { folder in
      remaining(folder, limits: ["memory.max", "memory.high"], "memory.current", "inactive_file")
    }
      + groups.folders(of: "memory").map { folder in
        remaining(folder, limits: ["memory.limit_in_bytes"], "memory.usage_in_bytes", "total_inactive_file")
      }
  }

  /// The smallest limit minus usage plus reclaimable pages of a group; `nil` without a limit.
  private func remaining(_ folder: String, limits: [String], _ usage: String, _ reclaimable: String) -> Int? {
    guard let limit = limits.compactMap({ system.number(folder + "/" + $0) }).min() else { return nil }
    let usage = system.number(folder + "/" + usage) ?? 0
    let free = system.number(after: reclaimable + " ", in: folder + "/memory.stat") ?? 0
    return max(0, limit - (usage - min(usage, free)))
  }
}

/// Peak RSS of this process in bytes; pages of mapped files count once they are touched.
package func peakResidentBytes() -> Int {
  // `getrusage` starts with the peak of the process that started this one.
  if let peak = SystemFiles(root: "").kilobytes(after: "VmHWM", in: "/proc/self/status") { return peak }
  var usage = rusage()
  #if canImport(Glibc)
    _ = unsafe getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
  #else
    _ = unsafe getrusage(RUSAGE_SELF, &usage)
    return usage.ru_maxrss
  #endif
}
