import Foundation
import Storage
import TestSupport
import Testing

/// Available memory from the files of a synthetic `/proc` and `/sys`.
@Suite struct SystemMemoryTests {
  @Test func `is the minimum over the machine and its control groups`() throws {
    let folder = try TemporaryFolder()
    let root = folder.path
    func write(_ path: String, _ text: String) throws {
      let url = URL(filePath: root + path)
      try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(text.utf8).write(to: url)
    }
    let memory = SystemMemory(root: root)
    #expect(memory.available == nil)
    try write("/proc/meminfo", "MemTotal:  16777216 kB\nMemAvailable:    8388608 kB\n")
    try write("/proc/self/status", "Name:\tx\nRssAnon:\t 1048576 kB\n")
    #expect(memory.available == 8 << 30)
    #expect(memory.defaultLimit == Int(0.9 * Double(9 << 30)))

    try write("/proc/self/cgroup", "0::/a/b\n")
    try write("/sys/fs/cgroup/a/b/memory.max", "max\n")
    try write("/sys/fs/cgroup/a/b/memory.current", "1000\n")
    #expect(memory.available == 8 << 30)
    try write("/sys/fs/cgroup/a/memory.max", "5000000000\n")
    try write("/sys/fs/cgroup/a/memory.current", "2000000000\n")
    #expect(memory.available == 3_000_000_000)
    try write("/sys/fs/cgroup/a/memory.stat", "anon 7\ninactive_file 500000000\n")
    #expect(memory.available == 3_500_000_000)

    // A process above memory.high is slowed down.
    try write("/sys/fs/cgroup/a/b/memory.high", "2000000\n")
    #expect(memory.available == 1_999_000)
    try write("/sys/fs/cgroup/a/b/memory.max", "1500000\n")
    #expect(memory.available == 1_499_000)
    for malformed in ["", "-5", "x", "99999999999999999999"] {
      try write("/sys/fs/cgroup/a/b/memory.max", malformed)
      #expect(memory.available == 1_999_000)
    }
    // More reclaimable pages than usage, and none of it known.
    try write("/sys/fs/cgroup/a/b/memory.stat", "inactive_file 9223372036854775807\n")
    #expect(memory.available == 2_000_000)
    try write("/sys/fs/cgroup/a/b/memory.current", "")
    #expect(memory.available == 2_000_000)
    try write("/proc/self/cgroup", "0::/a\n")
    try write("/sys/fs/cgroup/unified/a/memory.max", "700000\n")
    #expect(memory.available == 700_000)

    try write("/proc/self/cgroup", "11:cpu,memory:/c\n0::/\n")
    try write("/sys/fs/cgroup/memory/c/memory.limit_in_bytes", "1000000\n")
    try write("/sys/fs/cgroup/memory/c/memory.usage_in_bytes", "2000000\n")
    #expect(memory.available == 0)
  }
}
