import Storage
import Tokenizers

extension VisionLanguageModel {
  /// Lines about the tokens that end an answer: their texts and ids, the file that defines them, and a note if the
  /// tokenizer's own EOS token is none of them.
  public var eosDescription: [String] {
    let tokens = eosTokens.sorted()
    let names = tokens.isEmpty ? "none" : tokens.prefix(8).map(name).joined(separator: ", ")
    let line = "EOS tokens: \(names)\(tokens.count > 8 ? ", …" : "") (from \(eosTokensFile ?? "the tokenizer"))"
    guard let own = tokenizer.eosToken, !eosTokens.contains(Int(own)) else { return [line] }
    return [line, "note: \(name(Int(own))), the tokenizer's EOS token, is none of them and does not end an answer"]
  }

  /// A token as its text and id, such as `"</s>" 2`.
  private func name(_ id: Int) -> String { (tokenText(id).map { $0.excerpt + " " } ?? "") + "\(id)" }

  /// The text of a token; `nil` if the tokenizer has none with this id.
  func tokenText(_ id: Int) -> String? { Int32(exactly: id).flatMap { tokenizer.pieces(of: [$0])[0] } }
}
