import ArgumentParser
import CommandLineOptions
import Foundation
import PDrop
import TokenDropping

/// The question and its pictures.
struct QuestionOptions: ParsableArguments {
  /// What to do with the Exif orientation of photos.
  enum ExifRule: String, CaseIterable, ExpressibleByArgument { case ignore, apply }

  @Option(help: "Picture: a JPEG, PNG or WebP file, or a data URL; repeat it, or list several files with commas.")
  var image: [String] = []

  @Option(help: "Photos by their Exif orientation: ignore it as the reference does, or apply it.")
  var exif = ExifRule.ignore

  @Option(name: [.short, .long], help: "The question; <image> in it says where the picture belongs, else in front.")
  var prompt: String?

  @Option(name: [.short, .long], help: "File to read the question from; - for standard input.")
  var file: String?

  @Flag(help: "The question is in the model's prompt format already; <image> marks each picture.")
  var raw = false

  @Option(help: "A conversation to answer: JSON with OpenAI's messages, pictures as image_url parts.")
  var chat: String?

  func validate() throws {
    guard [prompt, file, chat].count(where: { $0 != nil }) <= 1 else {
      throw ValidationError("--prompt, --file and --chat all ask; give one of them")
    }
    guard chat == nil || (image.isEmpty && !raw) else {
      throw ValidationError("--chat brings its own pictures and its own form; leave out --image and --raw")
    }
  }

  var isGiven: Bool { prompt != nil || file != nil || chat != nil }
  var isEmpty: Bool { image.isEmpty && !isGiven && !raw }

  /// The request that the options describe.
  func request(_ policy: any TokenDroppingPolicy, _ options: GenerationOptions) throws -> Request {
    var request = try chat.map(conversation) ?? question()
    request.policy = policy
    request.options = options
    request.appliesOrientation = exif == .apply
    return request
  }

  private func question() throws -> Request {
    let text = try prompt ?? TextFile.read(file ?? "-")
    let references = image.flatMap { $0.hasPrefix("data:") ? [$0] : $0.split(separator: ",").map(String.init) }
    let pictures = try references.map { try Request.Picture(reference: $0) }
    return raw ? Request(prompt: .rendered(text), pictures: pictures) : Request(question: text, pictures: pictures)
  }

  /// A file's conversation; its relative paths begin in the file's folder.
  private func conversation(_ path: String) throws -> Request {
    let text = try TextFile.read(path)
    let folder = path == "-" ? nil : URL(filePath: path).deletingLastPathComponent().path(percentEncoded: false)
    do {
      let conversation = try Conversation(json: Data(text.utf8), folder: folder)
      return Request(prompt: .messages(conversation.messages), pictures: conversation.pictures)
    } catch {
      throw FileProblem("\(path): \(error)")
    }
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
