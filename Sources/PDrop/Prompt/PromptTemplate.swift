/// How a checkpoint wants a conversation written down.
///
/// A prompt is the system text, then the messages, then the words with which the assistant begins to answer. Within a
/// message the pictures come first, wherever they stand among its parts, as in all published templates.
///
/// Source: LLaVA's `conversation.py`; the chat templates of the llava-hf checkpoints.
public struct PromptTemplate: Equatable, Sendable {
  /// What stands around the content of one role's messages.
  public struct Turn: Equatable, Sendable {
    public var prefix: String
    public var suffix: String

    /// Stands behind each text of the message rather than once behind them all.
    public var textSuffix: String

    public init(prefix: String, suffix: String, textSuffix: String = "") {
      self.prefix = prefix
      self.suffix = suffix
      self.textSuffix = textSuffix
    }
  }

  /// What becomes of messages with the role `system`.
  public enum SystemMessages: Equatable, Sendable {
    /// The first message, if it is one, takes the place of the template's system text.
    case replaceSystemText

    /// Each is written where it stands.
    case writeInPlace

    case leaveOut
  }

  public var name: String

  /// Written at the beginning as a system turn; empty for none.
  public var systemText: String
  public var systemMessages: SystemMessages
  public var system: Turn

  /// What stands around the template's own system text, where that is not what stands around system messages.
  public var preamble: Turn?

  /// Whether the system turn goes inside the first user turn.
  public var nestsSystemText = false
  public var user: Turn
  public var assistant: Turn

  /// Stands before every user turn that follows another turn.
  public var userSeparator = ""

  /// Stands for one picture.
  public var image = "<image>\n"

  /// Stands before each text.
  public var textPrefix = ""

  /// Stands at the end where an answer is asked for.
  public var generationPrompt: String

  /// Whether a system text is written at all.
  public var takesSystemText: Bool { systemMessages != .leaveOut || !systemText.isEmpty }

  /// Writes a conversation.
  ///
  /// - Parameters:
  ///   - messages: The turns, in order.
  ///   - addGenerationPrompt: Whether the prompt asks for an answer.
  ///   - systemText: Takes the place of the template's own system text and of a system message that the conversation
  ///     begins with; empty for none. A template without a place for one leaves it out, see `takesSystemText`.
  public func render(
    _ messages: [ChatMessage], addGenerationPrompt: Bool = true, systemText: String? = nil
  ) -> String {
    var messages = messages[...]
    var ownText = self.systemText
    if let systemText {
      messages = messages.drop { $0.role == .system }
      if !ownText.isEmpty || systemMessages == .replaceSystemText {
        ownText = systemText
      } else if !systemText.isEmpty {
        messages = [ChatMessage(role: .system, parts: [.text(systemText)])] + messages
      }
    } else if systemMessages == .replaceSystemText, let first = messages.first, first.role == .system {
      ownText = content(of: first, textSuffix: "")
      messages = messages.dropFirst()
    }
    let around = preamble ?? system
    var pending = ownText.isEmpty ? "" : around.prefix + ownText + around.suffix
    var prompt = ""
    if !nestsSystemText { prompt = take(&pending) }
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
