import Foundation

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The available memory, read from the `/proc` and `/sys` file systems.
package struct SystemMemory {
  /// The prefix of all system paths; a temporary folder in tests.
  private let root: String

  package init(root: String = "") { self.root = root }

  /// The fraction of the available memory that a batch uses by default.
  private static let defaultFraction = 0.9

  /// The default memory limit of a batch in bytes: most of the available memory, plus the memory already allocated.
  ///
  /// Pages of mapped weights are reclaimable, so they count as available and not as allocated.
  package var defaultLimit: Int {
    guard let available else { return Int(Self.defaultFraction * Double(ProcessInfo.processInfo.physicalMemory)) }
    return Int(Self.defaultFraction * Double(available + (kilobytes("RssAnon", in: "/proc/self/status") ?? 0)))
  }

  /// Available bytes, the minimum over the machine and all control groups of the process; `nil` if unknown.
  package var available: Int? {
    ([kilobytes("MemAvailable", in: "/proc/meminfo")] + controlGroups).compactMap(\.self).min()
  }

  /// Available bytes in each control group of the process and in their parent groups.
  private var controlGroups: [Int?] {
    let lines = (text("/proc/self/cgroup") ?? "").split(separator: "\n")
    return lines.flatMap { line -> [Int?] in
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { return [] }
      if parts[0] == "0" {
        return remaining(below: "/sys/fs/cgroup", String(parts[2]), "memory.max", "memory.current", "inactive_file")
      }
      guard parts[1].split(separator: ",").contains("memory") else { return [] }
      return remaining(
        below: "/sys/fs/cgroup/memory", String(parts[2]), "memory.limit_in_bytes", "memory.usage_in_bytes",
        "total_inactive_file")
    }
  }

  /// Limit minus usage plus reclaimable pages, for a group and all its parents.
  private func remaining(below mount: String, _ group: String, _ limit: String, _ usage: String, _ reclaimable: String)
    -> [Int?]
  {
    var names = group.split(separator: "/")
    var found: [Int?] = []
    while true {
      let folder = mount + names.map { "/" + $0 }.joined()
      if let limit = number(folder + "/" + limit), let usage = number(folder + "/" + usage) {
        let line = text(folder + "/memory.stat")?.split(separator: "\n").first { $0.hasPrefix(reclaimable + " ") }
        found.append(max(0, limit - usage + (line?.split(separator: " ").last.flatMap { Int($0) } ?? 0)))
      }
      guard names.popLast() != nil else { return found }
    }
  }

  private func kilobytes(_ name: String, in path: String) -> Int? {
    let line = text(path)?.split(separator: "\n").first { $0.hasPrefix(name + ":") }
    return line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) }.map { $0 << 10 }
  }

  private func number(_ path: String) -> Int? {
    text(path).flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
  }

  private func text(_ path: String) -> String? {
    // System files report no size, so they are read to the end.
    FileManager.default.contents(atPath: root + path).map { String(decoding: $0, as: UTF8.self) }
  }
}

/// Peak RSS of this process in bytes; pages of mapped files count once they are touched.
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
