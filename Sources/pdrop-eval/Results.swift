import ArgumentParser
import BatchInference
import CommandLineSupport
import Evaluation
import Foundation
import ImageProcessing
import PDrop
import Reports

extension TableFormat: ExpressibleByArgument {}

/// How results are printed.
struct ResultOptions: ParsableArguments {
  @Option(name: [.customShort("o"), .customLong("format")], help: "Form of the table.")
  var format = TableFormat.md

  @Flag(name: [.short, .long], help: "Every measure: families, categories, precision and recall.")
  var verbose = false

  @Option(help: "File for all measures, as JSON.")
  var report: String?
}

/// What came of benchmarks, and how the program ends.
struct Results {
  private var records: [TableRow] = []
  private var main: [TableRow] = []
  private var notes: [String] = []
  private(set) var scoredCount = 0
  /// Whether something that was asked for could not be done.
  var hasProblems = false

  /// Scores an answer file and adds what comes of it.
  ///
  /// - Parameter uploads: The folder of all files for official scorers; `nil` for none.
  mutating func score(
    _ benchmark: any Benchmark, in data: DataFolder, _ answers: (name: String, path: String), uploads: String?,
    countsMissing: Bool
  ) throws {
    let record = RunManifest(of: answers.path)
    let sheet = try AnswerSheet(reading: answers.path, countsMissing: countsMissing && record?.limit == nil)
    let submissions = try uploads == nil ? [] : benchmark.submissions(sheet, in: data)
    for submission in submissions {
      let path = [uploads ?? "", benchmark.uploadFolder, answers.name + submission.suffix].joined(separator: "/")
      try OutputFile.write(Data(submission.text.utf8), to: path)
    }
    let score = benchmark.canScore(in: data) ? try benchmark.score(sheet, in: data) : nil
    if sheet.failedCount > 0 { hasProblems = true }
    scoredCount += 1
    notes += (score?.notes ?? []).filter { !notes.contains($0) }
    for measure in score?.measures ?? [] {
      add(row(benchmark, answers.name, record, sheet, measure), isMain: measure.isMain)
    }
    if score == nil { add(row(benchmark, answers.name, record, sheet, nil), isMain: true) }
  }

  private mutating func add(_ record: TableRow, isMain: Bool) {
    records.append(record)
    if isMain { main.append(record) }
  }

  private func row(
    _ benchmark: any Benchmark, _ name: String, _ run: RunManifest?, _ sheet: AnswerSheet, _ measure: Measure?
  ) -> TableRow {
    let interval = measure?.interval
    let text = measure.map {
      $0.value.formatted(2) + (interval.map { " (\($0.low.formatted(2)) to \($0.high.formatted(2)))" } ?? "")
    }
    return TableRow([
      Field("benchmark", .text(benchmark.name), heading: "benchmark"),
      Field("answers", .text(name), heading: "answers"),
      Field("measure", .text(measure?.name ?? "nothing says what is right"), heading: "measure"),
      Field("score", measure.map { .number($0.value) } ?? .none, heading: "score (95% interval)", text: text ?? ""),
      Field("low", interval.map { .number($0.low) } ?? .none),
      Field("high", interval.map { .number($0.high) } ?? .none),
      Field("count", .integer(measure?.count ?? sheet.answers.count), heading: "of"),
      Field("answered", .integer(sheet.answers.count - sheet.failedCount), heading: "answered"),
      Field("failed", .integer(sheet.failedCount), heading: "failed"),
      Field(
        "flops_prefill_saved", sheet.savedShare.map { .number($0) } ?? .none, heading: "FLOPs of prompts saved",
        text: sheet.savedShare.map { (100 * $0).formatted(1) + "%" } ?? ""),
      Field("model", .optional(run?.model)),
      Field("policy", .optional(run?.policy.method)),
      Field("layers", .optional(run?.policy.layers)),
      Field("keep", .optional(run?.policy.keep)),
      Field("fastv_k", .optional(run?.policy.k)),
      Field("fastv_r", .optional(run?.policy.r)),
      Field("precision", .optional(run?.precision)),
      Field("image_mode", .optional(run?.image_mode)),
      Field("template", .optional(run?.template), .note(heading: "chat template")),
      Field("limit", .optional(run?.limit), .note(heading: "questions asked of each benchmark, about")),
      Field("metric", .text(benchmark.metric)),
    ])
  }

  /// Prints the table, writes the report, and ends the program with what the results are worth.
  ///
  /// - Throws: `ExitCode` 1 when something could not be done, `FileArgumentError` when nothing was there to score.
  func finish(_ options: ResultOptions, nothing: String) throws {
    if let report = options.report {
      try OutputFile.write(Data(TableFormat.json.rendered(records, name: "pdrop_eval").utf8), to: report)
    }
    guard scoredCount > 0 else { throw FileArgumentError(nothing) }
    let rows = options.format == .md && !options.verbose ? main : records
    try Output().write(options.format.rendered(rows, name: "pdrop_eval"))
    for note in notes { Log.write("note: " + note) }
    if hasProblems { throw ExitCode(ExitStatus.someFailed.rawValue) }
  }
}

extension Value {
  fileprivate static func optional(_ text: String?) -> Value { text.map { .text($0) } ?? .none }
  fileprivate static func optional(_ number: Int?) -> Value { number.map { .integer($0) } ?? .none }
  fileprivate static func optional(_ number: Double?) -> Value { number.map { .number($0) } ?? .none }
  fileprivate static func optional(_ numbers: [Int]?) -> Value { numbers.map { .integers($0) } ?? .none }
  fileprivate static func optional(_ numbers: [Double]?) -> Value { numbers.map { .numbers($0) } ?? .none }
}

/// What gave a file of answers, kept beside it: answers to be gone on with must be of the same kind, and a table says whose
/// they are.
struct RunManifest: Codable, Equatable {
  var model: String
  var policy: RunReport.Policy
  var precision: String
  var image_mode: String
  var template: String
  var max_tokens: Int
  /// Where only some of the questions are asked.
  var limit: Int?

  init(_ model: VisionLanguageModel, _ base: Request, limit: Int?) throws {
    self.model = model.name
    policy = try BatchRunDescription(model, base, threads: 1).policy
    precision = model.precision.name
    image_mode = model.preprocessor.mode.rawValue
    template = model.template.name
    max_tokens = base.options.maxTokens
    self.limit = limit
  }

  /// The record of an answer file; `nil` where it has none, as those that other programs wrote.
  init?(of answers: String) {
    guard let data = FileManager.default.contents(atPath: Self.path(answers)),
      let record = try? JSONDecoder().decode(Self.self, from: data)
    else { return nil }
    self = record
  }

  private static func path(_ answers: String) -> String {
    URL(filePath: answers).deletingPathExtension().path(percentEncoded: false) + ".run.json"
  }

  /// Notes the record beside answers.
  ///
  /// - Throws: `FileArgumentError` where there are answers of another kind already, unless they are to be removed.
  func write(beside answers: String, overwrites: Bool) throws {
    let exists = FileManager.default.fileExists(atPath: answers)
    if exists, !overwrites, let earlier = RunManifest(of: answers), earlier != self {
      throw FileArgumentError(
        "\(answers): has answers of other options (\(earlier.line)); remove them with --overwrite, or give another --output "
          + "or --name")
    }
    try OutputFile.write(try JSONLine.encode(self), to: Self.path(answers))
  }

  private var line: String {
    (try? JSONLine.encode(self)).map { String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .newlines) } ?? model
  }
}

/// Files that are written as a whole, in folders that need not be there.
enum OutputFile {
  static func write(_ data: Data, to path: String) throws(FileArgumentError) {
    try makeFolder(of: path)
    do { try data.write(to: URL(filePath: path), options: .atomic) } catch {
      throw FileArgumentError("\(path): cannot be written (\(error.localizedDescription))")
    }
  }

  static func makeFolder(of path: String) throws(FileArgumentError) {
    let folder = URL(filePath: path).deletingLastPathComponent()
    do { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) } catch {
      throw FileArgumentError("\(folder.path): the folder cannot be made (\(error.localizedDescription))")
    }
  }
}
