internal import Foundation
package import PDrop

/// What a batch did, for people.
package enum BatchSummary {
  package static func lines(_ report: BatchReport) -> [String] {
    var lines = ["\(report.answered) of \(count(report.records, "record")) answered"]
    if report.answered_before > 0 { lines[0] += ", \(report.answered_before) were answered before" }
    if report.failed_before > 0 { lines[0] += ", \(report.failed_before) of them with an error" }
    if !report.failed.isEmpty {
      let classes = report.failed.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.value) \($0.key)" }
      lines.append("\(report.records - report.answered) failed: \(classes.joined(separator: ", "))")
    }
    guard report.answered > 0 else { return lines }
    let (time, flops) = (report.seconds, report.flops)
    lines.append(
      String(
        format: "%d tokens generated, %.1f tokens/s, %.0f records an hour", report.tokens.generated,
        report.tokens_per_second, report.records_per_hour))
    lines.append(
      String(
        format: "seconds: load %.1f, pictures %.1f, tower %.1f, prompts %.1f, ranking %.1f, decoding %.1f, all %.1f",
        time.load, time.decode_image + time.preprocess, time.encode + time.project, time.prefill, time.rank,
        time.decode, time.load + time.wall))
    lines.append(
      String(
        format: "FLOPs counted: prompts %.3f G (%.1f%% less than without dropping), tower %.3f G, decoding %.3f G",
        Double(flops.prefill + flops.rank) / 1e9, 100 * report.flops_prefill_saved,
        Double(flops.encode + flops.project) / 1e9, Double(flops.decode + flops.head) / 1e9))
    if report.flops_shared > 0 {
      lines.append(
        String(
          format: "shared: %d of %d pictures encoded, %d prompts continued, %.3f G of these FLOPs not done again",
          report.pictures.encoded, report.pictures.asked, report.prompts_continued, Double(report.flops_shared) / 1e9))
    }
    if let cache = report.feature_cache { lines.append(line(cache)) }
    return lines
  }

  package static func line(_ cache: FeatureCacheReport) -> String {
    let damaged = cache.damaged > 0 ? ", \(cache.damaged) damaged" : ""
    return String(
      format: "feature cache: %d pictures known, %d not%@, %d kept, %d removed, %.3f G of these FLOPs not done",
      cache.hits, cache.misses, damaged, cache.written, cache.removed, Double(cache.flops_saved) / 1e9)
  }

  package static func count(_ number: Int, _ noun: String) -> String {
    number == 1 ? "1 \(noun)" : "\(number) \(noun)s"
  }
}
