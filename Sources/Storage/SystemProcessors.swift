import CSignals
import Foundation

/// The number of processors that this process may use at the same time.
package struct SystemProcessors {
  /// The number for this process, at its first use.
  package static let available = SystemProcessors().count

  private let system: SystemFiles
  private let affinity: Int

  /// - Parameters:
  ///   - root: The prefix of all system paths; a temporary folder in tests.
  ///   - affinity: Processors that the scheduler may run this process on.
  package init(root: String = "", affinity: Int = Self.affinity) {
    system = SystemFiles(root: root)
    self.affinity = affinity
  }

  /// The smallest of the affinity and the quotas of all control groups; at least 1.
  ///
  /// A quota of 1.5 processors counts as 2, because a single thread could not use all of it.
  package var count: Int { max(1, ([affinity] + quotas.map { Int($0.rounded(.up)) }).min() ?? 1) }

  /// The quotas of the control groups, in processors.
  private var quotas: [Double] {
    let groups = ControlGroups(system)
    let unified = groups.unified.compactMap { folder in
      let words = system.words(folder + "/cpu.max")
      return Self.processors(words.first, in: words.count > 1 ? words[1] : "100000")
    }
    return unified
      + groups.folders(of: "cpu").compactMap { folder in
        Self.processors(
          system.words(folder + "/cpu.cfs_quota_us").first, in: system.words(folder + "/cpu.cfs_period_us").first)
      }
  }

  /// Processors of a quota of microseconds in each period; `nil` without a quota, which is `max` or -1.
  private static func processors(_ quota: Substring?, in period: Substring?) -> Double? {
    guard let quota = quota.flatMap(SystemFiles.number), let period = period.flatMap(SystemFiles.number),
      quota > 0, period > 0
    else { return nil }
    // More than any machine has, so that the number can be converted.
    return min(Double(quota) / Double(period), 1e6)
  }

  /// Processors that the scheduler may run this process on.
  package static var affinity: Int {
    let count = Int(pdrop_processor_affinity())
    if count > 0 { return count }
    return ProcessInfo.processInfo.activeProcessorCount
  }
}
