import Jinja
import LLaVA
import ModelFormats
public import Storage
public import Tokenizers

/// The format in which a model expects a conversation: a Jinja template that renders messages to the prompt's text.
///
///     let question = ChatMessage(question: "What is on the sign?", imageCount: 1)
///     print(try ChatTemplate.llava15HF.render([question]))  // USER: <image>\nWhat is on the sign? ASSISTANT:
///
/// A template is rendered with the variables and settings of transformers: `messages`, `add_generation_prompt`,
/// `bos_token` and the other special tokens; `trim_blocks` and `lstrip_blocks` are set. A message has `role` and
/// `content`, a list of parts such as `{"type": "image"}` and `{"type": "text", "text": "..."}`.
///
/// Source: `apply_chat_template` of transformers; LLaVA's `conversation.py` for the named templates.
public struct ChatTemplate: Sendable {
  /// The name of a named template, or the file of the source.
  public var name: String
  /// The Jinja source.
  public let source: String
  /// The text of the special tokens by their variable.
  private var specialTokens = ["bos_token": "<s>", "eos_token": "</s>"]
  private let jinja: JinjaTemplate
  private var content = Content.parts

  /// The form in which a template takes the content of messages.
  enum Content: Equatable {
    /// A list of parts.
    case parts
    /// One text, in which this text stands for an image; empty for a template that writes images itself.
    case text(image: String)
  }

  /// A template from its Jinja source.
  ///
  /// - Throws: `PromptError.invalidTemplate` naming the line of an error, or what is not supported.
  public init(name: String, source: String) throws(PromptError) {
    do { jinja = try JinjaTemplate(source) } catch {
      throw .invalidTemplate(name: name, reason: error.problem)
    }
    self.name = name
    self.source = source
  }

  /// Sets the variables of the special tokens, such as `bos_token` and `image_token`, to those of a tokenizer.
  mutating func useSpecialTokens(of tokenizer: Tokenizer) {
    let tokens = [
      "bos_token": tokenizer.bosToken, "eos_token": tokenizer.eosToken, "pad_token": tokenizer.padToken,
      "unk_token": tokenizer.unkToken,
    ]
    specialTokens = tokens.compactMapValues { $0.flatMap { tokenizer.pieces(of: [$0])[0] } }
    specialTokens.merge(tokenizer.otherSpecialTokens) { own, _ in own }
  }

  /// Renders a conversation.
  ///
  /// - Parameters:
  ///   - messages: The turns, in order.
  ///   - addGenerationPrompt: Whether the generation prompt is appended.
  ///   - systemPrompt: A replacement for the template's own system prompt and for system messages at the beginning;
  ///     empty for none.
  /// - Throws: `PromptError.notRendered` for messages that the template refuses, `.systemPromptUnsupported` if the
  ///   template omits a system prompt.
  public func render(
    _ messages: [ChatMessage], addGenerationPrompt: Bool = true, systemPrompt: String? = nil
  ) throws(PromptError) -> String {
    func prompt(_ messages: some Sequence<ChatMessage>) throws(PromptError) -> String {
      try text(of: messages, addGenerationPrompt: addGenerationPrompt)
    }
    guard let systemPrompt else { return try prompt(messages) }
    let turns = messages.drop { $0.role == .system }
    let system = [ChatMessage(role: .system, parts: [.text(systemPrompt)])]
    let plain = Result { () throws(PromptError) in try prompt(turns) }
    if let preamble, let plain = try? plain.get(), let own = plain.firstRange(of: preamble),
      ["", specialTokens["bos_token"]].contains(String(plain[..<own.lowerBound]))
    {
      let rest = plain[own.upperBound...]
      let replaced = systemPrompt.isEmpty ? rest.drop(while: \.isWhitespace) : systemPrompt + rest
      return String(plain[..<own.lowerBound] + replaced)
    }
    if systemPrompt.isEmpty {
      // A template can have a default that only a system message replaces, or a system turn that remains if empty.
      guard let replaced = try? prompt(system + turns), let plain = try? plain.get() else { return try plain.get() }
      return replaced.count < plain.count ? replaced : plain
    }
    let replaced = try prompt(system + turns)
    guard replaced != (try? plain.get()) else { throw .systemPromptUnsupported(template: name) }
    return replaced
  }

  /// The text of exactly these messages.
  private func text(of messages: some Sequence<ChatMessage>, addGenerationPrompt: Bool) throws(PromptError) -> String {
    do { return try rendered(messages, content, addGenerationPrompt: addGenerationPrompt) } catch {
      throw .notRendered(template: name, reason: error.problem)
    }
  }

  private func rendered(
    _ messages: some Sequence<ChatMessage>, _ content: Content, addGenerationPrompt: Bool
  ) throws(JinjaError) -> String {
    var variables = specialTokens.mapValues { JinjaValue.string($0) }
    variables["messages"] = .list(messages.map { $0.jinjaValue(content) })
    variables["add_generation_prompt"] = .bool(addGenerationPrompt)
    variables["tools"] = JinjaValue.none
    variables["documents"] = JinjaValue.none
    return try jinja.render(variables)
  }

  /// The literal text before the first statement, without the white space around it: a system prompt that no message
  /// replaces. `nil` if there is none.
  private var preamble: String? {
    guard let statement = source.firstRange(of: "{%") else { return nil }
    let literal = source[..<statement.lowerBound].trimmingPrefix(/{{-?\s*bos_token\s*-?}}/)
    guard !literal.contains("{{"), !literal.contains("{#"), let end = literal.lastIndex(where: { !$0.isWhitespace })
    else { return nil }
    return String(literal[...end].drop(while: \.isWhitespace))
  }
}

extension ChatTemplate: Equatable {
  public static func == (a: ChatTemplate, b: ChatTemplate) -> Bool {
    a.name == b.name && a.source.utf8.elementsEqual(b.source.utf8) && a.specialTokens == b.specialTokens
      && a.content == b.content
  }
}

extension ChatTemplate {
  /// The template with the form of content in which each image of a message becomes a text, or, for a template that
  /// writes images itself, the message gets one; `nil` for a template without a place for images.
  ///
  /// - Parameters:
  ///   - placeholder: The text of the image token.
  ///   - takesImageText: Whether images are written into the text of a template for text alone, as those of language
  ///     models in GGUF files are.
  /// - Throws: `PromptError.invalidTemplate` for a template that cannot be rendered, unless it is one for text alone.
  package func placingImages(as placeholder: String, takesImageText: Bool = false) throws(PromptError) -> ChatTemplate?
  {
    var template = self
    func count(_ content: Content, _ parts: [ChatMessage.Part]) throws(JinjaError) -> Int {
      let question = ChatMessage(role: .user, parts: parts + [.text("Q")])
      do {
        return try rendered([question], content, addGenerationPrompt: true).ranges(of: placeholder).count
      } catch {
        // Some templates require a system message.
        let system = ChatMessage(role: .system, parts: [.text("S")])
        guard case .raised = error,
          let text = try? rendered([system, question], content, addGenerationPrompt: true)
        else { throw error }
        return text.ranges(of: placeholder).count
      }
    }
    var failure: JinjaError?
    do throws(JinjaError) {
      let without = try count(.parts, [])
      do throws(JinjaError) {
        if try count(.parts, [.image]) == without + 1 { return self }
      } catch {
        // A template may refuse images.
        if case .raised = error {} else { failure = error }
      }
    } catch {
      failure = error
    }
    template.content = .text(image: "")
    if (try? count(template.content, [])) == 1 { return template }
    if takesImageText {
      template.content = .text(image: placeholder + "\n")
      if (try? count(template.content, [.image])) == 1, (try? count(template.content, [])) == 0 { return template }
    }
    guard let failure else { return nil }
    // A template for text alone fails with a list of parts, and has no word about images.
    if source.contains("image") || failure.isLimit {
      throw .invalidTemplate(name: name, reason: failure.problem)
    }
    return nil
  }
}

extension JinjaError {
  /// Whether the template may be valid Jinja beyond what the interpreter has or allows.
  fileprivate var isLimit: Bool {
    switch self {
    case .unsupported, .limit: true
    case .syntax, .undefined, .evaluation, .raised: false
    }
  }
}

extension ChatMessage {
  /// The message as a template sees it.
  fileprivate func jinjaValue(_ content: ChatTemplate.Content) -> JinjaValue {
    let value: JinjaValue =
      switch content {
      case .text(let image):
        .string(
          parts.map { part in
            switch part {
            case .image, .video: image
            case .text(let text): text
            }
          }.joined())
      case .parts:
        .list(
          parts.map { part in
            switch part {
            case .image: .dict(JinjaDict([("type", .string("image"))]))
            case .video: .dict(JinjaDict([("type", .string("video"))]))
            case .text(let text): .dict(JinjaDict([("type", .string("text")), ("text", .string(text))]))
            }
          })
      }
    return .dict(JinjaDict([("role", .string(role.rawValue)), ("content", value)]))
  }
}

/// An error of a chat template or a system prompt.
public enum PromptError: UserFacingError, Equatable {
  /// The source of a template has an error, or uses a part of Jinja that is not supported.
  case invalidTemplate(name: String, reason: String)
  /// A file has something else than the source of a template.
  case noTemplate(file: String, found: String)
  /// A file of templates cannot be read.
  case file(VocabularyError)
  /// The template refuses the messages, or does not support their form.
  case notRendered(template: String, reason: String)
  case systemPromptUnsupported(template: String)
  /// A system prompt was given for a prompt that is written out already.
  case systemPromptForRenderedPrompt

  public var category: ErrorCategory {
    switch self {
    case .invalidTemplate, .noTemplate, .file: .model
    case .notRendered: .input
    case .systemPromptUnsupported, .systemPromptForRenderedPrompt: .usage
    }
  }

  public var problem: String {
    switch self {
    case .invalidTemplate(let name, let reason): "the chat template \(name): \(reason)"
    case .noTemplate(let file, let found): "\(file): expected a chat template, found \(found)"
    case .file(let error): error.problem
    case .notRendered(let template, let reason): "the chat template \(template) does not take these messages: \(reason)"
    case .systemPromptUnsupported(let template): "the chat template \(template) has no place for a system prompt"
    case .systemPromptForRenderedPrompt: "a prompt in the model's own format has its system prompt already"
    }
  }

  public var remedies: [Remedy] {
    switch self {
    case .invalidTemplate, .notRendered: [.chatTemplate]
    case .noTemplate: []
    case .file(let error): error.remedies
    case .systemPromptUnsupported: [.omitSystemPrompt, .chatTemplate]
    case .systemPromptForRenderedPrompt: [.omitSystemPrompt, .omitRendered]
    }
  }
}

extension VisionLanguageModel {
  /// The text of a prompt in the model's chat template.
  ///
  /// - Parameters:
  ///   - prompt: The prompt of a request.
  ///   - systemPrompt: The system prompt of a request, for messages.
  /// - Throws: `PromptError` for messages or a system prompt that the template or the prompt does not support.
  public func rendered(_ prompt: Request.Prompt, systemPrompt: String? = nil) throws(PromptError) -> String {
    let hasVideoToken = llava.configuration.videoTokenID != nil || !llava.configuration.takesVideos
    switch (prompt, systemPrompt) {
    case (.messages(let messages), _):
      return try template.render(
        hasVideoToken ? messages : messages.map(\.withVideosAsImages), systemPrompt: systemPrompt)
    case (_, .some): throw .systemPromptForRenderedPrompt
    case (.rendered(let text), nil):
      return hasVideoToken ? text : text.replacing("<video>", with: "<image>")
    case (.tokens(let tokens), nil):
      return tokenizer.decode(tokens.map(Int32.init(truncatingIfNeeded:)), skipSpecialTokens: false)
    }
  }

  /// Whether a prompt is text that begins with the BOS token; `tokens(of:)` adds no second one.
  public func hasOwnBOSToken(_ prompt: Request.Prompt) -> Bool {
    guard case .rendered(let text) = prompt, tokenizer.addsBOSToken else { return false }
    return tokenizer.encode(text).first.map { $0 == tokenizer.bosToken } ?? false
  }

  /// The tokens of a prompt, BOS token included, one image token per image.
  ///
  /// - Throws: `PromptError` as `rendered` does.
  public func tokens(of prompt: Request.Prompt, systemPrompt: String? = nil) throws(PromptError) -> [Int] {
    if case .tokens(let tokens) = prompt, systemPrompt == nil { return tokens }
    return tokenizer.encodePrompt(try rendered(prompt, systemPrompt: systemPrompt)).map(Int.init)
  }

  /// The tokens of a request's prompt, with the image token for each image and video, and these in the order of their
  /// tokens.
  ///
  /// - Throws: `RequestError.prompt` as `rendered`, `.sequence` if the numbers of image tokens and images differ or a
  ///   token has no embedding.
  func prompt(of request: Request) throws(RequestError) -> (tokens: [Int], images: [Request.Image]) {
    var tokens = try RequestError.wrapping(RequestError.prompt) { () throws(PromptError) in
      try self.tokens(of: request.prompt, systemPrompt: request.systemPrompt)
    }
    var images = request.images
    if let videoToken = llava.configuration.videoTokenID, tokens.contains(videoToken) {
      let videos = images.filter(\.isVideo)
      let isVideo = tokens.filter { $0 == imageToken || $0 == videoToken }.map { $0 == videoToken }
      let placeholders = (videos: isVideo.count(where: \.self), images: isVideo.count { !$0 })
      guard placeholders.videos == videos.count else {
        throw .generation(.videoMismatch(placeholders: placeholders.videos, videos: videos.count))
      }
      guard placeholders.images == images.count - videos.count else {
        throw .sequence(
          .placeholderMismatch(placeholders: placeholders.images, images: images.count - videos.count))
      }
      var rest = (videos[...], images.filter { !$0.isVideo }[...])
      images = isVideo.map { $0 ? rest.0.removeFirst() : rest.1.removeFirst() }
      tokens = tokens.map { $0 == videoToken ? imageToken : $0 }
    }
    let placeholders = tokens.count { $0 == imageToken }
    guard placeholders == images.count else {
      throw .sequence(.placeholderMismatch(placeholders: placeholders, images: images.count))
    }
    let size = llava.configuration.text.vocabularySize
    if let token = tokens.first(where: { !(0..<size).contains($0) && $0 != imageToken }) {
      throw .sequence(.tokenOutOfRange(token: token, text: tokenText(token), vocabularySize: size))
    }
    return (tokens, images)
  }
}
