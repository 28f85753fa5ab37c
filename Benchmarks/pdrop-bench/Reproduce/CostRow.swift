import BenchSupport
import CommandLineOptions
import LLaVA
import ModelFormats
import PDrop
import TokenDropping

/// What a schedule costs a model: by the paper, by its formula, by counting and by the clock.
struct CostRow {
  let model: VisionLanguageModel
  let schedule: NamedSchedule
  /// As the paper prints it, in TFLOPs.
  let paperTeraflops: String?
  /// By the paper's formula for the visual tokens that it reckons with, and for those that the picture has.
  let nominalTeraflops: Double
  let teraflops: Double
  /// The prompt to its first token, and the whole way from the picture to it, in milliseconds.
  let prompt: Sample
  let firstToken: Sample
  /// Each token behind the first, in milliseconds.
  let step: Sample
  /// Of the last run.
  let report: RunReport
  let peakBytes: Int

  /// - Parameter runs: At least one.
  init(
    _ model: VisionLanguageModel, _ schedule: NamedSchedule, nominalTokens: Int, paperTeraflops: String?,
    pictures: [Pipeline.VisionRun], runs: [Pipeline.AnswerRun]
  ) throws {
    self.model = model
    self.schedule = schedule
    self.paperTeraflops = paperTeraflops
    prompt = Sample(runs.map(\.promptMilliseconds))
    firstToken = Sample(
      zip(pictures.map(\.picture.milliseconds), runs).map { picture, run in
        picture.preprocess + picture.encode + picture.project + run.promptMilliseconds
      })
    step = Sample(runs.map { $0.decodingMilliseconds / Double(max(1, $0.report.tokens.count - 1)) })
    report = runs[runs.count - 1].report
    let nominal = PromptCost(
      model.llava.configuration.text, textTokens: report.sequenceLength - report.visualTokensPerStage[0],
      visualTokenCounts: [nominalTokens], viewCount: 0, cacheElement: model.precision.cacheElement)
    let plan = try nominal.plan(try SchedulePlanner(nominal).resolved(schedule.policy))
    nominalTeraflops = nominal.paperFlops(plan) / 1e12
    teraflops = report.paperFlops / 1e12
    peakBytes = runs.map(\.report.peakResidentBytes).max() ?? 0
  }

  /// Operations of the prompt, ranking included, counted at the kernels.
  var promptFlops: Int { report.flops.prefill + report.flops.rank }

  /// Visual tokens that a layer sees, mean over layers.
  var meanTokens: Double {
    let text = report.sequenceLength - report.visualTokensPerStage[0]
    let lengths = report.cacheLengthsAfterPrompt
    return lengths.reduce(0) { $0 + Double($1 - text) } / Double(max(1, lengths.count))
  }

  /// A row of a table.
  ///
  /// - Parameter first: Without dropping; what shares are of.
  func record(of first: CostRow) -> Record {
    let ranking = Double(report.flops.rank) / Double(promptFlops)
    return Record([
      Field("schedule", .text(schedule.name), heading: "schedule"),
      Field(
        "visual_tokens", .integers(report.visualTokensPerStage), heading: "visual tokens",
        text: report.visualTokensPerStage.map(String.init).joined(separator: " → ")),
      Field("mean_visual_tokens", meanTokens, heading: "mean of layers", decimals: 1),
      Field("paper_tflops", paperTeraflops.map(Value.text) ?? .none, heading: "paper, TFLOPs"),
      Field("formula_nominal_tflops", nominalTeraflops, heading: "its formula", decimals: 4),
      Field("formula_tflops", teraflops, heading: "for this picture", decimals: 4),
      Field("counted_gflop", Double(promptFlops) / 1e9, heading: "counted, GFLOP", decimals: 1),
      share("counted_share", Double(promptFlops) / Double(first.promptFlops), heading: "of none"),
      share("ranking_share", ranking, heading: "ranking", decimals: 2),
      time("prompt_ms", prompt, heading: "prompt, ms"),
      share("prompt_share", prompt.median / first.prompt.median, heading: "of none"),
      time("first_token_ms", firstToken, heading: "first token, ms"),
      share("first_token_share", firstToken.median / first.firstToken.median, heading: "of none"),
      time("step_ms", step, heading: "a token, ms"),
      Field("kv_mib", Double(report.cacheBytes) / 0x1p20, heading: "KV, MiB", decimals: 1),
      Field("peak_mib", Double(peakBytes) / 0x1p20, heading: "peak, MiB", decimals: 0),
    ])
  }

  private func share(_ name: String, _ share: Double, heading: String, decimals: Int = 1) -> Field {
    Field(name, .number(share), heading: heading, text: (100 * share).formatted(decimals) + "%")
  }

  private func time(_ name: String, _ sample: Sample, heading: String) -> Field {
    let spread = sample.values.count > 1 ? " ± \(milliseconds(sample.deviation))" : ""
    return Field(name, .number(sample.median), heading: heading, text: milliseconds(sample.median) + spread)
  }
}

/// Milliseconds as people read them: `10067`, `45.2`.
func milliseconds(_ value: Double) -> String { value.formatted(value < 100 ? 1 : 0) }
