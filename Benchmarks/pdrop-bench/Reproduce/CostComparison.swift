import BenchSupport
import CommandLineOptions
import ModelFormats
import PDrop

/// What the paper's schedules cost a model in one arithmetic.
struct CostComparison {
  /// A model to be measured.
  struct Subject {
    /// Such as `LLaVA-NeXT-7B`.
    var title: String
    var model: VisionLanguageModel
    /// What the paper reports on; `nil` for another model.
    var paper: PaperModel?
    /// The visual tokens that the paper's formula is taken at.
    var nominalTokens: Int
    /// `nil` for one that fits the model.
    var picture: PixelSize?
  }

  let subject: Subject
  private let rows: [PaperSchedule: CostRow]
  let limits: Limits

  /// Measures all schedules in turns.
  ///
  /// - Parameters:
  ///   - schedules: Different ones, no dropping among them.
  ///   - textTokens: Of the prompt.
  ///   - generatedTokens: Behind the first.
  init(
    _ subject: Subject, _ schedules: [PaperSchedule], textTokens: Int, generatedTokens: Int, repetitions: Int,
    threads: Int
  ) throws {
    self.subject = subject
    let named = try schedules.map { try NamedSchedule($0.words) }
    var pipeline = Pipeline(
      subjects: [.init(model: subject.model, policies: named.map(\.policy), picture: subject.picture)],
      textTokens: textTokens, generatedTokens: generatedTokens, threads: threads)
    pipeline.warmsUpBriefly = true
    let (runs, limits) = try pipeline.runs(repetitions: repetitions)
    self.limits = limits
    var rows: [PaperSchedule: CostRow] = [:]
    for (index, schedule) in schedules.enumerated() {
      rows[schedule] = try CostRow(
        subject.model, named[index], nominalTokens: subject.nominalTokens,
        paperTeraflops: subject.paper?.teraflops(schedule), pictures: runs[0].vision, runs: runs[0].answers[index])
    }
    self.rows = rows
  }

  /// Such as `LLaVA-1.5-7B, bf16`.
  var name: String { "\(subject.title), \(subject.model.precision.name)" }

  subscript(schedule: PaperSchedule) -> CostRow? { rows[schedule] }

  /// A row for each of these schedules that was measured.
  func records(_ schedules: [PaperSchedule]) -> [Record] {
    guard let none = rows[.none] else { return [] }
    return schedules.compactMap { rows[$0]?.record(of: none) }
  }

  /// Which part of the way to an answer dropping can touch.
  var reach: String {
    guard let none = rows[.none] else { return "" }
    let (whole, prompt) = (none.firstToken.median, none.prompt.median)
    let share = prompt / whole
    let ranking = rows.values.map { Double($0.report.flops.rank) / Double($0.promptFlops) }.max() ?? 0
    return "\(name): without dropping the first token takes \(milliseconds(whole)) ms, of which the prompt is "
      + "\(percent(share)) and the tower the rest, which no schedule touches; so dropping everything would make it at most "
      + "\((1 / (1 - share)).formatted(1)) times as fast. A further token takes \(milliseconds(none.step.median)) ms, and "
      + "reads the same weights however many visual tokens are left. Ranking takes at most "
      + "\((100 * ranking).formatted(2))% of a prompt's operations."
  }
}
