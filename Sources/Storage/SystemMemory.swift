import Foundation

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// What the system says about memory.
package struct SystemMemory {
  /// Where the system's files are; another folder for tests.
  private let root: String

  package init(root: String = "") { self.root = root }

  /// The share of the memory that is free that a batch takes unless told otherwise.
  private static let defaultShare = 0.9

  /// What a batch may take in all, what it has already included: most of what is free.
  ///
  /// Pages of mapped weights count as free, as the system can let go of them, and so are not counted twice.
  package var defaultLimit: Int {
    guard let available else { return Int(Self.defaultShare * Double(ProcessInfo.processInfo.physicalMemory)) }
    return Int(Self.defaultShare * Double(available + (kilobytes("RssAnon", in: "/proc/self/status") ?? 0)))
  }

  /// Bytes that the machine and all control groups of the process leave; `nil` where nothing says.
  package var available: Int? {
    ([kilobytes("MemAvailable", in: "/proc/meminfo")] + controlGroups).compactMap(\.self).min()
  }

  /// What each control group that the process is in leaves, the groups around it included.
  private var controlGroups: [Int?] {
    let lines = (text("/proc/self/cgroup") ?? "").split(separator: "\n")
    return lines.flatMap { line -> [Int?] in
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { return [] }
      if parts[0] == "0" {
        return rest(below: "/sys/fs/cgroup", String(parts[2]), "memory.max", "memory.current", "inactive_file")
      }
      guard parts[1].split(separator: ",").contains("memory") else { return [] }
      return rest(
        below: "/sys/fs/cgroup/memory", String(parts[2]), "memory.limit_in_bytes", "memory.usage_in_bytes",
        "total_inactive_file")
    }
  }

  /// Limit less use, without what of it the system can let go of, of a group and of those around it.
  private func rest(below mount: String, _ group: String, _ limit: String, _ use: String, _ idle: String) -> [Int?] {
    var names = group.split(separator: "/")
    var found: [Int?] = []
    while true {
      let folder = mount + names.map { "/" + $0 }.joined()
      if let limit = number(folder + "/" + limit), let use = number(folder + "/" + use) {
        let idle = text(folder + "/memory.stat")?.split(separator: "\n").first { $0.hasPrefix(idle + " ") }
        found.append(max(0, limit - use + (idle?.split(separator: " ").last.flatMap { Int($0) } ?? 0)))
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
    // The system's files have no size, so they are read to their end.
    FileManager.default.contents(atPath: root + path).map { String(decoding: $0, as: UTF8.self) }
  }
}

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
