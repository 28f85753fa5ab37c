import Foundation
import TokenDropping
import Tokenizers

extension VisionLanguageModel {
  /// The tokens of a request's question, for the selection of visual tokens: the last message of the user, or all text of
  /// a rendered prompt; without BOS.
  ///
  /// - Returns: Nothing for a method that does not use the question.
  func questionTokens(of request: Request, for method: Preselection.Method) -> [Int] {
    guard method.usesQuestion else { return [] }
    let text: String
    switch request.prompt {
    case .tokens(let tokens):
      return tokens.filter { $0 != imageToken && $0 != tokenizer.bosToken.map(Int.init) }
    case .rendered(let rendered): text = rendered.replacing("<image>", with: " ")
    case .messages(let messages):
      let parts = messages.last { $0.role == .user }?.parts ?? []
      text = parts.compactMap { if case .text(let text) = $0 { text } else { nil } }.joined(separator: "\n")
    }
    let question = text.trimmingCharacters(in: .whitespacesAndNewlines)
    guard method == .mmTok else { return tokenizer.encode(question).map(Int.init) }
    return MMTokKeywords(question).words.flatMap { tokenizer.encode($0) }.map(Int.init)
  }
}

/// The words of a question that MMTok covers: those that may describe something in the image.
///
/// Source: `text_processor.py` of MMTok's code (Ironieser/MMTok): the instructions of two benchmarks and the words of a
/// list are left out; of a question without other words, all text is used.
struct MMTokKeywords {
  private static let instructions = [
    "Answer the question using a single word or phrase.",
    "Answer with the option's letter from the given choices directly.",
  ]
  private static let ignored: Set<String> = Set(
    """
    a an the is are was were be been being have has had do does did it they he she we you i what where when why how who \
    which and or but so if then question answer to for with by from at into onto upon
    """.split(separator: " ").map(String.init))

  let words: [String]

  init(_ question: String) {
    let text = Self.instructions.reduce(question) { $0.replacing($1, with: "") }
    let words = text.split { !($0.isLetter || $0.isNumber || $0 == "_") }.map(String.init)
    let kept = words.filter { !Self.ignored.contains($0.lowercased()) }
    self.words = kept.isEmpty ? text.split(whereSeparator: \.isWhitespace).map(String.init) : kept
  }
}
