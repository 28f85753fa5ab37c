import Foundation
import Storage

/// A line of an answer file, written by LLaVA's scripts or by this project.
package struct Answer: Sendable, Equatable {
  /// The prefill cost of an answer; only lines of this project contain it.
  package struct Cost: Sendable, Equatable {
    /// FLOPs of prefill and ranking.
    package var prefillFlops: Int
    /// Prefill FLOPs without dropping.
    package var baselineFlops: Int
  }

  package var id: QuestionID
  /// The question without its image placeholder; only ScienceQA's prompts keep it.
  package var prompt: String
  /// The answer; `nil` for a question that failed.
  package var text: String?
  package var cost: Cost?
  /// The log-probability that the answer begins with each choice of the question, if the run scored them.
  package var choiceLogprobs: [String: Double]?
  /// The probability of the most likely choice among the choices, in an answer by likelihood.
  var confidence: Double?
  /// The line in the answer file, for error messages; `nil` for an answer that is not in it.
  package var place: String?

  package init(id: QuestionID, prompt: String = "", text: String?, cost: Cost? = nil, place: String? = nil) {
    (self.id, self.prompt, self.text, self.cost, self.place) = (id, prompt, text, cost, place)
  }
}

extension Answer {
  fileprivate init(_ entry: DataValue) throws(DataError) {
    let isFailure = entry.has("error")
    self.init(
      id: try entry.identifier("question_id"), prompt: entry["prompt"].string ?? "",
      text: isFailure ? nil : try entry.string("text"), cost: Cost(entry["metadata"]), place: entry.place)
    guard let choices = entry["choice_logprobs"].members, !isFailure else { return }
    choiceLogprobs = [:]
    for choice in choices {
      guard let logprob = choice.value.double, logprob.isFinite else {
        throw entry.error(
          "choice_logprobs: expected a number for \(choice.key.excerpt), found \(choice.value.kind.excerpt)")
      }
      choiceLogprobs?[choice.key] = logprob
    }
  }

  /// The most likely choice and its probability among the choices; of equal ones the first in alphabetical order.
  fileprivate var mostLikelyChoice: (choice: String, probability: Double)? {
    guard let choiceLogprobs, let best = choiceLogprobs.max(by: { ($0.value, $1.key) < ($1.value, $0.key) }) else {
      return nil
    }
    return (best.key, 1 / choiceLogprobs.values.reduce(0) { $0 + exp($1 - best.value) })
  }
}

extension Answer.Cost {
  fileprivate init?(_ metadata: JSONValue) {
    guard let prefill = metadata["flops"]["prefill"].integer, let rank = metadata["flops"]["rank"].integer,
      let baseline = metadata["flops_prefill_without_dropping"].integer
    else { return nil }
    let (sum, overflow) = prefill.addingReportingOverflow(rank)
    guard !overflow else { return nil }
    self.init(prefillFlops: sum, baselineFlops: baseline)
  }
}

/// The answers of a run to a benchmark's questions, in the order of their file.
package struct AnswerSet: Sendable {
  package let items: [Answer]
  /// Whether a question without an answer counts as wrong instead of being left out.
  package let countsMissing: Bool
  /// The source of the answers, for error messages.
  package let path: String

  package init(_ items: [Answer], countsMissing: Bool = true, path: String = "answers") {
    (self.items, self.countsMissing, self.path) = (items, countsMissing, path)
  }

  /// Reads an answer file.
  ///
  /// - Throws: `DataError`.
  package init(reading path: String, countsMissing: Bool = true) throws {
    var items: [Answer] = []
    try DataValue.readLines(path) { items.append(try Answer($0)) }
    guard !items.isEmpty else { throw DataError(path, "has no answers") }
    self.init(items, countsMissing: countsMissing, path: path)
  }

  package var failedCount: Int { items.count { $0.text == nil } }

  /// The set with the most likely choice as the text of each answer; `nil` if no answer has scored choices.
  package var byLikelihood: AnswerSet? {
    guard items.contains(where: { $0.choiceLogprobs != nil }) else { return nil }
    let chosen = items.map { answer in
      var chosen = answer
      let best = answer.mostLikelyChoice
      (chosen.text, chosen.confidence) = (best?.choice, best?.probability)
      return chosen
    }
    return AnswerSet(chosen, countsMissing: countsMissing, path: path)
  }

  /// The number of answers with the id and the prompt of an earlier one.
  package var repeatedCount: Int {
    struct Key: Hashable {
      var id: QuestionID
      var prompt: ByteString
    }
    return items.count - Set(items.map { Key(id: $0.id, prompt: ByteString($0.prompt)) }).count
  }

  /// The fraction of the baseline's prefill FLOPs that dropping saved; `nil` when no answer contains its cost.
  package var savedFlops: Double? {
    let costs = items.compactMap(\.cost)
    // Sums of Double, because the numbers of a hostile file may overflow an Int.
    let baseline = costs.reduce(0) { $0 + Double($1.baselineFlops) }
    return baseline == 0 ? nil : 1 - costs.reduce(0) { $0 + Double($1.prefillFlops) } / baseline
  }

  /// An error in the line of an answer.
  func error(_ answer: Answer, _ reason: String) -> DataError { DataError(path, at: answer.place, reason) }
}

/// A question of a benchmark, with its answer instruction.
package struct Question: Sendable, Equatable {
  package enum Image: Sendable, Equatable {
    case none
    /// A path relative to the data folder.
    case file(String)
    case base64(String)
  }

  package var id: QuestionID
  package var image: Image
  package var text: String
  package var category: String?
  /// The answers whose likelihood is scored; empty for none.
  package var choices: [String] = []

  package init(id: QuestionID, image: Image, text: String, category: String? = nil) {
    (self.id, self.image, self.text, self.category) = (id, image, text, category)
  }

  /// The letters of the options, which begin lines of the prompt, such as `A. a dog`.
  package static func optionLetters(in prompt: String) -> [String] {
    let letters = prompt.split(whereSeparator: \.isNewline).compactMap { line in
      line.dropFirst().hasPrefix(". ") ? line.first : nil
    }
    // The options are the longest run A, B, C, ... at the end; texts before them may begin alike.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    guard let start = letters.lastIndex(of: "A") else { return [] }
    return zip(letters[start...], alphabet).prefix { $0 == $1 }.map { String($0.0) }
  }

  /// The last line of questions with short answers.
  static let shortAnswerInstruction = "Answer the question using a single word or phrase."
  /// The last line of multiple-choice questions.
  static let optionLetterInstruction = "Answer with the option's letter from the given choices directly."

  /// A prompt without the last line that asks for a short answer.
  static func withoutInstruction(_ prompt: String) -> String {
    PythonText.stripped(prompt.replacing(shortAnswerInstruction, with: ""))
  }
}

/// A line of a question file of LLaVA.
package struct QuestionLine: Encodable {
  private enum CodingKeys: String, CodingKey {
    case image, text, category
    case questionID = "question_id"
    case scoredChoices = "score_choices"
  }

  private let question: Question

  package init(_ question: Question) { self.question = question }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(question.id, forKey: .questionID)
    switch question.image {
    case .none: break
    case .file(let path): try container.encode(path, forKey: .image)
    case .base64(let data): try container.encode("data:image;base64," + data, forKey: .image)
    }
    try container.encode(question.text, forKey: .text)
    try container.encodeIfPresent(question.category, forKey: .category)
    if !question.choices.isEmpty { try container.encode(question.choices, forKey: .scoredChoices) }
  }
}

/// LLaVA's question files, with `{"question_id", "image", "text"[, "category"]}` on each line.
enum QuestionFile {
  /// Calls `body` with each question of a file.
  ///
  /// - Parameters:
  ///   - name: The file, relative to the data folder.
  ///   - images: The folder of the images, relative to the data folder.
  static func read(
    _ name: String, images: String, in data: DataFolder, _ body: (Question) throws -> Void
  ) throws {
    try DataValue.readLines(data.path(name)) { entry in
      let image: Question.Image = entry.has("image") ? .file(images + "/" + (try entry.string("image"))) : .none
      try body(
        Question(
          id: entry.identifier("question_id"), image: image, text: entry.string("text"),
          category: entry.optionalString("category")))
    }
  }
}

/// The identifier of a question; `7` and `"7"` are equal, because published files use both.
///
/// Identifiers are compared by their bytes.
package struct QuestionID: Hashable, Sendable, Encodable, CustomStringConvertible {
  package let description: String
  private let number: Int?

  package init(_ text: String) { (description, number) = (text, nil) }
  package init(_ number: Int) { (description, self.number) = ("\(number)", number) }

  package static func == (a: Self, b: Self) -> Bool { a.description.hasBytes(of: b.description) }
  package func hash(into hasher: inout Hasher) { hasher.combine(ByteString(description)) }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if let number { try container.encode(number) } else { try container.encode(description) }
  }
}
