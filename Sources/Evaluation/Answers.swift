import Storage

/// A line of an answer file, LLaVA's or ours.
package struct Answer: Sendable, Equatable {
  /// What an answer cost, which only our lines say.
  package struct Cost: Sendable, Equatable {
    /// Operations of prompt and ranking, and those of the prompt without dropping.
    package var prompt: Int
    package var promptWithoutDropping: Int
  }

  package var id: QuestionID
  /// The question without the mark of its image; ScienceQA's have it.
  package var prompt: String
  /// `nil` for a record that could not be answered.
  package var text: String?
  package var cost: Cost?

  package init(id: QuestionID, prompt: String = "", text: String?, cost: Cost? = nil) {
    (self.id, self.prompt, self.text, self.cost) = (id, prompt, text, cost)
  }
}

extension Answer {
  fileprivate init(_ record: DataRow) throws(DataError) {
    let isFailure = record.has("error")
    self.init(
      id: try record.identifier("question_id"), prompt: record.value["prompt"].string ?? "",
      text: isFailure ? nil : try record.text("text"), cost: Cost(record.value["metadata"]))
  }
}

extension Answer.Cost {
  fileprivate init?(_ metadata: JSONValue) {
    guard let prefill = metadata["flops"]["prefill"].integer, let rank = metadata["flops"]["rank"].integer,
      let without = metadata["flops_prefill_without_dropping"].integer
    else { return nil }
    self.init(prompt: prefill + rank, promptWithoutDropping: without)
  }
}

/// The answers of a run to a benchmark's questions, in the order of their file.
package struct AnswerSheet: Sendable {
  package let answers: [Answer]
  /// Whether a question without an answer is answered wrongly, or does not count.
  package let countsMissing: Bool
  /// Where the answers are from, for messages.
  package let path: String

  package init(_ answers: [Answer], countsMissing: Bool = true, path: String = "answers") {
    (self.answers, self.countsMissing, self.path) = (answers, countsMissing, path)
  }

  /// Reads an answer file.
  package init(reading path: String, countsMissing: Bool = true) throws {
    var answers: [Answer] = []
    try DataRow.readLines(path) { answers.append(try Answer($0)) }
    self.init(answers, countsMissing: countsMissing, path: path)
  }

  package var failedCount: Int { answers.count { $0.text == nil } }

  /// The share of the prompts' operations that dropping saved; `nil` where the answers do not say.
  package var savedShare: Double? {
    let costs = answers.compactMap(\.cost)
    let whole = costs.reduce(0) { $0 + $1.promptWithoutDropping }
    return whole == 0 ? nil : 1 - Double(costs.reduce(0) { $0 + $1.prompt }) / Double(whole)
  }

  /// Every item of truth that counts with its answer, of several to a name the last; an empty one where it is missing.
  func paired<Truth>(_ truths: [(id: QuestionID, truth: Truth)]) -> [(answer: Answer, truth: Truth)] {
    let byID = Dictionary(answers.map { ($0.id, $0) }, uniquingKeysWith: { $1 })
    return truths.compactMap { id, truth in
      guard let answer = byID[id] else { return countsMissing ? (Answer(id: id, text: nil), truth) : nil }
      return (answer, truth)
    }
  }
}

/// A question of a benchmark, whole with the instruction that says how to answer.
package struct Question: Sendable, Equatable {
  package enum Image: Sendable, Equatable {
    case none
    /// Below the folder of all benchmarks.
    case file(String)
    case base64(String)
  }

  package var id: QuestionID
  package var image: Image
  package var text: String
  package var category: String?

  package init(id: QuestionID, image: Image, text: String, category: String? = nil) {
    (self.id, self.image, self.text, self.category) = (id, image, text, category)
  }

  /// How benchmarks of short answers end their questions, and those of options.
  static let shortly = "Answer the question using a single word or phrase."
  static let byLetter = "Answer with the option's letter from the given choices directly."
}

/// A line of LLaVA's question files.
package struct QuestionLine: Encodable {
  private enum CodingKeys: String, CodingKey { case question_id, image, text, category }

  private let question: Question

  package init(_ question: Question) { self.question = question }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(question.id, forKey: .question_id)
    switch question.image {
    case .none: break
    case .file(let path): try container.encode(path, forKey: .image)
    case .base64(let data): try container.encode("data:image;base64," + data, forKey: .image)
    }
    try container.encode(question.text, forKey: .text)
    try container.encodeIfPresent(question.category, forKey: .category)
  }
}

/// LLaVA's question files: `{"question_id", "image", "text"[, "category"]}` on each line.
enum QuestionFile {
  /// - Parameters:
  ///   - name: The file, in the folder of all benchmarks.
  ///   - images: Where its relative paths begin, in that folder.
  static func read(
    _ name: String, images: String, in data: DataFolder, _ body: (Question) throws -> Void
  ) throws {
    try DataRow.readLines(data.path(name)) { record in
      let image: Question.Image = record.has("image") ? .file(images + "/" + (try record.text("image"))) : .none
      try body(
        Question(
          id: record.identifier("question_id"), image: image, text: record.text("text"),
          category: record.optionalText("category")))
    }
  }
}

/// What names a question: `7` and `"7"` are the same name, as published files differ in which they write.
package struct QuestionID: Hashable, Sendable, Encodable, CustomStringConvertible {
  package let description: String
  private let number: Int?

  package init(_ text: String) { (description, number) = (text, nil) }
  package init(_ number: Int) { (description, self.number) = ("\(number)", number) }

  package static func == (a: Self, b: Self) -> Bool { a.description == b.description }
  package func hash(into hasher: inout Hasher) { hasher.combine(description) }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if let number { try container.encode(number) } else { try container.encode(description) }
  }
}
