import ArgumentParser
import BatchInference
import CommandLineSupport
import Foundation
import PDrop
import TokenDropping

/// Options of the question and its images.
struct QuestionOptions: ParsableArguments {
  /// The treatment of the Exif orientation of photos.
  enum ExifRule: String, CaseIterable, ExpressibleByArgument { case ignore, apply }

  @Option(help: "Image: a JPEG, PNG or WebP file, or a data URL; repeat, or separate several files with commas.")
  var image: [String] = []

  @Option(
    name: .customLong("video-frames"),
    help: "Folder of image files, the frames of a video in the order of their names. For LLaVA-OneVision models.")
  var videoFrames: String?

  @Option(help: "Exif orientation of photos: ignore, as the reference does, or apply.")
  var exif = ExifRule.ignore

  @Option(name: [.short, .long], help: "Question; <image> marks the position of the image. (default: before the text)")
  var prompt: String?

  @Option(
    name: [.short, .long], help: "File with the question, without the line break at its end; - for standard input.")
  var file: String?

  @Flag(help: "The question already has the chat template applied; <image> marks each image.")
  var raw = false

  @Option(help: "File with a conversation: JSON with OpenAI messages, images as image_url parts.")
  var chat: String?

  @Option(help: "System prompt instead of the default of the model; an empty string for none.")
  var system: String?

  @Flag(
    name: [.customShort("i"), .long],
    help: "Chat: each line of input is a turn; --image and --prompt start the first; /help lists commands.")
  var interactive = false

  func validate() throws {
    guard [prompt, file, chat].count(where: { $0 != nil }) <= 1 else {
      throw ValidationError("--prompt, --file and --chat exclude each other; give one of them")
    }
    guard chat == nil || (image.isEmpty && videoFrames == nil && !raw) else {
      throw ValidationError(
        "--chat contains its images and uses the chat template; leave out --image, --video-frames and --raw")
    }
    guard image.allSatisfy({ !references($0).isEmpty }) else {
      throw ValidationError("--image is empty; give a path, or leave it out")
    }
    guard system == nil || !raw else {
      throw ValidationError("--raw prompts contain their system prompt; leave out --system")
    }
    guard !interactive || (chat == nil && !raw && file != "-") else {
      throw ValidationError("--interactive reads turns from standard input; leave out --chat, --raw and --file -")
    }
  }

  /// Whether a question or conversation is given.
  var isGiven: Bool { prompt != nil || file != nil || chat != nil }
  var isEmpty: Bool { image.isEmpty && videoFrames == nil && !isGiven && !raw && !interactive }

  /// The request without question and images: policy, system prompt and generation options.
  func base(_ policy: any TokenDroppingPolicy, _ options: GenerationOptions) -> Request {
    var request = Request(prompt: .messages([]), policy: policy, options: options)
    request.systemPrompt = system
    request.appliesOrientation = exif == .apply
    return request
  }

  /// The request with question and images from these options.
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
        raw
        ? .rendered(text)
        : .messages([
          ChatMessage(
            question: text, imageCount: request.images.count - (videoFrames == nil ? 0 : 1),
            videoCount: videoFrames == nil ? 0 : 1)
        ])
    }
    return request
  }

  /// The question; `nil` for none.
  func text() throws -> String? { try prompt ?? file.map(TextFile.readQuestion) }

  /// Writes a hint on stderr if an option has a backslash and an `n`, which a shell does not turn into a line break.
  func noteLiteralEscapes() {
    for (option, text) in [("--prompt", prompt), ("--system", system)] where text?.contains(#"\n"#) ?? false {
      Log.write(#"note: \n in \#(option) is two characters, not a line break; write $'…\n…' in the shell for one"#)
    }
  }

  /// The images, then the video.
  func images() throws -> [Request.Image] {
    let images = try image.flatMap(references).map { try Request.Image(reference: $0) }
    guard let videoFrames else { return images }
    let frames = try VisionLanguageModel.images(inFolder: videoFrames)
      .sorted { $0.compare($1, options: .numeric) == .orderedAscending }
    guard (1...Self.frameLimit).contains(frames.count) else {
      throw FileArgumentError(
        "--video-frames \(videoFrames): expected 1 to \(Self.frameLimit) image files, found \(frames.count)")
    }
    return images + [.videoFrames(frames.map { videoFrames + "/" + $0 })]
  }

  /// More frames than any context has room for.
  private static let frameLimit = 1024

  /// The files of question and images; among them may be names that are not files.
  var files: [String] {
    let frames = videoFrames.map { folder in
      ((try? VisionLanguageModel.images(inFolder: folder)) ?? []).map { folder + "/" + $0 }
    }
    return [file, chat].compactMap(\.self) + image.flatMap(references) + (frames ?? [])
  }

  /// The image references of one `--image`, separated by commas.
  private func references(_ text: String) -> [String] {
    let isOne = text.lowercased().hasPrefix("data:") || FileManager.default.fileExists(atPath: text)
    return isOne ? [text] : text.split(separator: ",").map(String.init)
  }

  /// The conversation in a file; image paths are relative to the folder of the file.
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
