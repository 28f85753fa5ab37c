import ArgumentParser
import BatchInference
import CommandLineSupport
import Evaluation
import Foundation
import ImageProcessing
import PDrop
import Reports
import Storage

extension TableFormat: ExpressibleByArgument {}

/// Options for printing results.
struct ResultOptions: ParsableArguments {
  @Option(name: [.customShort("o"), .customLong("format")], help: "Table format.")
  var format = TableFormat.md

  @Flag(name: [.short, .long], help: "Print all metrics, such as those of categories, precision and recall.")
  var verbose = false

  @Option(help: "JSON file for all metrics.")
  var report: String?

  /// Checks that the report can be written, and replaces no file of the benchmarks and no answers.
  ///
  /// - Parameter answers: The folder of the answers.
  func checkReport(_ options: DataOptions, answers: String) throws {
    guard let report else { return }
    if report != "-" { try OutputFile.makeFolder(of: report) }
    var files: [String] = []
    for benchmark in options.benchmarks {
      let answerFiles = AnswerFiles.find(in: answers + "/" + benchmark.answerFolder).map(\.path)
      files += benchmark.files.map { options.data + "/" + $0.path }
      files += answerFiles + answerFiles.map(RunManifest.path)
      files.append(answers + "/questions/\(benchmark.name).jsonl")
    }
    try Output.checkWritable(report, keeping: files)
  }
}

/// The results of a run: table rows, notes and whether there were errors.
struct Results {
  private var rows: [TableRow] = []
  private var mainRows: [TableRow] = []
  private var notes: [String] = []
  private(set) var scoredCount = 0
  /// Whether a requested benchmark, answer file or question failed.
  var hasErrors = false

  /// Scores an answer file and adds its metrics.
  ///
  /// - Parameters:
  ///   - file: The name and the path of the answer file.
  ///   - uploads: The folder for submissions; `nil` to write none.
  ///   - countsMissing: Whether a question without an answer counts as wrong.
  mutating func score(
    _ benchmark: any Benchmark, in data: DataFolder, _ file: (name: String, path: String), uploads: String?,
    countsMissing: Bool
  ) throws {
    let manifest = try RunManifest(of: file.path)
    let answers = try AnswerSet(reading: file.path, countsMissing: countsMissing && manifest?.limit == nil)
    let submissions = try uploads == nil ? [] : benchmark.submissions(answers, in: data)
    for submission in submissions {
      let path = [uploads ?? "", benchmark.uploadFolder, file.name + submission.suffix].joined(separator: "/")
      try OutputFile.write(Data(submission.text.utf8), to: path)
    }
    let score = benchmark.canScore(in: data) ? try benchmark.score(answers, in: data) : nil
    if answers.failedCount > 0 { hasErrors = true }
    scoredCount += 1
    notes += (score?.notes ?? []).filter { !notes.contains($0) }
    // Some questions of TextVQA occur twice, and so do their answers.
    let repeated = score?.metrics.contains { $0.count >= answers.items.count } ?? true ? 0 : answers.repeatedCount
    if repeated > 0 {
      notes.append(
        "\(benchmark.name): \(file.name): answers to a question that has a later answer, not counted: \(repeated)")
    }
    let likelihood = score == nil ? [] : try benchmark.likelihoodMetrics(answers, in: data)
    for metric in (score?.metrics ?? []) + likelihood {
      add(row(benchmark, file.name, manifest, answers, repeated, metric), isMain: metric.isMain)
    }
    if score == nil { add(row(benchmark, file.name, manifest, answers, repeated, nil), isMain: true) }
  }

  private mutating func add(_ row: TableRow, isMain: Bool) {
    rows.append(row)
    if isMain { mainRows.append(row) }
  }

  private func row(
    _ benchmark: any Benchmark, _ name: String, _ run: RunManifest?, _ answers: AnswerSet, _ repeated: Int,
    _ metric: Metric?
  ) -> TableRow {
    let interval = metric?.interval
    let text = metric.map {
      $0.value.formatted(2) + (interval.map { " (\($0.low.formatted(2)) to \($0.high.formatted(2)))" } ?? "")
    }
    return TableRow([
      Field("benchmark", .text(benchmark.name), heading: "benchmark"),
      Field("answers", .text(name), heading: "answers"),
      Field("metric", .text(metric?.name.pathExcerpt ?? "no ground truth"), heading: "metric"),
      Field("score", metric.map { .number($0.value) } ?? .none, heading: "score (95% CI)", text: text ?? ""),
      Field("ci_low", interval.map { .number($0.low) } ?? .none),
      Field("ci_high", interval.map { .number($0.high) } ?? .none),
      Field("count", .integer(metric?.count ?? answers.items.count), heading: "questions"),
      Field("answered", .integer(max(0, answers.items.count - answers.failedCount - repeated)), heading: "answered"),
      Field("failed", .integer(answers.failedCount), heading: "failed"),
      Field(
        "flops_prefill_saved", answers.savedFlops.map { .number($0) } ?? .none, heading: "prefill FLOPs saved",
        text: answers.savedFlops.map { (100 * $0).formatted(1) + "%" } ?? ""),
      Field("model", .optional(run?.model)),
      Field("policy", .optional(run?.policy.method)),
      Field("layers", .optional(run?.policy.layers)),
      Field("keep", .optional(run?.policy.keep)),
      Field("fastv_k", .optional(run?.policy.k)),
      Field("fastv_r", .optional(run?.policy.r)),
      Field("precision", .optional(run?.precision)),
      Field("image_mode", .optional(run?.imageMode)),
      Field("chat_template", .optional(run?.template), .note(heading: "chat template")),
      Field("limit", .optional(run?.limit), .note(heading: "questions per benchmark, about")),
      Field("metric_description", .text(benchmark.metricDescription)),
    ])
  }

  /// Prints the table and writes the report.
  ///
  /// - Parameter emptyMessage: The error message if no answer file was scored.
  /// - Throws: `ExitCode` 1 if there were errors, `FileArgumentError` if no answer file was scored.
  func finish(_ options: ResultOptions, emptyMessage: String) throws {
    if let report = options.report {
      try writeReport(Data(TableFormat.json.rendered(rows, name: "pdrop_eval").utf8), to: report)
    }
    guard scoredCount > 0 else { throw FileArgumentError(emptyMessage) }
    let shown = options.format == .md && !options.verbose ? mainRows : rows
    try Output().write(options.format.rendered(shown, name: "pdrop_eval"))
    for note in notes { Log.write("note: " + note) }
    if hasErrors { throw ExitCode(ExitStatus.someFailed.rawValue) }
  }

  /// Writes the report, through a device, a pipe or a link to where it leads, which a new file would replace.
  private func writeReport(_ data: Data, to path: String) throws {
    let type = try? FileManager.default.attributesOfItem(atPath: path)[.type] as? FileAttributeType
    if type == nil || type == .typeRegular {
      try OutputFile.write(data, to: path)
    } else {
      try Output(path: path).write(data)
    }
  }
}

extension Value {
  fileprivate static func optional(_ text: String?) -> Value { text.map { .text($0) } ?? .none }
  fileprivate static func optional(_ number: Int?) -> Value { number.map { .integer($0) } ?? .none }
  fileprivate static func optional(_ number: Double?) -> Value { number.map { .number($0) } ?? .none }
  fileprivate static func optional(_ numbers: [Int]?) -> Value { numbers.map { .integers($0) } ?? .none }
  fileprivate static func optional(_ numbers: [Double]?) -> Value { numbers.map { .numbers($0) } ?? .none }
}

/// The run manifest, stored next to an answer file as `.run.json`.
///
/// A resumed run must have the same manifest; result tables show its fields.
struct RunManifest: Codable, Equatable {
  var model: String
  var policy: RunReport.Policy
  var precision: String
  var imageMode: String
  var template: String
  var maxTokens: Int
  /// The value of `--limit`, if only some of the questions are answered.
  var limit: Int?
  /// True if the likelihood of choices is scored, otherwise `nil`.
  var scoresChoices: Bool?

  private enum CodingKeys: String, CodingKey {
    case model, policy, precision, imageMode = "image_mode", template, maxTokens = "max_tokens", limit
    case scoresChoices = "scores_choices"
  }

  init(_ model: VisionLanguageModel, _ base: Request, limit: Int?, scoresChoices: Bool) throws {
    self.model = model.name
    policy = try BatchRunDescription(model, base, threads: 1).policy
    precision = model.precision.name
    imageMode = model.preprocessor?.summary ?? "none"
    template = model.template.name
    maxTokens = base.options.maxTokens
    self.limit = limit
    self.scoresChoices = scoresChoices ? true : nil
  }

  /// Reads the manifest of an answer file; `nil` if there is none, as for files of other programs.
  ///
  /// - Throws: `DataError` for a manifest that cannot be read.
  init?(of answers: String) throws(DataError) {
    let path = Self.path(answers)
    guard let data = FileManager.default.contents(atPath: path) else { return nil }
    do { self = try JSONDecoder().decode(Self.self, from: data) } catch {
      throw DataError(
        path,
        "expected the run manifest that pdrop-eval wrote, found another or a damaged file; remove it if the answers "
          + "next to it are from one run")
    }
  }

  static func path(_ answers: String) -> String {
    URL(filePath: answers).deletingPathExtension().path(percentEncoded: false) + ".run.json"
  }

  /// Writes the manifest next to an answer file.
  ///
  /// - Throws: `FileArgumentError` if the file has answers with another manifest and `overwrites` is false.
  func write(nextTo answers: String, overwrites: Bool) throws {
    let exists = FileManager.default.fileExists(atPath: answers)
    if exists, !overwrites, let existing = try RunManifest(of: answers), existing != self {
      throw FileArgumentError(
        "\(answers): has answers from a run with other options (\(existing.line)); use --overwrite to remove them, or "
          + "another --output or --name")
    }
    try OutputFile.write(try JSONLine.encode(self), to: Self.path(answers))
  }

  /// The manifest as one line of JSON.
  private var line: String {
    (try? JSONLine.encode(self)).map { String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .newlines) } ?? model
  }
}

/// Output files, written as a whole; missing folders are created.
enum OutputFile {
  static func write(_ data: Data, to path: String) throws(FileArgumentError) {
    try makeFolder(of: path)
    try Output.write(data, toFile: path)
  }

  static func makeFolder(of path: String) throws(FileArgumentError) {
    let folder = URL(filePath: path).deletingLastPathComponent()
    do { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) } catch {
      throw FileArgumentError(
        "\(folder.path): the folder cannot be created; is a part of the path a file, or not writable?")
    }
  }
}
