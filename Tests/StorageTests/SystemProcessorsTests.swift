import Storage
import TestSupport
import Testing

/// The number of processors from the files of a synthetic `/proc` and `/sys`.
@Suite struct SystemProcessorsTests {
  /// The count for 8 processors, after writing the files.
  private func count(_ files: [String: String], affinity: Int = 8) throws -> Int {
    let folder = try TemporaryFolder()
    for (path, text) in files { try folder.write(path, text) }
    return SystemProcessors(root: folder.path, affinity: affinity).count
  }

  @Test func `is the affinity without control groups`() throws {
    #expect(try count([:]) == 8)
    #expect(try count([:], affinity: 1) == 1)
    #expect(SystemProcessors.available >= 1 && SystemProcessors.available <= SystemProcessors.affinity)
  }

  @Test(arguments: [
    ("max 100000", 8), ("100000 100000", 1), ("150000 100000", 2), ("1000 100000", 1), ("400000 100000", 4),
    ("9000000 100000", 8), ("300000", 3), ("50000 25000\n", 2), ("9223372036854775807 1", 8),
  ])
  func `follows the quota of a version 2 group, rounded up`(text: String, expected: Int) throws {
    #expect(try count(["proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": text]) == expected)
  }

  @Test(arguments: ["", "\n", "x y", "-1 100000", "100000 0", "0 100000", "100000 x", "99999999999999999999 100000"])
  func `ignores a malformed quota`(text: String) throws {
    #expect(try count(["proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": text]) == 8)
  }

  @Test func `follows the quotas of all parents`() throws {
    let own = ["proc/self/cgroup": "0::/a/b/c\n", "sys/fs/cgroup/a/b/c/cpu.max": "400000 100000"]
    #expect(try count(own) == 4)
    #expect(try count(own.merging(["sys/fs/cgroup/a/cpu.max": "200000 100000"]) { $1 }) == 2)
    #expect(try count(own.merging(["sys/fs/cgroup/cpu.max": "100000 100000"]) { $1 }) == 1)
    // In a container, the group may be named as seen from outside.
    let container = ["proc/self/cgroup": "0::/docker/123\n", "sys/fs/cgroup/cpu.max": "300000 100000"]
    #expect(try count(container) == 3)
    #expect(try count(container.merging(["proc/self/cgroup": "0::/../../x\n"]) { $1 }) == 3)
  }

  @Test func `follows version 1 and both versions side by side`() throws {
    let group = ["proc/self/cgroup": "4:cpu,cpuacct:/x/y\n0::/z\n"]
    func v1(_ folder: String, _ quota: String, _ period: String = "100000\n") -> [String: String] {
      ["\(folder)/cpu.cfs_quota_us": quota, "\(folder)/cpu.cfs_period_us": period]
    }
    func found(_ files: [String: String]) throws -> Int { try count(group.merging(files) { $1 }) }
    #expect(try found(v1("sys/fs/cgroup/cpu/x/y", "-1\n")) == 8)
    #expect(try found(v1("sys/fs/cgroup/cpu/x/y", "150000\n")) == 2)
    #expect(try found(v1("sys/fs/cgroup/cpu,cpuacct/x", "300000\n")) == 3)
    #expect(try found(v1("sys/fs/cgroup/cpu", "200000\n", "50000\n")) == 4)
    #expect(try found(v1("sys/fs/cgroup/cpu", "200000\n", "0\n")) == 8)
    #expect(try found(["sys/fs/cgroup/unified/z/cpu.max": "500000 100000"]) == 5)
    let both = v1("sys/fs/cgroup/cpu/x", "300000\n").merging(["sys/fs/cgroup/unified/cpu.max": "200000 100000"]) { $1 }
    #expect(try found(both) == 2)
  }
}
