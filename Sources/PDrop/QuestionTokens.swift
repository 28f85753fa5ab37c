import Foundation
import LLaVA
import ModelFormats
import TokenDropping
import Tokenizers

extension VisionLanguageModel {
  /// The question of a request, for the selection of visual tokens: the last message of the user, or all text of a
  /// rendered prompt; without BOS.
  ///
  /// - Returns: No tokens for a method that does not use the question.
  func question(of request: Request, for method: Preselection.Method) -> SelectionQuestion {
    guard method.usesQuestion else { return .languageModel([]) }
    if method == .cdPruner, let clip = llava.configuration.clip, let clipTokenizer {
      let text = questionText(of: request).replacing(Self.shortAnswerInstruction, with: "")
      return .clip(clipTokenizer.pieces(of: text, length: clip.contextLength))
    }
    if case .tokens(let tokens) = request.prompt { return .languageModel(textTokens(tokens)) }
    let text = questionText(of: request)
    guard method == .mmTok else { return .languageModel(tokenizer.encode(text).map(Int.init)) }
    return .languageModel(MMTokKeywords(text).words.flatMap { tokenizer.encode($0) }.map(Int.init))
  }

  /// The instruction of LLaVA's benchmarks that CDPruner's code removes from the question.
  private static let shortAnswerInstruction = "\nAnswer the question using a single word or phrase."

  private func textTokens(_ tokens: [Int]) -> [Int] {
    tokens.filter { $0 != imageToken && $0 != tokenizer.bosToken.map(Int.init) }
  }

  private func questionText(of request: Request) -> String {
    let text: String
    switch request.prompt {
    case .tokens(let tokens): text = tokenizer.decode(textTokens(tokens).map { Int32(clamping: $0) })
    case .rendered(let rendered): text = rendered.replacing("<image>", with: " ")
    case .messages(let messages):
      let parts = messages.last { $0.role == .user }?.parts ?? []
      text = parts.compactMap { if case .text(let text) = $0 { text } else { nil } }.joined(separator: "\n")
    }
    return text.trimmingCharacters(in: .whitespacesAndNewlines)
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
