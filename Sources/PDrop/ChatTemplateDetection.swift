public import Foundation
import Storage
public import Tokenizers

extension ChatTemplate {
  /// A template from a file: the Jinja source, or JSON with the source as `chat_template`.
  ///
  /// - Throws: `PromptError` for a file that cannot be read and for a template that is not supported.
  public init(file: String) throws(PromptError) {
    let url = URL(filePath: file)
    let name = url.lastPathComponent
    guard let source = try ChatTemplateFiles.source(name, in: url.deletingLastPathComponent()) else {
      throw .noTemplate(file: name, found: "none")
    }
    try self.init(name: name, source: source)
  }

  /// The chat template of a checkpoint's folder, or `nil` if it has none with a place for images.
  ///
  /// - Throws: `PromptError` for a file that cannot be read and for a template that is not supported.
  public static func load(directory: URL, tokenizer: Tokenizer) throws(PromptError) -> ChatTemplate? {
    try ChatTemplateFiles(directory: directory, tokenizer: tokenizer).template
  }
}

/// The chat templates of a checkpoint's folder, in the order of transformers.
///
/// The files are `chat_template.jinja`, then the key `chat_template` of `chat_template.json`, `processor_config.json`
/// and `tokenizer_config.json`. A template without a place for images is the language model's own, which many
/// checkpoints include, and is passed over.
package struct ChatTemplateFiles {
  /// The first template with a place for images.
  package private(set) var template: ChatTemplate?
  /// The files before it whose templates have no place for images.
  package private(set) var passedOver: [String] = []

  package init(directory: URL, tokenizer: Tokenizer) throws(PromptError) {
    let placeholder = tokenizer.imageToken.flatMap { tokenizer.pieces(of: [$0])[0] } ?? "<image>"
    for file in ["chat_template.jinja", "chat_template.json", "processor_config.json", "tokenizer_config.json"] {
      guard let source = try Self.source(file, in: directory) else { continue }
      var template = try ChatTemplate(name: file, source: source)
      template.useSpecialTokens(of: tokenizer)
      if let placing = try template.placingImages(as: placeholder) {
        self.template = placing
        return
      }
      passedOver.append(file)
    }
  }

  /// The template of a GGUF file, which may be one for text alone: images are then written into the text.
  init(gguf source: String?, file: String, tokenizer: Tokenizer) throws(PromptError) {
    guard let source else { return }
    let placeholder = tokenizer.imageToken.flatMap { tokenizer.pieces(of: [$0])[0] } ?? "<image>"
    var template = try ChatTemplate(name: file, source: source)
    template.useSpecialTokens(of: tokenizer)
    self.template = try template.placingImages(as: placeholder, takesImageText: true)
    if self.template == nil { passedOver = [file] }
  }

  /// The Jinja source in a file, or `nil` if there is no such file or it has no template.
  fileprivate static func source(_ file: String, in directory: URL) throws(PromptError) -> String? {
    guard file.hasSuffix(".json") else {
      guard
        let bytes = try PromptError.wrapping({ () throws(VocabularyError) in
          try TokenizerFile.bytes(file, in: directory)
        })
      else { return nil }
      guard let source = String(validating: bytes, as: UTF8.self) else {
        throw PromptError.noTemplate(file: file, found: "bytes that are not UTF-8")
      }
      return source
    }
    let root = try PromptError.wrapping { () throws(VocabularyError) in
      try TokenizerFile.json(file, in: directory)
    }
    return try root.flatMap { root throws(PromptError) in try source(root["chat_template"], file) }
  }

  /// The template of a JSON value: a string, or the entry `default` of named templates.
  private static func source(_ value: JSONValue, _ file: String) throws(PromptError) -> String? {
    if value.isNull { return nil }
    let named = value.array?.first { $0["name"].string == "default" }?["template"] ?? value["default"]
    guard let source = value.string ?? named.string else {
      throw .noTemplate(file: file, found: value.kind)
    }
    return source
  }
}

extension PromptError {
  /// The result of reading a file, or its error as `.file`.
  fileprivate static func wrapping<T>(_ body: () throws(VocabularyError) -> T) throws(PromptError) -> T {
    do { return try body() } catch { throw .file(error) }
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
  /// The files whose templates have no place for images and were passed over.
  public var passedOver: [String] = []

  public init(_ template: ChatTemplate, _ reason: Reason) {
    self.template = template
    self.reason = reason
  }

  /// Whether the choice is a guess: the model may have been trained with another template, which degrades its answers.
  public var isGuess: Bool { reason == .nothing }
}

extension ChatTemplateDetection: CustomStringConvertible {
  /// The name and the reason, such as `vicuna_v1, as requested` or `from chat_template.json`.
  public var description: String {
    switch reason {
    case .given: "\(template.name), as requested"
    case .file(let file): "from \(file)"
    case .family(let evidence): "\(template.name), since \(evidence)"
    case .nothing: "\(template.name), the default"
    }
  }
}

extension ChatTemplateDetection {
  /// The template that is given, else that of the model's files, else that of the model's family.
  init(
    given: ChatTemplate?, _ tokenizer: Tokenizer, files: () throws(PromptError) -> ChatTemplateFiles,
    family: @autoclosure () -> ChatTemplateDetection
  ) throws(PromptError) {
    if var given {
      given.useSpecialTokens(of: tokenizer)
      self.init(given, .given)
      return
    }
    let files = try files()
    self = files.template.map { ChatTemplateDetection($0, .file($0.name)) } ?? family()
    passedOver = files.passedOver
  }

  /// The template of the model's family, for a directory without a chat template, as the original code writes them.
  ///
  /// The configuration takes precedence over the name, and the name over the default.
  ///
  /// - Parameters:
  ///   - modelType: The model type of `config.json`, such as `llava_mistral`.
  ///   - textModelType: The language model's type, such as `llama`.
  ///   - architectures: The class names of `config.json`, such as `LlavaMistralForCausalLM`.
  ///   - nameOrPath: `_name_or_path` of `config.json`: the model that this one was trained from or saved as.
  ///   - vocabularySize: The vocabulary size of the language model, `N`.
  ///   - name: The name of the directory or of the GGUF file; case is ignored.
  ///   - isGGUF: Whether the values come from GGUF files, whose `general.name` is `nameOrPath`.
  ///
  /// Source: the names that LLaVA's `run_llava.py` and `builder.py` search for, in their order.
  package init(
    modelType: String, textModelType: String, architectures: [String] = [], nameOrPath: String? = nil,
    vocabularySize: Int, name: String, isGGUF: Bool = false
  ) {
    func type(_ word: String) -> Reason? {
      [modelType, textModelType].first { $0.lowercased().contains(word) }
        .map { .family("the model type of \(isGGUF ? "the file" : "config.json") is \($0.lowercased())") }
        ?? architectures.first { $0.lowercased().contains(word) }
        .map { .family("the architecture of config.json is \($0)") }
    }
    func vocabulary(_ sizes: Range<Int>, of owner: String) -> Reason? {
      sizes.contains(vocabularySize) ? .family("the vocabulary of \(vocabularySize) is \(owner)'s") : nil
    }
    func rules(name: String, in place: String) -> [(ChatTemplate, Reason?)] {
      let name = name.lowercased()
      func named(_ words: String...) -> Reason? {
        words.first { name.contains($0) }.map { .family("\(place) contains '\($0)'") }
      }
      return [
        (.llavaLlama2, named("llama-2", "llama2")),
        (.mistralInstruct, named("mistral")),
        (.chatMLDirect, named("34b")),
        (.qwen15, named("qwen")),
        (.vicunaV1, named("vicuna", "v1.5", "v1.6")),
      ]
    }
    // Size ranges begin at the family's own vocabulary and include added tokens and padding.
    let config: [(ChatTemplate, Reason?)] = [
      (.mistralInstruct, type("mistral")),
      (.qwen15, type("qwen")),
      (.llavaLlama3, vocabulary(128_256..<129_024, of: "Llama-3")),
      (.chatMLDirect, vocabulary(64_000..<64_512, of: "Yi")),
    ]
    let savedName = nameOrPath?.split(separator: "/").last.map(String.init) ?? ""
    let all =
      config + rules(name: savedName, in: isGGUF ? "general.name" : "_name_or_path of config.json")
      + rules(name: name, in: isGGUF ? "the file's name" : "the directory's name")
    let chosen = all.lazy.compactMap { template, reason in reason.map { ChatTemplateDetection(template, $0) } }.first
    self = chosen ?? ChatTemplateDetection(.vicunaV1, .nothing)
  }
}
