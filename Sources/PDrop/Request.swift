public import ImageProcessing
public import Storage
public import TokenDropping

/// One question: what is asked about which images, and how it is to be answered.
public struct Request: Sendable {
  /// What is asked.
  public enum Prompt: Sendable {
    /// Messages, put into the model's chat template.
    case messages([ChatMessage])
    /// Text in the model's chat template already; `<image>` marks each image.
    case rendered(String)
    /// Tokens, BOS token included, with the model's image token for each image.
    case tokens([Int])
  }

  /// Where an image comes from.
  public enum Image: Sendable {
    case file(String)
    case encoded([UInt8], name: String)
    case decoded(ImageProcessing.Image)
    /// One that the model has encoded before, by `VisionLanguageModel.encode`.
    case features(EncodedImage)
  }

  public var prompt: Prompt
  public var images: [Image]
  public var policy: any TokenDroppingPolicy
  public var options: GenerationOptions
  /// Takes the place of the template's system prompt and of a system message that the messages begin with; empty for none.
  public var systemPrompt: String?
  /// Whether photos are put upright by their Exif orientation; the reference leaves them as stored.
  public var appliesOrientation = false
  /// Whether the response keeps the tensors that a trace holds; images are then encoded whatever a feature cache knows.
  public var recordsTensors = false

  public init(
    prompt: Prompt, images: [Image] = [], policy: any TokenDroppingPolicy = PyramidDrop(),
    options: GenerationOptions = GenerationOptions()
  ) {
    self.prompt = prompt
    self.images = images
    self.policy = policy
    self.options = options
  }

  /// A question about images, which stand before it unless the question itself says where with `<image>`.
  public init(
    question: String, images: [Image] = [], policy: any TokenDroppingPolicy = PyramidDrop(),
    options: GenerationOptions = GenerationOptions()
  ) {
    self.init(
      prompt: .messages([ChatMessage(question: question, imageCount: images.count)]), images: images,
      policy: policy, options: options)
  }
}

/// How an answer is generated.
public struct GenerationOptions: Sendable, Hashable {
  /// The most tokens to generate.
  public var maxTokens = 128
  /// 0 takes the likeliest token each time; above, tokens are drawn.
  public var temperature = 0.0
  /// Draw from this many of the likeliest tokens only; 0 for all.
  public var topK = 50
  /// Draw from the likeliest tokens that together have this probability.
  public var topP = 1.0
  public var seed: UInt64 = 0
  /// Go on after the EOS token.
  public var ignoresEOS = false
  /// The longest sequence of prompt, images and answer; `nil` for what the model was made for.
  public var contextLength: Int?

  public init() {}
}

/// Why a question could not be answered, although model and files are sound.
public enum GenerationError: UserFacingError, Equatable {
  case imageTokenMismatch(tokenizer: Int, configuration: Int)
  case notANumber(tokenCount: Int)
  case foreignImage
  case tensorsNotRecorded

  public var category: ErrorCategory { .internal }
  public var problem: String {
    switch self {
    case .imageTokenMismatch(let tokenizer, let configuration):
      "<image> is token \(tokenizer) of the tokenizer, but config.json says \(configuration); the files do not belong together"
    case .notANumber(let tokenCount):
      "the model's output after \(tokenCount) tokens is not a number; are the weights damaged?"
    case .foreignImage:
      "the image was encoded by another model; encode it with the model of this session"
    case .tensorsNotRecorded:
      "the session has no tensors; set Request.recordsTensors"
    }
  }
}

/// One turn of a conversation.
public struct ChatMessage: Equatable, Sendable {
  public enum Role: String, Sendable, CaseIterable {
    case system, user, assistant
  }

  public enum Part: Equatable, Sendable {
    case text(String)

    /// The next of the images that go with the conversation.
    case image
  }

  public var role: Role
  public var parts: [Part]

  public init(role: Role, parts: [Part]) {
    self.role = role
    self.parts = parts
  }

  /// A question about images, which stand before it unless the question itself says where with `<image>`.
  public init(question: String, imageCount: Int) {
    let images = question.contains("<image>") ? [] : Array(repeating: Part.image, count: imageCount)
    self.init(role: .user, parts: images + [.text(question)])
  }
}

/// A conversation about images that grows turn by turn; each image is encoded once.
///
/// A turn asks with the whole conversation as its prompt, so that every question ranks all visual tokens anew by its own
/// last token: what was dropped for one question is there again for the next. A turn that fails leaves no trace.
public struct Chat: Sendable {
  /// The turns that are complete.
  public private(set) var messages: [ChatMessage] = []
  /// Their images, in order.
  public private(set) var images: [EncodedImage] = []
  /// The images that the next question will be about.
  public private(set) var newImages: [EncodedImage] = []

  public init() {}

  /// Adds an image to the next question.
  public mutating func add(_ image: EncodedImage) { newImages.append(image) }

  /// What asks the next question.
  ///
  /// - Parameters:
  ///   - question: `<image>` in it says where a new image belongs, else they stand in front.
  ///   - base: How it is asked; its prompt and images are not looked at.
  public func request(_ question: String, like base: Request) -> Request {
    var request = base
    request.prompt = .messages(messages + [message(question)])
    request.images = (images + newImages).map { .features($0) }
    return request
  }

  /// Ends a turn: question, new images and answer become part of the conversation.
  public mutating func complete(_ question: String, answer: String) {
    messages += [message(question), ChatMessage(role: .assistant, parts: [.text(answer)])]
    images += newImages
    newImages.removeAll()
  }

  private func message(_ question: String) -> ChatMessage {
    ChatMessage(question: question, imageCount: newImages.count)
  }
}
