public import Foundation
public import Storage
import Tokenizers

extension ChatTemplate {
  /// The chat template for a checkpoint's Jinja source, or `nil` if the source is of no LLaVA family.
  ///
  /// The source is not executed. Markers determine the family, and spellings that differ within a family are searched
  /// for.
  ///
  /// - Parameter chatTemplate: The Jinja source.
  public static func recognise(chatTemplate: String) -> ChatTemplate? {
    let source = ChatTemplateSource(chatTemplate)
    guard source.contains("<image>"), let preamble = source.preamble else { return nil }
    var template: ChatTemplate
    if source.contains("[INST]"), source.contains("[/INST]") {
      template = mistral(source)
    } else if source.contains("<|im_start|>"), source.contains("<|im_end|>") {
      template = chatML(source)
    } else if source.contains("<|start_header_id|>"), source.contains("<|end_header_id|>\n\n"),
      source.contains("<|eot_id|>")
    {
      template = llama3
    } else if source.contains("upper"), source.contains("ASSISTANT:"), source.contains(": ") {
      template = vicuna(source)
    } else {
      return nil
    }
    template.image = source.contains("<image>\n") ? "<image>\n" : "<image>"
    // Some templates put the line break before the text: `'\n' + content['text']`.
    template.textPrefix = source.text.contains(/'\n'\s*\+\s*[a-z]+(\['text'\]|\.text)/) ? "\n" : ""
    if !preamble.isEmpty {
      let end = preamble.lastIndex { !$0.isWhitespace } ?? preamble.startIndex
      template.systemPrompt = String(preamble[...end])
      template.preamble = Turn(prefix: "", suffix: String(preamble[end...].dropFirst()))
    }
    return template
  }

  private static func mistral(_ source: ChatTemplateSource) -> ChatTemplate {
    let hasSystem = source.contains("<<SYS>>")
    // The assistant's branch begins with a space, as plain text or as an expression.
    let startsWithSpace = source.text.contains(/'assistant'\s*-?%}( |\s*{{-?\s*' )/)
    let endsWithSpace = source.contains(" </s>") || source.text.contains(/' '\s*\+\s*eos_token/)
    return ChatTemplate(
      name: "mistral", systemPrompt: "", systemMessages: hasSystem ? .writeInPlace : .leaveOut,
      system: Turn(prefix: "<<SYS>>\n", suffix: "\n<</SYS>>\n\n"), user: Turn(prefix: "[INST] ", suffix: " [/INST]"),
      assistant: Turn(
        prefix: startsWithSpace ? " " : "", suffix: source.ending.map { (endsWithSpace ? " " : "") + $0 } ?? " "),
      generationPrompt: "")
  }

  private static func chatML(_ source: ChatTemplateSource) -> ChatTemplate {
    let roleEnd = source.text.contains(/role('\])?\s*\+\s*' '/) ? " " : "\n"
    let end =
      source.text.contains(/<\|im_end\|>('\s*\+\s*'|'\s*}}\s*{{\s*')?\n/) ? "<|im_end|>\n" : "<|im_end|>"
    let opening = source.contains("<|im_start|>assistant\n") ? "<|im_start|>assistant\n" : "<|im_start|>assistant"
    func turn(_ role: ChatMessage.Role) -> Turn { Turn(prefix: "<|im_start|>" + role.rawValue + roleEnd, suffix: end) }
    let systemPrompt = source.text.firstMatch(of: /<\|im_start\|>system\n([^'{}<]+)<\|im_end\|>/).map { String($0.1) }
    return ChatTemplate(
      name: "chatml", systemPrompt: systemPrompt ?? "",
      systemMessages: systemPrompt == nil ? .writeInPlace : .replaceSystemPrompt, system: turn(.system),
      user: turn(.user),
      assistant: turn(.assistant), generationPrompt: opening)
  }

  private static let llama3 = ChatTemplate(
    name: "llama3", systemPrompt: "", systemMessages: .writeInPlace, system: llama3Turn("system"),
    user: llama3Turn("user"),
    assistant: llama3Turn("assistant"), generationPrompt: llama3Turn("assistant").prefix)

  private static func vicuna(_ source: ChatTemplateSource) -> ChatTemplate {
    let hasTextSuffix = source.text.contains(/(\['text'\]|\.text)\s*\+\s*' '/)
    let hasBareSystem = source.text.contains(/role('\])?\s*[!=]=\s*'system'/)
    let plain = hasTextSuffix ? Turn(prefix: "", suffix: "", textSuffix: " ") : Turn(prefix: "", suffix: " ")
    func turn(_ prefix: String) -> Turn { Turn(prefix: prefix, suffix: plain.suffix, textSuffix: plain.textSuffix) }
    return ChatTemplate(
      name: "vicuna", systemPrompt: "", systemMessages: .writeInPlace, system: turn(hasBareSystem ? "" : "SYSTEM: "),
      user: turn("USER: "),
      assistant: source.ending.map { Turn(prefix: "ASSISTANT: ", suffix: $0) } ?? turn("ASSISTANT: "),
      generationPrompt: "ASSISTANT:")
  }
}

/// A normalized Jinja source: no comments, single quotes, line breaks for `\n`.
private struct ChatTemplateSource {
  let text: String

  init(_ source: String) {
    text = source.replacing(/(?s){#.*?#}/, with: "").replacing("\"", with: "'").replacing("\\n", with: "\n")
  }

  func contains(_ marker: String) -> Bool { text.contains(marker) }

  /// The EOS token after a completed answer, with the space that may follow; `nil` if the template has none.
  ///
  /// An early llava-v1.6-mistral-7b-hf has a backslash in its EOS token, which the reference renders too.
  var ending: String? {
    let isMisspelled = text.contains(/<\\+s>/)
    guard isMisspelled || contains("</s>") || contains("eos_token") else { return nil }
    let space = text.contains(/<[\/\\]+s> ['{]|eos_token\s*\+\s*' '/) ? " " : ""
    return (isMisspelled ? #"<\s>"# : "</s>") + space
  }

  /// The literal text before the first statement, or `nil` if it contains an expression.
  ///
  /// An expression for the BOS token is ignored, as the tokenizer adds that token.
  var preamble: String? {
    guard let statement = text.firstRange(of: "{%") else { return nil }
    var preamble = String(text[..<statement.lowerBound]).replacing(/{{-?\s*bos_token\s*-?}}/, with: "")
    guard !preamble.contains("{{") else { return nil }
    let isTrimmed = text[statement.upperBound...].hasPrefix("-")
    while let last = preamble.last, isTrimmed && last.isWhitespace { preamble.removeLast() }
    return preamble.allSatisfy(\.isWhitespace) ? "" : preamble
  }
}

/// An error of a chat template or a system prompt.
public enum PromptError: UserFacingError, Equatable {
  /// The chat template is not one of the supported templates.
  case unrecognisedTemplate(file: String)
  case noTemplate(file: String, found: String)
  case systemPromptUnsupported(template: String)
  /// A system prompt was given for a prompt that is written out already.
  case systemPromptForRenderedPrompt

  public var category: ErrorCategory { .usage }
  public var problem: String {
    switch self {
    case .unrecognisedTemplate(let file):
      "\(file): the chat template is not a supported LLaVA template"
    case .noTemplate(let file, let found): "\(file): expected a chat template, found \(found)"
    case .systemPromptUnsupported(let template):
      "the chat template \(template) has no place for a system prompt"
    case .systemPromptForRenderedPrompt:
      "a prompt in the model's own format has its system prompt already"
    }
  }

  public var remedies: [Remedy] {
    switch self {
    case .unrecognisedTemplate: [.chatTemplate]
    case .noTemplate: []
    case .systemPromptUnsupported: [.omitSystemPrompt, .chatTemplate]
    case .systemPromptForRenderedPrompt: [.omitSystemPrompt, .omitRendered]
    }
  }
}

extension ChatTemplate {
  /// The chat template of a checkpoint's folder, or `nil` if it has none.
  ///
  /// The files are `chat_template.json`, `chat_template.jinja` and `tokenizer_config.json` with its key
  /// `chat_template`, in this order. The last is used only if its template supports images.
  ///
  /// - Throws: `PromptError` for a template that is not recognised; other errors for files that cannot be read.
  public static func load(directory: URL) throws -> ChatTemplate? {
    try ChatTemplateDetection(directory: directory)?.template
  }
}

extension ChatTemplateDetection {
  /// The chat template of a checkpoint's folder and its file, as in `ChatTemplate.load`.
  init?(directory: URL) throws {
    guard let (file, source) = try Self.chatTemplate(directory: directory) else { return nil }
    guard let template = ChatTemplate.recognise(chatTemplate: source) else {
      throw PromptError.unrecognisedTemplate(file: file)
    }
    self.init(template, .file(file))
  }

  private static func chatTemplate(directory: URL) throws -> (file: String, source: String)? {
    var file = "chat_template.json"
    if let root = try TokenizerFile.json(file, in: directory) {
      guard let source = try source(root, file) else { throw PromptError.noTemplate(file: file, found: root.kind) }
      return (file, source)
    }
    file = "chat_template.jinja"
    if let bytes = try TokenizerFile.bytes(file, in: directory) {
      guard let source = String(validating: bytes, as: UTF8.self) else {
        throw PromptError.noTemplate(file: file, found: "bytes that are not UTF-8")
      }
      return (file, source)
    }
    file = "tokenizer_config.json"
    guard let root = try TokenizerFile.json(file, in: directory), let source = try source(root, file) else {
      return nil
    }
    // A template without images is the language model's own, which original checkpoints include.
    return source.contains("<image>") ? (file, source) : nil
  }

  /// The template in a JSON file: a string, or the entry `default` of a list of named templates.
  private static func source(_ root: JSONValue, _ file: String) throws -> String? {
    let value = root["chat_template"]
    if value.isNull { return nil }
    let named = value.array?.first { $0["name"].string == "default" }
    guard let source = value.string ?? named?["template"].string else {
      throw PromptError.noTemplate(file: file, found: value.kind)
    }
    return source
  }
}

/// The chat template of a model and the reason for the choice.
public struct ChatTemplateDetection: Equatable, Sendable {
  public enum Reason: Equatable, Sendable {
    /// `VisionLanguageModel.Options.template` names it.
    case given
    /// The directory's own chat template, in this file.
    case file(String)
    /// The model family, by the configuration or the directory's name; the text is the evidence.
    case family(String)
    /// No evidence; the template is that of most LLaVA models.
    case nothing
  }

  public var template: ChatTemplate
  public var reason: Reason

  public init(_ template: ChatTemplate, _ reason: Reason) {
    self.template = template
    self.reason = reason
  }

  /// Whether the choice is a guess: the model may have been trained with another template, which degrades its answers.
  public var isGuess: Bool { reason == .nothing }
}

extension ChatTemplateDetection: CustomStringConvertible {
  /// The name and the reason, such as `vicuna, from chat_template.json`.
  public var description: String {
    switch reason {
    case .given: "\(template.name), as requested"
    case .file(let file): "\(template.name), from \(file)"
    case .family(let evidence): "\(template.name), since \(evidence)"
    case .nothing: "\(template.name), the default"
    }
  }
}

extension ChatTemplateDetection {
  /// The template of the model's family, for a directory without a chat template, as the original code writes them.
  ///
  /// `config.json` takes precedence over the directory's name, and the name over the default.
  ///
  /// - Parameters:
  ///   - modelType: The model type of `config.json`, such as `llava_mistral`.
  ///   - textModelType: The language model's type, such as `llama`.
  ///   - vocabularySize: The vocabulary size of the language model, `N`.
  ///   - name: The directory's name; case is ignored.
  ///
  /// Source: the names that LLaVA's `run_llava.py` and `builder.py` search for, in their order.
  package init(modelType: String, textModelType: String, vocabularySize: Int, name: String) {
    let types = [modelType, textModelType].map { $0.lowercased() }
    let name = name.lowercased()
    func type(_ word: String) -> ChatTemplateDetection.Reason? {
      types.first { $0.contains(word) }.map { .family("the model type of config.json is \($0)") }
    }
    func vocabulary(_ sizes: Range<Int>, of owner: String) -> ChatTemplateDetection.Reason? {
      sizes.contains(vocabularySize) ? .family("the vocabulary of \(vocabularySize) is \(owner)'s") : nil
    }
    func named(_ words: String...) -> ChatTemplateDetection.Reason? {
      words.first { name.contains($0) }.map { .family("the directory's name contains '\($0)'") }
    }
    // Size ranges begin at the family's own vocabulary and include added tokens and padding.
    let rules: [(ChatTemplate, ChatTemplateDetection.Reason?)] = [
      (.mistralInstruct, type("mistral")),
      (.qwen15, type("qwen")),
      (.llavaLlama3, vocabulary(128_256..<129_024, of: "Llama-3")),
      (.chatMLDirect, vocabulary(64_000..<64_512, of: "Yi")),
      (.llavaLlama2, named("llama-2", "llama2")),
      (.mistralInstruct, named("mistral")),
      (.chatMLDirect, named("34b")),
      (.qwen15, named("qwen")),
      (.vicunaV1, named("vicuna", "v1.5", "v1.6")),
    ]
    let chosen = rules.lazy.compactMap { template, reason in reason.map { ChatTemplateDetection(template, $0) } }.first
    self = chosen ?? ChatTemplateDetection(.vicunaV1, .nothing)
  }
}
