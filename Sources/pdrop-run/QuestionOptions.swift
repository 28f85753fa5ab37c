import ArgumentParser
import CommandLineOptions
import PDrop
import TokenDropping

/// The question and its pictures.
struct QuestionOptions: ParsableArguments {
  @Option(help: "Picture: JPEG, PNG or WebP; repeat it, or list several with commas.")
  var image: [String] = []

  @Option(name: [.short, .long], help: "The question; <image> in it says where the picture belongs, else in front.")
  var prompt: String?

  @Option(name: [.short, .long], help: "File to read the question from; - for standard input.")
  var file: String?

  @Flag(help: "The question is in the model's prompt format already; <image> marks each picture.")
  var raw = false

  func validate() throws {
    guard prompt == nil || file == nil else { throw ValidationError("--prompt and --file both ask; give one of them") }
  }

  var isEmpty: Bool { image.isEmpty && prompt == nil && file == nil && !raw }

  /// The request that the options describe.
  func request(_ policy: any TokenDroppingPolicy, _ options: GenerationOptions) throws -> Request {
    let text = try prompt ?? TextFile.read(file ?? "-")
    let pictures = image.flatMap { $0.split(separator: ",") }.map { Request.Picture.file(String($0)) }
    return raw
      ? Request(prompt: .rendered(text), pictures: pictures, policy: policy, options: options)
      : Request(question: text, pictures: pictures, policy: policy, options: options)
  }
}

/// How the answer is generated.
struct GenerationArguments: ParsableArguments {
  @Option(name: [.customShort("n"), .customLong("n-predict")], help: "Most tokens to generate.")
  var tokenLimit = 128

  @Flag(name: .customLong("ignore-eos"), help: "Go on after the end token.")
  var ignoresEndToken = false

  @Option(
    name: [.customShort("c"), .customLong("ctx-size")],
    help: "Longest sequence of prompt, pictures and answer. (default: the model's)")
  var contextLength: Int?

  @Option(
    name: [.customLong("temp"), .customLong("temperature")],
    help: "0 takes the likeliest token; above, tokens are drawn.")
  var temperature = 0.0

  @Option(name: .customLong("top-k"), help: "Draw from this many likeliest tokens; 0 for all.")
  var topK = 50

  @Option(name: .customLong("top-p"), help: "Draw from the likeliest tokens of this probability together.")
  var topP = 1.0

  @Option(name: [.short, .long], help: "Seed of what is drawn.")
  var seed: UInt64 = 0

  func validate() throws {
    guard tokenLimit >= 0 else { throw ValidationError("--n-predict must not be negative, found \(tokenLimit)") }
    guard contextLength.map({ $0 > 0 }) ?? true else { throw ValidationError("--ctx-size must be positive") }
    guard temperature >= 0, temperature.isFinite else {
      throw ValidationError("--temp must be 0 or above, found \(temperature)")
    }
    guard topK >= 0 else { throw ValidationError("--top-k must not be negative, found \(topK)") }
    guard topP > 0, topP <= 1 else { throw ValidationError("--top-p must be above 0 and at most 1, found \(topP)") }
  }

  var options: GenerationOptions {
    var options = GenerationOptions()
    options.maxTokens = tokenLimit
    options.ignoresEndToken = ignoresEndToken
    options.contextLength = contextLength
    options.temperature = temperature
    options.topK = topK
    options.topP = topP
    options.seed = seed
    return options
  }
}
