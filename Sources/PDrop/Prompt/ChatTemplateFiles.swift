#if canImport(FoundationEssentials)
  public import FoundationEssentials
#else
  public import Foundation
#endif
import ModelFormats

/// Why a prompt cannot be written.
public enum PromptError: Error, Equatable, CustomStringConvertible {
  /// The chat template is none of the kinds that `PromptTemplate.recognise` knows.
  case unrecognisedTemplate(file: String)
  case noTemplate(file: String, found: String)
  case noPlaceForSystemText(template: String)
  /// A system text was given for a prompt that is written out already.
  case systemTextForFinishedPrompt

  public var description: String {
    switch self {
    case .unrecognisedTemplate(let file):
      "\(file): the chat template is not of a known LLaVA kind; name one by --chat-template"
    case .noTemplate(let file, let found): "\(file): expected a chat template, found \(found)"
    case .noPlaceForSystemText(let template):
      "the prompt format \(template) has no place for a system text; leave out --system, or name another by --chat-template"
    case .systemTextForFinishedPrompt:
      "a prompt in the model's own format has its system text already; leave out --system, or --raw"
    }
  }
}

extension PromptTemplate {
  /// Reads and recognises the chat template of a checkpoint's folder, or returns nil where it has none.
  ///
  /// Looked for are `chat_template.json`, `chat_template.jinja` and `chat_template` in `tokenizer_config.json`, in this
  /// order; the last counts only if it has a place for pictures.
  ///
  /// - Throws: `PromptError` for a template that is not recognised; other errors for files that cannot be read.
  public static func load(directory: URL) throws -> PromptTemplate? {
    try TemplateChoice(directory: directory)?.template
  }
}

extension TemplateChoice {
  /// The chat template of a checkpoint's folder, read as `PromptTemplate.load` does.
  init?(directory: URL) throws {
    guard let (file, source) = try Self.chatTemplate(directory: directory) else { return nil }
    guard let template = PromptTemplate.recognise(chatTemplate: source) else {
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
    // Without pictures it is the language model's own, which original checkpoints carry along.
    return source.contains("<image>") ? (file, source) : nil
  }

  /// The template in a JSON file: one text, or a list of named ones of which the default counts.
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
