import LLaVA
import ModelFormats
import Tokenizers

/// The format in which a model expects a conversation.
///
/// A prompt is the system prompt, then the messages, then the generation prompt. Images come first within a message,
/// whatever their place among its parts, as in all published templates.
///
///     let question = ChatMessage(question: "What is on the sign?", imageCount: 1)
///     print(ChatTemplate.llava15HF.render([question]))  // USER: <image>\nWhat is on the sign? ASSISTANT:
///
/// Source: LLaVA's `conversation.py`; the chat templates of the llava-hf checkpoints.
public struct ChatTemplate: Equatable, Sendable {
  /// The text around the messages of one role.
  public struct Turn: Equatable, Sendable {
    public var prefix: String
    public var suffix: String

    /// Text after each text part of the message, in addition to `suffix` at its end.
    public var textSuffix: String

    public init(prefix: String, suffix: String, textSuffix: String = "") {
      self.prefix = prefix
      self.suffix = suffix
      self.textSuffix = textSuffix
    }
  }

  /// The treatment of messages with the role `system`.
  public enum SystemMessages: Equatable, Sendable {
    /// A system message at the beginning replaces the template's system prompt.
    case replaceSystemPrompt

    /// Every system message is rendered at its place.
    case writeInPlace

    /// System messages are omitted.
    case leaveOut
  }

  public var name: String

  /// The default system prompt, rendered at the beginning; empty for none.
  public var systemPrompt: String
  public var systemMessages: SystemMessages
  public var system: Turn

  /// The text around the template's own system prompt; `nil` to use that of system messages.
  public var preamble: Turn?

  /// Whether the system turn is rendered inside the first user turn.
  public var nestsSystemPrompt = false
  public var user: Turn
  public var assistant: Turn

  /// Text before every user turn that follows another turn.
  public var userSeparator = ""

  /// Text that represents one image.
  public var image = "<image>\n"

  /// Text before each text part.
  public var textPrefix = ""

  /// Text at the end of a prompt, after which the model generates the answer.
  public var generationPrompt: String

  /// Whether the template renders a system prompt.
  public var supportsSystemPrompt: Bool { systemMessages != .leaveOut || !systemPrompt.isEmpty }

  /// Renders a conversation.
  ///
  /// - Parameters:
  ///   - messages: The turns, in order.
  ///   - addGenerationPrompt: Whether the generation prompt is appended.
  ///   - systemPrompt: A replacement for the template's own system prompt and for system messages at the beginning;
  ///     empty for none. A template without a system prompt omits it, see `supportsSystemPrompt`.
  public func render(
    _ messages: [ChatMessage], addGenerationPrompt: Bool = true, systemPrompt: String? = nil
  ) -> String {
    var messages = messages[...]
    var ownSystemPrompt = self.systemPrompt
    if let systemPrompt {
      messages = messages.drop { $0.role == .system }
      if !ownSystemPrompt.isEmpty || systemMessages == .replaceSystemPrompt {
        ownSystemPrompt = systemPrompt
      } else if !systemPrompt.isEmpty {
        messages = [ChatMessage(role: .system, parts: [.text(systemPrompt)])] + messages
      }
    } else if systemMessages == .replaceSystemPrompt, let first = messages.first, first.role == .system {
      ownSystemPrompt = content(of: first, textSuffix: "")
      messages = messages.dropFirst()
    }
    let systemTurn = preamble ?? system
    var pending = ownSystemPrompt.isEmpty ? "" : systemTurn.prefix + ownSystemPrompt + systemTurn.suffix
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
  /// The templates that can be selected by name.
  public static let named: [ChatTemplate] = [
    .vicunaV1, .llavaV1, .mistralInstruct, .chatMLDirect, .llavaLlama2, .llavaLlama3, .qwen15, .plain, .llava15HF,
  ]

  private static let aliases = [
    "v1": "vicuna_v1", "mistral_direct": "chatml_direct", "llama3": "llava_llama_3", "qwen2": "qwen_1_5",
  ]

  /// The template of this name; case is ignored, and `-` and `.` are the same as `_`.
  public init?(named name: String) {
    let key = Self.key(name)
    let canonicalKey = Self.aliases[key] ?? key
    guard let template = Self.named.first(where: { Self.key($0.name) == canonicalKey }) else { return nil }
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

  /// The template that LLaVA's interactive scripts choose for model names with `v1`.
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

  /// The pretraining format: an image, then its caption.
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

  /// The system prompt of LLaVA over Llama-2 and Llama-3.
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
  /// The text of a prompt in the model's chat template.
  ///
  /// - Parameters:
  ///   - prompt: The prompt of a request.
  ///   - systemPrompt: The system prompt of a request, for messages.
  /// - Throws: `PromptError` for a system prompt that the template or the prompt does not support.
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

  /// The tokens of a prompt, BOS token included, one image token per image.
  ///
  /// - Throws: `PromptError` as `rendered` does.
  public func tokens(of prompt: Request.Prompt, systemPrompt: String? = nil) throws(PromptError) -> [Int] {
    if case .tokens(let tokens) = prompt, systemPrompt == nil { return tokens }
    return tokenizer.encodePrompt(try rendered(prompt, systemPrompt: systemPrompt)).map(Int.init)
  }

  /// The tokens of a request's prompt.
  ///
  /// - Throws: `RequestError.prompt` as `rendered`, `.sequence` if the numbers of image tokens and images differ or a
  ///   token has no embedding.
  func promptTokens(of request: Request) throws(RequestError) -> [Int] {
    let tokens = try RequestError.wrapping(RequestError.prompt) { () throws(PromptError) in
      try self.tokens(of: request.prompt, systemPrompt: request.systemPrompt)
    }
    let placeholders = tokens.count { $0 == llava.configuration.imageTokenID }
    guard placeholders == request.images.count else {
      throw .sequence(.placeholderMismatch(placeholders: placeholders, images: request.images.count))
    }
    let size = llava.configuration.text.vocabularySize
    if let token = tokens.first(where: { !(0..<size).contains($0) && $0 != imageToken }) {
      throw .sequence(.tokenOutOfRange(token: token, text: tokenText(token), vocabularySize: size))
    }
    return tokens
  }
}
