import ArgumentParser
import CommandLineOptions
import Foundation

/// What one policy cost in one phase.
struct Row: Encodable {
  var model: String
  var size: Int
  var backend: String
  var threads: Int
  var precision: String
  var policy: String
  /// `enc1` one picture through tower and projector, `pp` the prompt, `tg` generated tokens.
  var test: String
  /// Milliseconds of each repetition.
  var samples: [Double]
  var tokens: Int
  /// Counted at the kernels, twice the multiply-adds.
  var flops: Int
  var paperFlops: Double
  var visualTokens: [Int]
  var cacheBytes: Int
  var peakBytes: Int

  var median: Double {
    let sorted = samples.sorted()
    let middle = sorted.count / 2
    return sorted.count.isMultiple(of: 2) ? (sorted[middle - 1] + sorted[middle]) / 2 : sorted[middle]
  }

  /// Tokens per second: mean and standard deviation over the repetitions.
  var speed: (mean: Double, deviation: Double) {
    let speeds = samples.map { Double(tokens) * 1e3 / $0 }
    let mean = speeds.reduce(0, +) / Double(speeds.count)
    let variance = speeds.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(max(1, speeds.count - 1))
    return (mean, variance.squareRoot())
  }

  /// The row's cells under `Table.columns`.
  var cells: [String] {
    func fixed(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }
    return [
      model, fixed(Double(size) / 1e6, 1), backend, "\(threads)", precision, policy, test,
      "\(fixed(speed.mean, 2)) ± \(fixed(speed.deviation, 2))", fixed(median, 2), fixed(Double(flops) / 1e9, 3),
      fixed(paperFlops / 1e9, 3), fixed(Double(flops) / median / 1e6, 1),
      visualTokens.map(String.init).joined(separator: "/"), fixed(Double(cacheBytes) / 1_048_576, 2),
      fixed(Double(peakBytes) / 1_048_576, 0),
    ]
  }
}

/// The forms a table can be printed in.
enum TableFormat: String, CaseIterable, ExpressibleByArgument {
  case md, csv, json, jsonl

  private static let columns = [
    "model", "size MB", "backend", "threads", "precision", "policy", "test", "t/s", "ms (median)", "GFLOP counted",
    "GFLOP paper", "GFLOP/s", "visual tokens", "KV MiB", "peak MiB",
  ]

  func rendered(_ rows: [Row]) throws -> String {
    switch self {
    case .md:
      let lines = [Self.columns, Self.columns.map { _ in "---" }] + rows.map(\.cells)
      return lines.map { "| " + $0.joined(separator: " | ") + " |\n" }.joined()
    case .csv:
      let lines = [Self.columns] + rows.map(\.cells)
      return lines.map { $0.map { "\"\($0)\"" }.joined(separator: ",") + "\n" }.joined()
    case .jsonl:
      return try rows.map { String(decoding: try JSONLine.encode($0), as: UTF8.self) }.joined()
    case .json:
      return String(decoding: try JSONLine.encode(rows), as: UTF8.self)
    }
  }
}
