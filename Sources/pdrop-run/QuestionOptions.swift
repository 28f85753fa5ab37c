import ArgumentParser
import CommandLineSupport
import Foundation
import PDrop
import TokenDropping

/// The question and its images.
struct QuestionOptions: ParsableArguments {
  /// What to do with the Exif orientation of photos.
  enum ExifRule: String, CaseIterable, ExpressibleByArgument { case ignore, apply }

  @Option(help: "Image: a JPEG, PNG or WebP file, or a data URL; repeat it, or list several files with commas.")
  var image: [String] = []

  @Option(help: "Photos by their Exif orientation: ignore it as the reference does, or apply it.")
  var exif = ExifRule.ignore

  @Option(name: [.short, .long], help: "The question; <image> in it says where the image belongs, else in front.")
  var prompt: String?

  @Option(name: [.short, .long], help: "File to read the question from; - for standard input.")
  var file: String?

  @Flag(help: "The question is in the model's chat template already; <image> marks each image.")
  var raw = false

  @Option(help: "A conversation to answer: JSON with OpenAI's messages, images as image_url parts.")
  var chat: String?

  @Option(help: "System prompt in place of the model's own; an empty one for none.")
  var system: String?

  @Flag(
    name: [.customShort("i"), .long],
    help: "Chat: every line of input is a turn, --image and --prompt begin the first; /help lists commands.")
  var interactive = false

  func validate() throws {
    guard [prompt, file, chat].count(where: { $0 != nil }) <= 1 else {
      throw ValidationError("--prompt, --file and --chat all ask; give one of them")
    }
    guard chat == nil || (image.isEmpty && !raw) else {
      throw ValidationError("--chat brings its own images and its own form; leave out --image and --raw")
    }
    guard image.allSatisfy({ !references($0).isEmpty }) else {
      throw ValidationError("--image names no image; give a path, or leave it out")
    }
    guard system == nil || !raw else {
      throw ValidationError("--raw has its system prompt in the prompt; leave out --system")
    }
    guard !interactive || (chat == nil && !raw && file != "-") else {
      throw ValidationError("--interactive takes its turns from standard input; leave out --chat, --raw and --file -")
    }
  }

  /// Whether something is asked at once.
  var isGiven: Bool { prompt != nil || file != nil || chat != nil }
  var isEmpty: Bool { image.isEmpty && !isGiven && !raw && !interactive }

  /// How every question is asked: a request that asks nothing yet.
  func base(_ policy: any TokenDroppingPolicy, _ options: GenerationOptions) -> Request {
    var request = Request(prompt: .messages([]), policy: policy, options: options)
    request.systemPrompt = system
    request.appliesOrientation = exif == .apply
    return request
  }

  /// The request that the options describe.
  func request(like base: Request) throws -> Request {
    var request = base
    if let chat {
      let conversation = try conversation(chat)
      request.prompt = .messages(conversation.messages)
      request.images = conversation.images
    } else {
      let text = try text() ?? ""
      request.images = try images()
      request.prompt =
        raw ? .rendered(text) : .messages([ChatMessage(question: text, imageCount: request.images.count)])
    }
    return request
  }

  /// The question, if one is given.
  func text() throws -> String? { try prompt ?? file.map(TextFile.read) }

  func images() throws -> [Request.Image] {
    try image.flatMap(references).map { try Request.Image(reference: $0) }
  }

  /// One image, or several with commas.
  private func references(_ text: String) -> [String] {
    let isOne = text.lowercased().hasPrefix("data:") || FileManager.default.fileExists(atPath: text)
    return isOne ? [text] : text.split(separator: ",").map(String.init)
  }

  /// A file's conversation; its relative paths begin in the file's folder.
  private func conversation(_ path: String) throws -> Conversation {
    let text = try TextFile.read(path)
    let folder = path == "-" ? nil : URL(filePath: path).deletingLastPathComponent().path(percentEncoded: false)
    do {
      return try Conversation(json: Data(text.utf8), folder: folder)
    } catch {
      throw FileArgumentError("\(path): \(error)")
    }
  }
}

/// How the answer is generated.
struct GenerationArguments: ParsableArguments {
  @Option(name: [.customShort("n"), .customLong("n-predict")], help: "Most tokens to generate.")
  var maxNewTokens = 128

  @Flag(name: .customLong("ignore-eos"), help: "Go on after the EOS token.")
  var ignoresEOS = false

  @Option(
    name: [.customShort("c"), .customLong("ctx-size")],
    help: "Longest sequence of prompt, images and answer. (default: the model's)")
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
    guard maxNewTokens >= 0 else { throw ValidationError("--n-predict must not be negative, found \(maxNewTokens)") }
    guard contextLength.map({ $0 > 0 }) ?? true else { throw ValidationError("--ctx-size must be positive") }
    guard temperature >= 0, temperature.isFinite else {
      throw ValidationError("--temp must be 0 or above, found \(temperature)")
    }
    guard topK >= 0 else { throw ValidationError("--top-k must not be negative, found \(topK)") }
    guard topP > 0, topP <= 1 else { throw ValidationError("--top-p must be above 0 and at most 1, found \(topP)") }
  }

  var options: GenerationOptions {
    var options = GenerationOptions()
    options.maxTokens = maxNewTokens
    options.ignoresEOS = ignoresEOS
    options.contextLength = contextLength
    options.temperature = temperature
    options.topK = topK
    options.topP = topP
    options.seed = seed
    return options
  }
}

/// Where encoded images are kept for later runs.
struct FeatureCacheArguments: ParsableArguments {
  @Option(
    name: .customLong("feature-cache"),
    help: "Folder that keeps encoded images, so that one asked about again is not encoded again; runs may share it.")
  var directory: String?

  @Option(
    name: .customLong("feature-cache-size"),
    help: "Most that --feature-cache may take; what was not used for the longest time goes. (default: 10GiB)")
  var size: ByteCount?

  func validate() throws {
    guard directory.map({ !$0.isEmpty }) ?? true else { throw ValidationError("--feature-cache names no folder") }
    guard size == nil || directory != nil else {
      throw ValidationError("--feature-cache-size goes with --feature-cache; give its folder")
    }
  }

  /// `nil` where no folder is given.
  var options: FeatureCacheOptions? {
    directory.map {
      FeatureCacheOptions(
        directory: $0, byteLimit: size?.bytes ?? FeatureCacheOptions.defaultByteLimit, warn: Log.warning)
    }
  }
}
