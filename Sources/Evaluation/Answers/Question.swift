/// A question of a benchmark, whole with the instruction that says how to answer.
package struct Question: Sendable, Equatable {
  package enum Picture: Sendable, Equatable {
    case none
    /// Below the folder of all benchmarks.
    case file(String)
    case base64(String)
  }

  package var id: QuestionID
  package var picture: Picture
  package var text: String
  package var category: String?

  package init(id: QuestionID, picture: Picture, text: String, category: String? = nil) {
    (self.id, self.picture, self.text, self.category) = (id, picture, text, category)
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
    switch question.picture {
    case .none: break
    case .file(let path): try container.encode(path, forKey: .image)
    case .base64(let data): try container.encode("data:image;base64," + data, forKey: .image)
    }
    try container.encode(question.text, forKey: .text)
    try container.encodeIfPresent(question.category, forKey: .category)
  }
}
