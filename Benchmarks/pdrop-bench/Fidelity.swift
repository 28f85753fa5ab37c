import ArgumentParser
import BatchInference
import CommandLineSupport
import Evaluation
import Foundation
import PDrop
import Reports
import TokenDropping

/// `pdrop-bench fidelity`: agreement and accuracy of answers by compute type and schedule.
struct FidelityCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fidelity",
    abstract: "Compares answers by compute precision and schedule with those of the first of each, on your own images."
  )

  @OptionGroup(title: "Model") var modelOptions: ModelSourceOptions

  @Option(
    help: """
      Policies to compare; the first one in the first precision is the baseline. (default: none,fastv,pyramiddrop)
      """)
  var policy: NameList<PolicyName>?

  @OptionGroup(title: "Dropping") var policyOptions: PolicyOptions

  @Option(
    help: ArgumentHelp(
      "In place of --policy: a policy with its options in one argument, compared with none. May be repeated.",
      valueName: "'pyramiddrop --lambda 0.4'"),
    transform: NamedSchedule.init)
  var schedule: [NamedSchedule] = []

  @Option(help: "Minimum first-token agreement of an acceptable schedule, 0 to 1.")
  var tolerance = 0.95

  @Option(help: "Questions, one JSON object per line: question_id, image, text and optionally answer.")
  var input: String?

  @Option(name: [.short, .long], help: "In place of --input: a question about each image in --image-folder.")
  var prompt: String?

  @Option(name: .customLong("image-folder"), help: "Folder of the images. (default: the folder of the questions)")
  var imageFolder: String?

  @Option(help: "Maximum number of questions. (default: all)")
  var limit: Int?

  @Option(name: [.customShort("n"), .customLong("n-gen")], help: "Maximum number of new tokens.")
  var generatedTokens = 32

  @Option(name: [.short, .long], help: "Threads to compute on. (default: all cores)")
  var threads: Int?

  @Option(name: [.short, .long], help: "Output format.")
  var output = TableFormat.md

  @OptionGroup(title: "Report") var report: ReportOptions

  func validate() throws {
    try checkRange("--limit", limit, 1...1_000_000_000_000)
    try checkRange("--n-gen", generatedTokens, 1...1 << 20)
    try checkRange("--threads", threads, 1...1024)
    guard modelOptions.synthetic.names.isEmpty, modelOptions.model.count <= 1 else {
      throw ValidationError("fidelity compares the answers of one real model; use one --model")
    }
    guard (0...1).contains(tolerance) else { throw ValidationError("--tolerance must be 0 to 1, found \(tolerance)") }
    guard policy == nil || schedule.isEmpty else {
      throw ValidationError("--schedule replaces --policy; use one of them")
    }
    switch (input, prompt) {
    case (nil, nil): throw ValidationError("no questions; use --input, or --image-folder and --prompt")
    case (.some, .some): throw ValidationError("--input contains its questions; leave out --prompt")
    case (nil, .some) where imageFolder == nil:
      throw ValidationError("--prompt is asked about each image of a folder; add --image-folder")
    default: break
    }
  }

  func run() throws {
    try report.check()
    let threadCount = ThreadCount(requested: threads).count
    let (questions, folder) = try questions()
    guard !questions.isEmpty else { throw FileArgumentError("\(input ?? folder): no questions") }
    let schedules = try schedules()
    var models: [VisionLanguageModel] = []
    for source in try modelOptions.sources() {
      for precision in modelOptions.precision.names {
        models.append(try modelOptions.load(source, precision, threads: threadCount))
      }
    }
    // A schedule that does not fit the model is a usage error, reported before the first question.
    for model in models {
      for schedule in schedules {
        _ = try schedule.policy.stages(layerCount: model.layerCount, visualTokenCount: 576)
      }
    }
    var comparison = Fidelity(
      models: models, schedules: schedules, generatedTokens: generatedTokens, threads: threadCount)
    for (number, question) in questions.enumerated() {
      try comparison.ask(question, images: folder)
      if (number + 1).isMultiple(of: 50) { Log.write("\(number + 1) of \(questions.count) questions") }
    }
    let result = FidelityResult(comparison: comparison, tolerance: tolerance)
    try Output().write(output.rendered(result.tableRows, name: "pdrop_fidelity"))
    try report.write(FidelityReport(result: result).report)
  }

  /// The questions, and the folder of their images.
  private func questions() throws -> (some Collection<LabelledQuestion>, folder: String) {
    if let input {
      let folder = imageFolder ?? URL(filePath: input).deletingLastPathComponent().path
      return (try LabelledQuestion.read(input).prefix(limit ?? .max), folder)
    }
    let folder = imageFolder ?? "."
    return (try LabelledQuestion.about(imagesIn: folder, prompt ?? "").prefix(limit ?? .max), folder)
  }

  /// The schedules to compare, the baseline first.
  private func schedules() throws -> [NamedSchedule] {
    guard schedule.isEmpty else {
      let hasReference = schedule.first?.policy is NoDropping
      return (hasReference ? [] : [NamedSchedule(.none, NoDropping())]) + schedule
    }
    return try policyOptions.policies(policy?.names ?? [.none, .fastv, .pyramiddrop], seed: 0).map {
      NamedSchedule($0.name, $0.policy)
    }
  }
}

/// The answers of several models under several schedules to the same questions.
struct Fidelity {
  /// A model with a schedule, and its results.
  struct Subject {
    /// The index of the model.
    var model: Int
    var schedule: NamedSchedule
    /// The policy of the schedule, with the timing of this machine if it needs one.
    var policy: any TokenDroppingPolicy
    var agreement = Agreement()
    /// The agreement for each question family.
    var families: [String: Agreement] = [:]
    /// Whether each question with a label was answered correctly.
    var correct: [Bool] = []
    /// The answers, in the order of the questions.
    var texts: [String] = []
    /// The time per question, from the image to the end of the answer.
    var milliseconds = Sample()
    /// FLOPs of prefill, ranking included, counted in the kernels.
    var prefillFlops = Sample()
    var cacheBytes = Sample()
  }

  let models: [VisionLanguageModel]
  /// The first subject is the baseline.
  private(set) var subjects: [Subject]
  let generatedTokens: Int
  let threads: Int

  /// Compares each model under each schedule, in order.
  init(models: [VisionLanguageModel], schedules: [NamedSchedule], generatedTokens: Int, threads: Int) {
    self.models = models
    subjects = models.indices.flatMap { index in
      schedules.map { schedule in
        Subject(model: index, schedule: schedule, policy: models[index].timed(schedule.policy, threads: threads))
      }
    }
    self.generatedTokens = generatedTokens
    self.threads = threads
  }

  /// Answers a question with all subjects in turn. Each model encodes the image once for subjects of one packing.
  mutating func ask(_ question: LabelledQuestion, images folder: String) throws {
    let source =
      question.bytes.map { Request.Image.encoded($0, name: question.image) }
      ?? .file(URL(filePath: folder).appending(path: question.image).path)
    var reference: Agreement.Answer?
    var image: (model: Int, packing: Preselection.Packing, EncodedImage)?
    let forSelection = subjects.contains { $0.policy.preselection != nil }
    for index in subjects.indices {
      let subject = subjects[index]
      let packing = subject.policy.preselection?.packing ?? .unpadded
      let encoded =
        if let image, image.model == subject.model, image.packing == packing { image.2 } else {
          try models[subject.model].encode(
            source, forSelection: forSelection, packing: packing, threads: threads)
        }
      image = (subject.model, packing, encoded)
      let (answer, report, time) = try answer(question, encoded, subject)
      let first = reference ?? answer
      reference = first
      subjects[index].agreement.add(answer, reference: first, label: question.answer)
      if let family = question.category {
        subjects[index].families[family, default: Agreement()].add(answer, reference: first, label: question.answer)
      }
      subjects[index].texts.append(answer.text)
      if let label = question.answer { subjects[index].correct.append(isExactMatch(answer.text, label)) }
      subjects[index].milliseconds.append(time + encoded.timings.total)
      subjects[index].prefillFlops.append(Double(report.flops.prefill + report.flops.rank))
      subjects[index].cacheBytes.append(Double(report.cacheBytes))
    }
  }

  private func answer(
    _ question: LabelledQuestion, _ image: EncodedImage, _ subject: Subject
  ) throws -> (answer: Agreement.Answer, report: RunReport, milliseconds: Double) {
    var options = GenerationOptions()
    options.maxTokens = generatedTokens
    let request = Request(
      prompt: .messages([ChatMessage(question: question.text, imageCount: 1)]), images: [.features(image)],
      policy: subject.policy, options: options)
    let stopwatch = Stopwatch()
    var session = try Session(models[subject.model], request, threads: threads)
    let logits = session.logits
    while try session.next() != nil {}
    let report = session.report
    return (
      Agreement.Answer(logits: logits, tokens: report.tokens, text: report.text), report, stopwatch.milliseconds
    )
  }
}

/// A question about an image, with an optional label.
struct LabelledQuestion: Decodable {
  var image: String
  var text: String
  var answer: String?
  /// The family of the question.
  var category: String?
  /// The image file, if it is not one of the folder; `image` is then its name in errors.
  var bytes: [UInt8]?

  private enum CodingKeys: String, CodingKey { case image, text, answer, category }

  /// Reads a file with one JSON object per line.
  static func read(_ path: String) throws -> [LabelledQuestion] {
    guard let bytes = FileManager.default.contents(atPath: path) else {
      throw FileArgumentError("\(path): cannot be read; expected a file of questions")
    }
    return try bytes.split(separator: UInt8(ascii: "\n")).enumerated().map { number, line in
      do { return try JSONDecoder().decode(LabelledQuestion.self, from: line) } catch {
        throw FileArgumentError("\(path), line \(number + 1): expected an object with image and text")
      }
    }
  }

  /// One question about each image of a folder.
  static func about(imagesIn folder: String, _ text: String) throws -> [LabelledQuestion] {
    let images = try VisionLanguageModel.images(inFolder: folder)
    guard !images.isEmpty else { throw FileArgumentError("\(folder): contains no images") }
    return images.map { LabelledQuestion(image: $0, text: text) }
  }
}
