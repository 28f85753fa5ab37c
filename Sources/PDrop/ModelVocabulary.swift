import Foundation
import ModelFormats
import Storage
public import Tokenizers

/// The vocabulary, chat templates and EOS tokens of a model of any layout, from a directory or from GGUF metadata.
struct ModelVocabulary {
  let vocabulary: Vocabulary
  /// The tokenizer keys of a GGUF file; `nil` for another model.
  let gguf: GGUFTokenizer?
  /// The model's directory, or the name of its GGUF file for messages.
  private let source: URL

  /// - Throws: `CheckpointError` or `VocabularyError`.
  init(_ files: any ModelFiles) throws {
    source = URL(filePath: files.ggufFiles.first ?? files.path)
    gguf = try files.metadata.map { try GGUFTokenizer($0) }
    if let gguf {
      vocabulary = try Vocabulary.load(gguf: gguf, file: source.lastPathComponent)
    } else {
      vocabulary = try Vocabulary.load(
        directory: source, prefersSentencePiece: files.configuration.layout == .original)
    }
  }

  /// The chat templates of the model's files.
  func chatTemplates(_ tokenizer: Tokenizer) throws(PromptError) -> ChatTemplateFiles {
    guard let gguf else { return try ChatTemplateFiles(directory: source, tokenizer: tokenizer) }
    return try ChatTemplateFiles(gguf: gguf.chatTemplate, file: source.lastPathComponent, tokenizer: tokenizer)
  }

  /// The EOS tokens of a GGUF file, and its name; `nil` for another model, or without any.
  var eosTokens: (tokens: Set<Int>, file: String)? {
    guard let gguf, !gguf.eosTokens.isEmpty else { return nil }
    return (Set(gguf.eosTokens.map(Int.init)), source.lastPathComponent)
  }
}

extension Tokenizer {
  /// The tokenizer of a model: of a directory, or of the GGUF file of a language model.
  ///
  /// - Throws: `ModelError` naming the file, what was expected and what was found.
  public init(model path: String) throws(ModelError) {
    do {
      let url = URL(filePath: path)
      if let metadata = try ModelSearch.metadata(path) {
        self.init(try Vocabulary.load(gguf: GGUFTokenizer(metadata), file: url.lastPathComponent))
      } else {
        try self.init(directory: url)
      }
    } catch {
      throw ModelError(loading: error, in: path)
    }
  }
}
