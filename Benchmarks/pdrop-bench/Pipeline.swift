import ArgumentParser
import CommandLineSupport
import ImageProcessing
import Kernels
import LLaVA
import ModelFormats
import PDrop
import Reports
import TokenDropping
import Tokenizers

/// `pdrop-bench pipeline`: vision encoder, prompt and decoding, by model, arithmetic and policy.
struct PipelineCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pipeline",
    abstract: "Measures vision encoder, prompt and decoding of models and dropping policies, in turns. (default)")

  @OptionGroup(title: "Model") var modelOptions: ModelSourceOptions

  @Option(help: "Policies to compare.")
  var policy = NameList<PolicyName>([.none, .fastv, .pyramiddrop])

  @OptionGroup(title: "Dropping") var policyOptions: PolicyOptions

  @Option(name: [.customShort("p"), .customLong("n-prompt")], help: "Text tokens of the prompt, beside one image.")
  var textTokens = 49

  @Option(name: [.customShort("n"), .customLong("n-gen")], help: "Tokens to decode after the first; 0 for none.")
  var generatedTokens = 32

  @OptionGroup(title: "Measuring") var bench: BenchOptions
  @OptionGroup(title: "Page") var report: ReportOptions

  func validate() throws {
    guard textTokens >= 2 else { throw ValidationError("--n-prompt must be at least 2, found \(textTokens)") }
    guard generatedTokens >= 0 else { throw ValidationError("--n-gen must be at least 0, found \(generatedTokens)") }
  }

  func run() throws {
    try report.check()
    let policies = try policy.names.map { try policyOptions.forPolicy($0).policy($0, seed: 0) }
    var subjects: [Pipeline.Subject] = []
    for source in try modelOptions.sources() {
      for precision in modelOptions.precision.names {
        let model = try modelOptions.load(source, precision, threads: bench.threadCount)
        // A schedule that does not fit is a wrong command line, said before anything is measured.
        for policy in policies { _ = try policy.stages(layerCount: model.layerCount, visualTokenCount: 576) }
        Log.write(
          "\(model.name): \(model.precision.reason); ready after \(model.loadTime.milliseconds.formatted(0)) ms")
        let timed = policies.map { model.timed($0, threads: bench.threadCount) }
        subjects.append(Pipeline.Subject(model: model, policies: timed))
      }
    }
    let pipeline = Pipeline(
      subjects: subjects, textTokens: textTokens, generatedTokens: generatedTokens, threads: bench.threadCount)
    let records = try pipeline.measure(repetitions: bench.repetitions)
    try bench.print(records, as: "pdrop_bench")
    try report.write(PipelineReport(records: records).report)
  }
}

/// Runs one image and one prompt through every model under every policy, in turns, and measures each phase.
struct Pipeline {
  /// A model and the policies that it is run under.
  struct Subject {
    var model: VisionLanguageModel
    var policies: [any TokenDroppingPolicy]
    /// Of the image; `nil` for as large as a view, or for models that spread it over several a photograph of 4 to 3.
    var image: PixelSize?
  }

  /// What a model took for the image, which no policy changes.
  struct VisionRun {
    var image: EncodedImage
    /// Milliseconds and operations of vision encoder and projector for one view alone, where the image has several.
    var oneView: (milliseconds: Double, flops: Int)?
  }

  /// What an answer took, once the image was encoded.
  struct AnswerRun {
    /// From the prompt's tokens to the first token of the answer, in milliseconds.
    var promptMilliseconds: Double
    /// All tokens after the first.
    var decodeMilliseconds: Double
    var report: RunReport
  }

  /// All runs of a subject: of each turn one for the image and one for each policy.
  struct Runs {
    var vision: [VisionRun] = []
    /// By policy.
    var answers: [[AnswerRun]]
  }

  let subjects: [Subject]
  let textTokens: Int
  let generatedTokens: Int
  let threads: Int
  /// Whether the first policy alone warms up, where an answer takes minutes.
  var warmsUpBriefly = false
  private let computeTypes: Set<ComputeType>

  init(subjects: [Subject], textTokens: Int, generatedTokens: Int, threads: Int) {
    (self.subjects, self.textTokens, self.generatedTokens) = (subjects, textTokens, generatedTokens)
    self.threads = threads
    computeTypes = Set(subjects.map(\.model.precision.computeType).flatMap { [$0.decoder, $0.vision] })
  }

  /// The rows of the table: for each model vision encoder, and for each policy prompt and decoding.
  ///
  /// Models and policies take turns (A B C A B C), so that a machine that slows down slows all of them; the first turn warms
  /// up. The machine's limits are measured in every turn too.
  func measure(repetitions: Int) throws -> [TableRow] {
    let (runs, peaks) = try runs(repetitions: repetitions)
    let machine = Machine.current
    return zip(subjects, runs).flatMap { subject, runs in
      PipelineRows(subject, runs, peaks, machine, threads: threads).records
    }
  }

  /// Runs all subjects in turns.
  func runs(repetitions: Int) throws -> ([Runs], Peaks) {
    var peaks = Peaks()
    var runs = subjects.map { Runs(answers: Array(repeating: [], count: $0.policies.count)) }
    for turn in 0...repetitions {
      if turn > 0 { peaks.measure(computeTypes, threads: threads) }
      for (index, subject) in subjects.enumerated() {
        let vision = try encode(subject)
        if turn > 0 { runs[index].vision.append(vision) }
        for (number, policy) in subject.policies.enumerated() where turn > 0 || number == 0 || !warmsUpBriefly {
          let answer = try answer(subject.model, policy, vision.image)
          if turn > 0 { runs[index].answers[number].append(answer) }
          log("turn \(turn) of \(repetitions)", subject.model, policy, answer)
        }
      }
    }
    return (runs, peaks)
  }

  private func log(
    _ turn: String, _ model: VisionLanguageModel, _ policy: any TokenDroppingPolicy, _ answer: AnswerRun
  ) {
    let (prompt, decoding) = (answer.promptMilliseconds.formatted(0), answer.decodeMilliseconds.formatted(0))
    Log.write(
      "\(turn): \(model.name) \(model.precision.name) \(policy.name): prompt \(prompt) ms, decoding \(decoding) ms")
  }

  private func encode(_ subject: Subject) throws -> VisionRun {
    let model = subject.model
    let image = try model.encode(.decoded(image(for: subject)), threads: threads)
    guard model.preprocessor.mode == .anyres else { return VisionRun(image: image) }
    let compute = ComputeContext(workers: Workers(count: threads))
    let side = model.preprocessor.size
    let pixels = Tensor(
      randomShape: [3, side, side], deviation: 1, element: .f32, seed: 2, workers: compute.workers)
    let values = pixels.floats()
    let time = milliseconds { _ = model.llava.viewFeatures(values, views: 1, on: compute) }
    let multiplyAdds = compute.ledger.total(.encode) + compute.ledger.total(.project)
    return VisionRun(image: image, oneView: (time, 2 * multiplyAdds))
  }

  private func answer(
    _ model: VisionLanguageModel, _ policy: any TokenDroppingPolicy, _ image: EncodedImage
  ) throws -> AnswerRun {
    var options = GenerationOptions()
    options.maxTokens = 1 + generatedTokens
    options.ignoresEOS = true
    let request = Request(
      prompt: .tokens(promptTokens(model)), images: [.features(image)], policy: policy, options: options)
    resetPeakMemory()
    let stopwatch = Stopwatch()
    var session = try Session(model, request, threads: threads)
    _ = try session.next()
    let prompt = stopwatch.milliseconds
    while try session.next() != nil {}
    return AnswerRun(
      promptMilliseconds: prompt, decodeMilliseconds: stopwatch.milliseconds - prompt, report: session.report)
  }

  /// A BOS token, the image, and text tokens of no meaning: cost does not depend on them.
  private func promptTokens(_ model: VisionLanguageModel) -> [Int] {
    let beginning = model.tokenizer.bosToken.map { [Int($0)] } ?? []
    let rest = textTokens - beginning.count
    return beginning + [model.imageToken] + (0..<rest).map { 3 + $0 % 256 }
  }

  /// An image of random pixels.
  private func image(for subject: Subject) throws -> Image {
    let preprocessor = subject.model.preprocessor
    let photograph = PixelSize(height: 480, width: 640)
    let view = PixelSize(height: preprocessor.size, width: preprocessor.size)
    let size = subject.image ?? (preprocessor.mode == .anyres ? photograph : view)
    var generator = SplitMix64(seed: 3)
    let pixels = (0..<size.width * size.height * 3).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
    return try Image(width: size.width, height: size.height, pixels: pixels)
  }
}
