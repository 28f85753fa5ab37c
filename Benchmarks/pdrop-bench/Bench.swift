import CommandLineOptions
import PDrop
import TokenDropping

/// Runs one picture and one prompt under every policy, in turn, and measures each phase.
struct Bench {
  var model: VisionLanguageModel
  var policies: [any TokenDroppingPolicy]
  var textTokens: Int
  var generatedTokens: Int
  var repetitions: Int
  var threads: Int

  /// The rows of the table: for each policy tower, prompt and decoding.
  ///
  /// Policies take turns (A B C A B C), so that a machine that slows down slows all of them; the first turn warms up.
  func run() throws -> [Row] {
    var reports = [[RunReport]](repeating: [], count: policies.count)
    for turn in 0...repetitions {
      for (index, policy) in policies.enumerated() {
        let report = try measure(policy)
        if turn > 0 { reports[index].append(report) }
        Log.write("turn \(turn) of \(repetitions), \(policy.name): \(Int(report.milliseconds.total)) ms")
      }
    }
    return reports.flatMap(rows)
  }

  private func measure(_ policy: any TokenDroppingPolicy) throws -> RunReport {
    var options = GenerationOptions()
    options.maxTokens = generatedTokens
    options.ignoresEndToken = true
    let request = Request(
      prompt: .tokens(promptTokens), pictures: [.decoded(try picture())], policy: policy, options: options)
    var session = try Session(model, request, threads: threads)
    while try session.next() != nil {}
    return session.report
  }

  /// A beginning token, the picture, and text tokens of no meaning: cost does not depend on them.
  private var promptTokens: [Int] {
    let beginning = model.tokenizer.beginningToken.map { [Int($0)] } ?? []
    let rest = textTokens - beginning.count
    return beginning + [model.imageToken] + (0..<rest).map { 3 + $0 % 256 }
  }

  /// A square picture with some structure.
  private func picture() throws -> Image {
    let size = model.preprocessor.size
    let pixels = (0..<size * size * 3).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ ($0 >> 7)) }
    return try Image(width: size, height: size, pixels: pixels)
  }

  private func rows(_ reports: [RunReport]) -> [Row] {
    guard let first = reports.first else { return [] }
    func row(_ test: String, tokens: Int, flops: Int, _ milliseconds: (RunReport.Timings) -> Double) -> Row {
      Row(
        model: model.name, size: model.weightBytes, backend: "OpenBLAS", threads: threads,
        precision: first.precision, policy: first.policy.method, test: test,
        samples: reports.map { milliseconds($0.milliseconds) }, tokens: tokens, flops: flops,
        paperFlops: first.paperFlops, visualTokens: first.visualTokensPerStage, cacheBytes: first.cacheBytes,
        peakBytes: reports.map(\.peakResidentBytes).max() ?? 0)
    }
    let cost = first.flops
    var rows = [
      row("enc1", tokens: 1, flops: cost.encode + cost.project) { $0.encode + $0.project },
      row("pp\(first.sequenceLength)", tokens: first.sequenceLength, flops: cost.prefill + cost.rank) {
        $0.prefill + $0.rank
      },
    ]
    // The first token comes from the prompt; the others take a decoding step each.
    if generatedTokens > 1 {
      rows.append(row("tg\(generatedTokens - 1)", tokens: generatedTokens - 1, flops: cost.decode) { $0.decode })
    }
    return rows
  }
}
