import LLaVA
import ModelFormats
import Tokenizers

/// How a checkpoint wants a conversation written down.
///
/// A prompt is the system prompt, then the messages, then the words with which the assistant begins to answer. Within a
/// message the images come first, wherever they stand among its parts, as in all published templates.
///
/// Source: LLaVA's `conversation.py`; the chat templates of the llava-hf checkpoints.
public struct ChatTemplate: Equatable, Sendable {
  /// What stands around the content of one role's messages.
  public struct Turn: Equatable, Sendable {
    public var prefix: String
    public var suffix: String

    /// Stands after each text of the message rather than once after them all.
    public var textSuffix: String

    public init(prefix: String, suffix: String, textSuffix: String = "") {
      self.prefix = prefix
      self.suffix = suffix
      self.textSuffix = textSuffix
    }
  }

  /// What becomes of messages with the role `system`.
  public enum SystemMessages: Equatable, Sendable {
    /// The first message, if it is one, takes the place of the template's system prompt.
    case replaceSystemPrompt

    /// Each is written where it stands.
    case writeInPlace

    case leaveOut
  }

  public var name: String

  /// Written at the beginning as a system turn; empty for none.
  public var systemPrompt: String
  public var systemMessages: SystemMessages
  public var system: Turn

  /// What stands around the template's own system prompt, where that is not what stands around system messages.
  public var preamble: Turn?

  /// Whether the system turn goes inside the first user turn.
  public var nestsSystemPrompt = false
  public var user: Turn
  public var assistant: Turn

  /// Stands before every user turn that follows another turn.
  public var userSeparator = ""

  /// Stands for one image.
  public var image = "<image>\n"

  /// Stands before each text.
  public var textPrefix = ""

  /// Stands at the end where an answer is asked for.
  public var generationPrompt: String

  /// Whether a system prompt is written at all.
  public var supportsSystemPrompt: Bool { systemMessages != .leaveOut || !systemPrompt.isEmpty }

  /// Writes a conversation.
  ///
  /// - Parameters:
  ///   - messages: The turns, in order.
  ///   - addGenerationPrompt: Whether the prompt asks for an answer.
  ///   - systemPrompt: Takes the place of the template's own system prompt and of a system message that the conversation
  ///     begins with; empty for none. A template without a place for one leaves it out, see `supportsSystemPrompt`.
  public func render(
    _ messages: [ChatMessage], addGenerationPrompt: Bool = true, systemPrompt: String? = nil
  ) -> String {
    var messages = messages[...]
    var ownText = self.systemPrompt
    if let systemPrompt {
      messages = messages.drop { $0.role == .system }
      if !ownText.isEmpty || systemMessages == .replaceSystemPrompt {
        ownText = systemPrompt
      } else if !systemPrompt.isEmpty {
        messages = [ChatMessage(role: .system, parts: [.text(systemPrompt)])] + messages
      }
    } else if systemMessages == .replaceSystemPrompt, let first = messages.first, first.role == .system {
      ownText = content(of: first, textSuffix: "")
      messages = messages.dropFirst()
    }
    let around = preamble ?? system
    var pending = ownText.isEmpty ? "" : around.prefix + ownText + around.suffix
    var prompt = ""
    if !nestsSystemPrompt { prompt = take(&pending) }
    for message in messages {
      let turn = turn(of: message.role)
      switch message.role {
      case .system where systemMessages == .leaveOut: continue
      case .user where !prompt.isEmpty: prompt += userSeparator
      default: break
      }
      prompt += turn.prefix
      if message.role == .user { prompt += take(&pending) }
      prompt += content(of: message, textSuffix: turn.textSuffix) + turn.suffix
    }
    return prompt + (addGenerationPrompt ? generationPrompt : "")
  }

  private func turn(of role: ChatMessage.Role) -> Turn {
    switch role {
    case .system: system
    case .user: user
    case .assistant: assistant
    }
  }

  private func content(of message: ChatMessage, textSuffix: String) -> String {
    var images = ""
    var texts = ""
    for part in message.parts {
      switch part {
      case .image: images += image
      case .text(let text): texts += textPrefix + text + textSuffix
      }
    }
    return images + texts
  }

  private func take(_ text: inout String) -> String {
    defer { text = "" }
    return text
  }
}

extension ChatTemplate {
  /// The templates that can be asked for by name.
  public static let named: [ChatTemplate] = [
    .vicunaV1, .llavaV1, .mistralInstruct, .chatMLDirect, .llavaLlama2, .llavaLlama3, .qwen15, .plain, .llava15HF,
  ]

  private static let aliases = [
    "v1": "vicuna_v1", "mistral_direct": "chatml_direct", "llama3": "llava_llama_3", "qwen2": "qwen_1_5",
  ]

  /// The template of this name; `-` and `_`, `.` and `_`, capitals and small letters are the same.
  public init?(named name: String) {
    let key = Self.key(name)
    let wanted = Self.aliases[key] ?? key
    guard let template = Self.named.first(where: { Self.key($0.name) == wanted }) else { return nil }
    self = template
  }

  private static func key(_ name: String) -> String {
    String(name.lowercased().map { $0 == "-" || $0 == "." ? "_" : $0 })
  }

  // MARK: - Templates of the original code

  /// The template of LLaVA's evaluation scripts.
  public static let vicunaV1 = vicuna(
    name: "vicuna_v1",
    systemPrompt: """
      A chat between a curious user and an artificial intelligence assistant. \
      The assistant gives helpful, detailed, and polite answers to the user's questions.
      """)

  /// The template that LLaVA's interactive scripts choose for names with `v1`.
  public static let llavaV1 = vicuna(
    name: "llava_v1",
    systemPrompt: """
      A chat between a curious human and an artificial intelligence assistant. \
      The assistant gives helpful, detailed, and polite answers to the human's questions.
      """)

  public static let mistralInstruct = ChatTemplate(
    name: "mistral_instruct", systemPrompt: "", systemMessages: .replaceSystemPrompt, system: llama2System,
    nestsSystemPrompt: true, user: Turn(prefix: "[INST] ", suffix: " [/INST]"),
    assistant: Turn(prefix: " ", suffix: " </s>"), generationPrompt: "")

  /// The template of LLaVA-1.6-34B; the original code also calls it `mistral_direct`.
  public static let chatMLDirect = ChatTemplate(
    name: "chatml_direct", systemPrompt: "Answer the questions.", systemMessages: .replaceSystemPrompt,
    system: Turn(prefix: "<|im_start|>system\n", suffix: "<|im_end|>"),
    user: Turn(prefix: "<|im_start|>user\n", suffix: "<|im_end|>"),
    assistant: Turn(prefix: "<|im_start|>assistant\n", suffix: "<|im_end|>"),
    generationPrompt: "<|im_start|>assistant\n")

  public static let llavaLlama2 = ChatTemplate(
    name: "llava_llama_2",
    systemPrompt: visionAssistant,
    systemMessages: .replaceSystemPrompt, system: llama2System, nestsSystemPrompt: true,
    user: Turn(prefix: "[INST] ", suffix: " [/INST]"), assistant: Turn(prefix: " ", suffix: " </s>"),
    userSeparator: "<s>", generationPrompt: "")

  public static let llavaLlama3 = ChatTemplate(
    name: "llava_llama_3", systemPrompt: visionAssistant, systemMessages: .replaceSystemPrompt,
    system: llama3Turn("system"),
    user: llama3Turn("user"), assistant: llama3Turn("assistant"), generationPrompt: llama3Turn("assistant").prefix)

  /// The template of the LLaVA-NeXT models over Qwen1.5 and Qwen2.
  public static let qwen15 = ChatTemplate(
    name: "qwen_1_5", systemPrompt: "You are a helpful assistant.", systemMessages: .replaceSystemPrompt,
    system: Turn(prefix: "<|im_start|>system\n", suffix: "<|im_end|>\n"),
    user: Turn(prefix: "<|im_start|>user\n", suffix: "<|im_end|>\n"),
    assistant: Turn(prefix: "<|im_start|>assistant\n", suffix: "<|im_end|>\n"),
    generationPrompt: "<|im_start|>assistant\n")

  /// An image and its caption, as in pretraining.
  public static let plain = ChatTemplate(
    name: "plain", systemPrompt: "", systemMessages: .leaveOut, system: Turn(prefix: "", suffix: ""),
    user: Turn(prefix: "", suffix: "", textSuffix: "\n"), assistant: Turn(prefix: "", suffix: "", textSuffix: "\n"),
    image: "<image>", generationPrompt: "")

  // MARK: - Templates of the converted checkpoints

  /// The template published with llava-1.5-7b-hf, which has no system prompt.
  public static let llava15HF = ChatTemplate(
    name: "llava-1.5-hf", systemPrompt: "", systemMessages: .writeInPlace,
    system: Turn(prefix: "", suffix: "", textSuffix: " "), user: Turn(prefix: "USER: ", suffix: "", textSuffix: " "),
    assistant: Turn(prefix: "ASSISTANT: ", suffix: "", textSuffix: " "), generationPrompt: "ASSISTANT:")

  /// The system prompt over Llama-2 and Llama-3.
  private static let visionAssistant = """
    You are a helpful language and vision assistant. You are able to understand the visual content that the user \
    provides, and assist the user with a variety of tasks using natural language.
    """

  private static let llama2System = Turn(prefix: "<<SYS>>\n", suffix: "\n<</SYS>>\n\n")

  /// A turn of a Llama-3 conversation.
  static func llama3Turn(_ role: String) -> Turn {
    Turn(prefix: "<|start_header_id|>\(role)<|end_header_id|>\n\n", suffix: "<|eot_id|>")
  }

  private static func vicuna(name: String, systemPrompt: String) -> ChatTemplate {
    ChatTemplate(
      name: name, systemPrompt: systemPrompt, systemMessages: .replaceSystemPrompt,
      system: Turn(prefix: "", suffix: " "),
      user: Turn(prefix: "USER: ", suffix: " "), assistant: Turn(prefix: "ASSISTANT: ", suffix: "</s>"),
      generationPrompt: "ASSISTANT:")
  }
}

extension VisionLanguageModel {
  /// A prompt as the model reads it.
  ///
  /// - Parameter systemPrompt: The request's, for messages.
  /// - Throws: `PromptError` for a system prompt that the template or the prompt has no place for.
  public func rendered(_ prompt: Request.Prompt, systemPrompt: String? = nil) throws(PromptError) -> String {
    switch (prompt, systemPrompt) {
    case (.messages(let messages), _):
      guard (systemPrompt ?? "").isEmpty || template.supportsSystemPrompt else {
        throw .systemPromptUnsupported(template: template.name)
      }
      return template.render(messages, systemPrompt: systemPrompt)
    case (_, .some): throw .systemPromptForRenderedPrompt
    case (.rendered(let text), nil): return text
    case (.tokens(let tokens), nil):
      return tokenizer.decode(tokens.map(Int32.init(truncatingIfNeeded:)), skipSpecialTokens: false)
    }
  }

  /// A prompt's tokens, BOS token included, one image token per image.
  ///
  /// - Throws: `PromptError` as `rendered` does.
  public func tokens(of prompt: Request.Prompt, systemPrompt: String? = nil) throws(PromptError) -> [Int] {
    if case .tokens(let tokens) = prompt, systemPrompt == nil { return tokens }
    return tokenizer.encodePrompt(try rendered(prompt, systemPrompt: systemPrompt)).map(Int.init)
  }

  /// The tokens of a request's prompt.
  ///
  /// - Throws: `PromptError` as `rendered` does, `SequenceError` when the prompt does not name as many images as are
  ///   given.
  func promptTokens(of request: Request) throws(RequestError) -> [Int] {
    let tokens = try RequestError.wrapping(RequestError.prompt) { () throws(PromptError) in
      try self.tokens(of: request.prompt, systemPrompt: request.systemPrompt)
    }
    let placeholders = tokens.count { $0 == llava.configuration.imageTokenID }
    guard placeholders == request.images.count else {
      throw .sequence(.placeholderMismatch(placeholders: placeholders, images: request.images.count))
    }
    return tokens
  }
}
