public import ImageProcessing
public import Storage
public import TokenDropping

/// A question with its images, token-dropping policy and generation options.
///
///     var request = Request(
///       question: "What number is at the top right?", images: [.file("Models/samples/bike.png")],
///       policy: PyramidDrop(.listed(layers: [4, 8], ratios: [0.5, 0.25])))
///     request.options.maxTokens = 16
///     var session = try Session(model, request, threads: 4)
///     while let text = try session.next() { print(text, terminator: "") }
public struct Request: Sendable {
  /// The prompt of a request.
  public enum Prompt: Sendable {
    /// Messages, to be rendered with the model's chat template.
    case messages([ChatMessage])
    /// Text that is rendered already, with `<image>` for each image.
    case rendered(String)
    /// Tokens, BOS token included, with the model's image token for each image.
    case tokens([Int])
  }

  /// The source of an image or a video.
  public enum Image: Sendable {
    /// Path of an image file.
    case file(String)
    /// Bytes of an image file, and a name for error messages.
    case encoded([UInt8], name: String)
    /// Decoded pixels.
    case decoded(ImageProcessing.Image)
    /// The result of `VisionLanguageModel.encode`.
    case features(EncodedImage)
    /// Paths of image files, the frames of a video in order, at least one. For LLaVA-OneVision.
    case videoFrames([String])

    package var isVideo: Bool {
      switch self {
      case .videoFrames: true
      case .features(let encoded): encoded.isVideo
      case .file, .encoded, .decoded: false
      }
    }
  }

  public var prompt: Prompt
  public var images: [Image]
  public var policy: any TokenDroppingPolicy
  public var options: GenerationOptions
  /// A replacement for the template's system prompt and for system messages at the beginning; empty for none.
  public var systemPrompt: String?
  /// Whether photos are rotated upright by their Exif orientation; the reference uses them as stored.
  public var appliesOrientation = false
  /// Whether the session records the tensors of a trace; it then uses no cache.
  public var recordsTensors = false
  /// Whether the pixels of the images are needed, so that neither features nor prompts are read from disk.
  package var needsPixels = false

  public init(
    prompt: Prompt, images: [Image] = [], policy: any TokenDroppingPolicy = PyramidDrop(),
    options: GenerationOptions = GenerationOptions()
  ) {
    self.prompt = prompt
    self.images = images
    self.policy = policy
    self.options = options
  }

  /// A question about images and videos, which come first unless the question contains `<image>` or `<video>` at their
  /// places.
  public init(
    question: String, images: [Image] = [], policy: any TokenDroppingPolicy = PyramidDrop(),
    options: GenerationOptions = GenerationOptions()
  ) {
    self.init(
      prompt: .messages([
        ChatMessage(
          question: question, imageCount: images.count { !$0.isVideo }, videoCount: images.count(where: \.isVideo))
      ]), images: images,
      policy: policy, options: options)
  }
}

/// An error of generation, with a valid model and valid images.
public enum GenerationError: UserFacingError, Equatable {
  case imageTokenMismatch(tokenizer: Int, configuration: Int)
  /// A tokenizer without the image token, and the text of its token with the id of the configuration, if any.
  case noImageToken(configuration: Int, text: String?)
  case notANumber(tokenCount: Int)
  case foreignImage
  /// An image that was encoded without what a selection of its tokens needs.
  case notEncodedForSelection
  /// An image that was encoded for another packing of its tiles.
  case otherPacking(Preselection.Packing)
  /// A packing of LLaVA-NeXT's tiles for a model that reduces them.
  case noPacking(modelType: String)
  /// An image for a model without a vision encoder.
  case noVisionEncoder
  /// A selection by the attention of the class token in a vision encoder that has none.
  case noClassToken(method: String)
  /// A selection by the features of single patches in a model that joins several in each token.
  case noPatchFeatures(method: String)
  case noFrames
  /// Other numbers of `<video>` in the prompt and of videos.
  case videoMismatch(placeholders: Int, videos: Int)
  /// A video for a model of a kind that takes none.
  case noVideos(modelType: String)
  case tensorsNotRecorded
  /// A bias of a token that the model does not have.
  case noTokenToBias(Int, vocabularySize: Int)
  /// A choice to score that has no token of its own, or the same first token as another.
  case indistinctChoices(String, other: String?)

  public var category: ErrorCategory {
    switch self {
    case .noVisionEncoder, .noVideos, .noClassToken, .noPacking, .noPatchFeatures: .usage
    case .noFrames, .videoMismatch: .input
    case .indistinctChoices, .noTokenToBias: .input
    default: .internal
    }
  }
  public var remedies: [Remedy] { self == .noVisionEncoder ? [.mmproj] : [] }
  public var problem: String {
    switch self {
    case .imageTokenMismatch(let tokenizer, let configuration):
      "<image> is token \(tokenizer) of the tokenizer but \(configuration) in config.json; the files do not belong together"
    case .noImageToken(let configuration, let text):
      "the tokenizer has no <image>, expected the token \(configuration) of config.json; "
        + (text.map {
          "its token \(configuration) is \($0.excerpt): name it as image_token in processor_config.json, or take the "
            + "tokenizer of the model"
        } ?? "add the token to tokenizer.json (added_tokens) or take the tokenizer of the model")
    case .notANumber(let tokenCount):
      "the model's output after \(tokenCount) tokens is not a number; are the weights damaged?"
    case .noTokenToBias(let id, let size):
      "logit bias: token \(id) does not exist; the model has the tokens 0 to \(size - 1)"
    case .foreignImage:
      "the image was encoded by another model; encode it with the model of this session"
    case .notEncodedForSelection:
      "the image was encoded without what the selection of its tokens needs; encode it with forSelection: true"
    case .otherPacking(let packing):
      "the image was encoded for another packing of its tiles; encode it with packing: .\(packing.rawValue)"
    case .noPacking(let modelType):
      "the packing patches is for the tiles of LLaVA-NeXT, found the model type \(modelType.excerpt), which reduces its "
        + "map of tiles; use the packing unpadded"
    case .noVisionEncoder:
      "the model takes no images: there is no vision encoder (mmproj) next to the language model"
    case .noClassToken(let method):
      "\(method) selects by the attention of a class token, which the model's vision encoder (SigLIP) does not have; use "
        + "divprune, mmtok or cdpruner"
    case .noPatchFeatures(let method):
      "\(method) compares the features of single patches, of which the model joins several in each visual token; use "
        + "divprune or cdpruner"
    case .noFrames: "the video has no frames; expected at least one image file"
    case .videoMismatch(let placeholders, let videos):
      "\(videos) video(s) given, but the prompt has \(placeholders) <video>; put one where each video belongs"
    case .noVideos(let modelType):
      "the model takes no videos: expected a LLaVA-OneVision model, found \(modelType.excerpt); give single frames as "
        + "images"
    case .tensorsNotRecorded:
      "the session has no tensors; set Request.recordsTensors"
    case .indistinctChoices(let choice, nil):
      "the choice \(choice.excerpt) cannot be scored; expected a text whose first token is a part of it"
    case .indistinctChoices(let choice, let other?):
      "the choices \(other.excerpt) and \(choice.excerpt) begin with the same token; expected choices that differ in "
        + "their first token"
    }
  }
}

/// A turn of a conversation: a role, texts and images.
public struct ChatMessage: Equatable, Sendable {
  public enum Role: String, Sendable, CaseIterable {
    case system, user, assistant
  }

  public enum Part: Equatable, Sendable {
    case text(String)

    /// The next image of the conversation's list of images.
    case image

    /// The next video of the conversation's list of images.
    case video
  }

  public var role: Role
  public var parts: [Part]

  public init(role: Role, parts: [Part]) {
    self.role = role
    self.parts = parts
  }

  /// The message for a model whose prompts have the image token for videos too.
  var withVideosAsImages: ChatMessage {
    let parts = parts.map { part -> Part in
      switch part {
      case .video, .image: Part.image
      case .text(let text): .text(text.replacing("<video>", with: "<image>"))
      }
    }
    return ChatMessage(role: role, parts: parts)
  }

  /// A question about images and videos, which come first unless the question contains `<image>` or `<video>` at their
  /// places.
  public init(question: String, imageCount: Int, videoCount: Int = 0) {
    let images = question.contains("<image>") ? [] : Array(repeating: Part.image, count: imageCount)
    let videos = question.contains("<video>") ? [] : Array(repeating: Part.video, count: videoCount)
    self.init(role: .user, parts: images + videos + [.text(question)])
  }
}

/// A conversation about images that grows turn by turn; each image is encoded once.
///
///     var chat = Chat()
///     chat.add(try model.encode(.file("Models/samples/bike.png"), threads: 4))
///     for question in ["What number is at the top right?", "What colour is the bike?"] {
///       var session = try Session(model, chat.request(question, like: Request(question: "")), threads: 4)
///       while try session.next() != nil {}
///       chat.complete(question, answer: session.report.text)
///     }
///
/// The prompt of a turn is the whole conversation. Every question ranks all visual tokens again by its own last token,
/// so a drop for one question does not affect the next. A turn that fails leaves the chat unchanged.
public struct Chat: Sendable {
  /// The messages of the completed turns.
  public private(set) var messages: [ChatMessage] = []
  /// The images of the completed turns, in order.
  public private(set) var images: [EncodedImage] = []
  /// The images of the next question.
  public private(set) var newImages: [EncodedImage] = []

  public init() {}

  /// Adds an image to the next question.
  public mutating func add(_ image: EncodedImage) { newImages.append(image) }

  /// The request of the next question.
  ///
  /// - Parameters:
  ///   - question: The question, with `<image>` at the places of new images, which otherwise come first.
  ///   - base: Policy and options of the request; its prompt and images are not used.
  public func request(_ question: String, like base: Request) -> Request {
    var request = base
    request.prompt = .messages(messages + [message(question)])
    request.images = (images + newImages).map { .features($0) }
    return request
  }

  /// Completes a turn: adds question, new images and answer to the conversation.
  public mutating func complete(_ question: String, answer: String) {
    messages += [message(question), ChatMessage(role: .assistant, parts: [.text(answer)])]
    images += newImages
    newImages.removeAll()
  }

  private func message(_ question: String) -> ChatMessage {
    let videoCount = newImages.count(where: \.isVideo)
    return ChatMessage(question: question, imageCount: newImages.count - videoCount, videoCount: videoCount)
  }
}
