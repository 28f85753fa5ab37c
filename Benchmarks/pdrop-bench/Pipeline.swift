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

/// `pdrop-bench pipeline`: vision encoder, prefill and decode by model, compute type and policy.
struct PipelineCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pipeline",
    abstract: "Measures vision encoder, prefill and decode of models and policies, interleaved.")

  @OptionGroup(title: "Model") var modelOptions: ModelSourceOptions

  @Option(help: "Policies to compare.")
  var policy = NameList<PolicyName>([.none, .fastv, .pyramiddrop])

  @OptionGroup(title: "Dropping") var policyOptions: PolicyOptions

  @Option(name: [.customShort("p"), .customLong("n-prompt")], help: "Text tokens of the prompt, besides one image.")
  var textTokens = 49

  @Option(name: [.customShort("n"), .customLong("n-gen")], help: "Tokens to decode after the first; 0 skips decode.")
  var generatedTokens = 32

  @Option(
    name: .customLong("image-size"),
    help: "Width and height of the image, such as 1280x720. (default: one view, or 640x480 for models with tiles)")
  var imageSize: ImageSize?

  @OptionGroup(title: "Measurement") var bench: BenchOptions
  @OptionGroup(title: "Report") var report: ReportOptions

  func validate() throws {
    try checkRange("--n-prompt", textTokens, 2...1 << 20)
    try checkRange("--n-gen", generatedTokens, 0...1 << 20)
  }

  func run() throws {
    try report.check()
    let policies = try policyOptions.policies(policy.names, seed: 0).map(\.policy)
    var subjects: [Pipeline.Subject] = []
    for source in try modelOptions.sources() {
      for precision in modelOptions.precision.names {
        let model = try modelOptions.load(source, precision, threads: bench.threadCount)
        // A schedule that does not fit the model is a usage error, reported before the first measurement.
        for policy in policies { _ = try policy.stages(layerCount: model.layerCount, visualTokenCount: 576) }
        Log.write(
          "\(model.name): \(model.precision.reason); ready after \(model.loadTime.milliseconds.formatted(0)) ms")
        let timed = policies.map { model.timed($0, threads: bench.threadCount) }
        subjects.append(Pipeline.Subject(model: model, policies: timed, image: imageSize?.size))
      }
    }
    let pipeline = Pipeline(
      subjects: subjects, textTokens: textTokens, generatedTokens: generatedTokens, threads: bench.threadCount)
    let results = try pipeline.measure(repetitions: bench.repetitions)
    try bench.print(results.flatMap(\.tableRows), as: "pdrop_bench")
    try report.write(PipelineReport(results: results).report)
  }
}

/// The size of an image on the command line: `1280x720`.
struct ImageSize: ExpressibleByArgument {
  let size: PixelSize

  init?(argument: String) {
    let sides = argument.lowercased().split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
    guard sides.count == 2, let width = sides[0], let height = sides[1], (1...8192).contains(width),
      (1...8192).contains(height)
    else { return nil }
    size = PixelSize(height: height, width: width)
  }
}

/// The measurement of each phase of one prompt with one image, for every model and policy, interleaved.
struct Pipeline {
  /// A model and its policies.
  struct Subject {
    var model: VisionLanguageModel
    var policies: [any TokenDroppingPolicy]
    /// The image size; `nil` for the size of one view, or 640 x 480 for models that split images into tiles.
    var image: PixelSize?
  }

  /// The cost of encoding the image, which does not depend on the policy.
  struct VisionRun {
    var image: EncodedImage
    /// Milliseconds and FLOPs of vision encoder and projector for a single view, if the image has several views.
    var oneView: (milliseconds: Double, flops: Int, waiting: Double)?
    /// The share of thread time that threads waited while all views were encoded.
    var waiting: Double
  }

  /// The cost of an answer after the image is encoded.
  struct AnswerRun {
    /// Time from the prompt's tokens to the first token of the answer.
    var prefillMilliseconds: Double
    /// Time of all tokens after the first.
    var decodeMilliseconds: Double
    /// The share of thread time that threads waited in prefill.
    var prefillWaiting: Double
    /// The share of thread time that threads waited in decode.
    var decodeWaiting: Double
    var report: RunReport
  }

  /// All runs of a subject: one image and one answer per policy in each turn.
  struct Runs {
    var vision: [VisionRun] = []
    /// One list of runs per policy.
    var answers: [[AnswerRun]]
  }

  let subjects: [Subject]
  let textTokens: Int
  let generatedTokens: Int
  let threads: Int
  /// Whether only the first policy is run in the warm-up turn, for models with answers that take minutes.
  var warmsUpBriefly = false
  private let computeTypes: Set<ComputeType>

  init(subjects: [Subject], textTokens: Int, generatedTokens: Int, threads: Int) {
    (self.subjects, self.textTokens, self.generatedTokens) = (subjects, textTokens, generatedTokens)
    self.threads = threads
    computeTypes = Set(subjects.map(\.model.precision.computeType).flatMap { [$0.decoder, $0.vision] })
  }

  /// The results of all models.
  ///
  /// Models and policies are interleaved (A B C A B C), so that a drift of the machine's speed affects all of them. The
  /// first turn is a warm-up. The peaks of the machine are measured in each of the other turns.
  func measure(repetitions: Int) throws -> [PipelineResult] {
    let (runs, peaks) = try runs(repetitions: repetitions)
    let machine = Machine.current
    return zip(subjects, runs).map { subject, runs in
      PipelineResult(subject, runs, peaks, machine, threads: threads)
    }
  }

  /// The runs of all subjects, interleaved.
  func runs(repetitions: Int) throws -> ([Runs], Peaks) {
    ThreadTrace.shared.turnOn()
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
    let (prefill, decode) = (answer.prefillMilliseconds.formatted(0), answer.decodeMilliseconds.formatted(0))
    Log.write(
      "\(turn): \(model.name) \(model.precision.name) \(policy.title): prefill \(prefill) ms, decode \(decode) ms")
  }

  private func encode(_ subject: Subject) throws -> VisionRun {
    let model = subject.model
    _ = ThreadTrace.shared.takeWaitingShare()
    let selections = subject.policies.compactMap(\.preselection)
    // The policies of a command have one packing.
    let image = try model.encode(
      .decoded(image(for: subject)), forSelection: !selections.isEmpty, packing: selections.first?.packing ?? .unpadded,
      threads: threads)
    let waiting = ThreadTrace.shared.takeWaitingShare()
    guard let preprocessor = model.preprocessor, preprocessor.mode == .anyres else {
      return VisionRun(image: image, waiting: waiting)
    }
    let compute = ComputeContext(workers: Workers(count: threads))
    let side = preprocessor.size
    let pixels = Tensor(
      randomShape: [3, side, side], deviation: 1, element: .f32, seed: 2, workers: compute.workers)
    let values = pixels.floats()
    let time = milliseconds { _ = model.llava.viewFeatures(values, views: 1, on: compute) }
    let multiplyAdds = compute.ledger.total(.encode) + compute.ledger.total(.project)
    return VisionRun(
      image: image, oneView: (time, 2 * multiplyAdds, ThreadTrace.shared.takeWaitingShare()), waiting: waiting)
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
    _ = ThreadTrace.shared.takeWaitingShare()
    let stopwatch = Stopwatch()
    var session = try Session(model, request, threads: threads)
    _ = try session.next()
    let (prefill, prefillWaiting) = (stopwatch.milliseconds, ThreadTrace.shared.takeWaitingShare())
    while try session.next() != nil {}
    return AnswerRun(
      prefillMilliseconds: prefill, decodeMilliseconds: stopwatch.milliseconds - prefill,
      prefillWaiting: prefillWaiting, decodeWaiting: ThreadTrace.shared.takeWaitingShare(), report: session.report)
  }

  /// A BOS token, the image, and arbitrary text tokens; the cost does not depend on the text.
  private func promptTokens(_ model: VisionLanguageModel) -> [Int] {
    let bos = model.tokenizer.bosToken.map { [Int($0)] } ?? []
    let rest = textTokens - bos.count
    return bos + [model.imageToken] + (0..<rest).map { 3 + $0 % 256 }
  }

  /// An image of random pixels.
  private func image(for subject: Subject) throws -> Image {
    guard let preprocessor = subject.model.preprocessor else { throw GenerationError.noVisionEncoder }
    let photograph = PixelSize(height: 480, width: 640)
    let view = PixelSize(height: preprocessor.size, width: preprocessor.size)
    let size = subject.image ?? (preprocessor.mode == .anyres ? photograph : view)
    var generator = SplitMix64(seed: 3)
    let pixels = (0..<size.width * size.height * 3).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
    return try Image(width: size.width, height: size.height, pixels: pixels)
  }
}
