/// The prompt format of a model, and what it was chosen by.
public struct TemplateChoice: Equatable, Sendable {
  public enum Reason: Equatable, Sendable {
    /// Whoever loaded the model named it.
    case given
    /// The directory's own chat template, in this file.
    case file(String)
    /// The directory has no chat template, but its configuration or its name tells the family: the words say how.
    case family(String)
    /// Nothing told the family, so it is the format of most LLaVA models.
    case nothing
  }

  public var template: PromptTemplate
  public var reason: Reason

  public init(_ template: PromptTemplate, _ reason: Reason) {
    self.template = template
    self.reason = reason
  }

  /// Whether the model may well have been trained with another format, which spoils its answers.
  public var isGuess: Bool { reason == .nothing }
}

extension TemplateChoice: CustomStringConvertible {
  /// The name and the reason, such as `vicuna, from chat_template.json`.
  public var description: String {
    switch reason {
    case .given: "\(template.name), as asked for"
    case .file(let file): "\(template.name), from \(file)"
    case .family(let evidence): "\(template.name), since \(evidence)"
    case .nothing: "\(template.name), since nothing says otherwise"
    }
  }
}

extension TemplateChoice {
  /// Chooses by the model's family, for a directory without a chat template, as those of the original code are.
  ///
  /// What `config.json` says goes before the name, and the names before what is usual.
  ///
  /// - Parameters:
  ///   - modelType: The model type of `config.json`, such as `llava_mistral`.
  ///   - textModelType: The language model's type, such as `llama`.
  ///   - vocabularySize: The language model's vocabulary.
  ///   - name: The directory's name, in which capitals count for nothing.
  ///
  /// Source: the names that LLaVA's `run_llava.py` and `builder.py` look for, in their order.
  package init(modelType: String, textModelType: String, vocabularySize: Int, name: String) {
    let types = [modelType, textModelType].map { $0.lowercased() }
    let name = name.lowercased()
    func type(_ word: String) -> TemplateChoice.Reason? {
      types.first { $0.contains(word) }.map { .family("config.json says \($0)") }
    }
    func vocabulary(_ sizes: Range<Int>, of owner: String) -> TemplateChoice.Reason? {
      sizes.contains(vocabularySize) ? .family("the vocabulary of \(vocabularySize) is \(owner)'s") : nil
    }
    func named(_ words: String...) -> TemplateChoice.Reason? {
      words.first { name.contains($0) }.map { .family("the directory's name has '\($0)'") }
    }
    // Sizes begin at the family's own vocabulary and leave room for added tokens and padding.
    let rules: [(PromptTemplate, TemplateChoice.Reason?)] = [
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
    let chosen = rules.lazy.compactMap { template, reason in reason.map { TemplateChoice(template, $0) } }.first
    self = chosen ?? TemplateChoice(.vicunaV1, .nothing)
  }
}
