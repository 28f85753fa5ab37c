import Storage

/// The ground truth of one question.
struct Reference<Value> {
  var id: QuestionID
  /// The text of the question, which prompts contain; `nil` if the file does not have it.
  var question: String?
  var value: Value

  init(_ id: QuestionID, question: String? = nil, _ value: Value) {
    (self.id, self.question, self.value) = (id, question, value)
  }
}

extension AnswerSet {
  /// The references with their answers.
  ///
  /// The last of several answers to a question is used. A question without an answer is left out, or gets an answer
  /// without text if `countsMissing`.
  ///
  /// - Parameters:
  ///   - file: The file of the references, for error messages.
  ///   - requiresPrompts: Whether no prompt may be another question's; otherwise, most must not.
  /// - Throws: `DataError` for a repeated reference, an answer to another question, prompts of other questions, and
  ///   several answers to a question of which only some have its prompt.
  func paired<Value>(
    _ references: [Reference<Value>], of file: String, requiresPrompts: Bool = false
  ) throws(DataError) -> [(answer: Answer, reference: Value)] {
    var indices: [QuestionID: Int] = [:]
    for (index, reference) in references.enumerated() {
      guard indices.updateValue(index, forKey: reference.id) == nil else {
        throw DataError(file, "the question \(reference.id.description.excerpt) occurs twice")
      }
    }
    var answers: [Answer?] = Array(repeating: nil, count: references.count)
    // Of each question, whether a prompt of its answers was its own.
    var isOwnPrompt: [Bool?] = Array(repeating: nil, count: references.count)
    var (ownPrompts, otherPrompts) = (0, 0)
    var firstOther: DataError?
    var firstReplaced: DataError?
    for answer in items {
      guard let index = indices[answer.id] else {
        throw error(answer, "question_id: \(answer.id.description.excerpt) is not a question of \(file)")
      }
      answers[index] = answer
      guard let question = references[index].question, let isOwn = PromptMatch.isPrompt(answer.prompt, of: question)
      else { continue }
      if isOwn { ownPrompts += 1 } else { otherPrompts += 1 }
      if !isOwn, firstOther == nil {
        firstOther = error(
          answer,
          "prompt: expected the question \(answer.id.description.excerpt) of \(file), \(question.excerpt), found "
            + answer.prompt.excerpt)
      }
      if let other = isOwnPrompt[index], other != isOwn, firstReplaced == nil {
        firstReplaced = error(
          answer,
          "prompt: another answer to the question \(answer.id.description.excerpt) has another prompt, found "
            + "\(answer.prompt.excerpt); one of them belongs to another benchmark or question")
      }
      isOwnPrompt[index] = isOwn
    }
    if let firstOther, requiresPrompts || otherPrompts > ownPrompts { throw firstOther }
    if let firstReplaced { throw firstReplaced }
    return zip(references, answers).compactMap { reference, answer in
      guard let answer else { return countsMissing ? (Answer(id: reference.id, text: nil), reference.value) : nil }
      return (answer, reference.value)
    }
  }
}

/// Comparison of prompts with questions, which shows that an answer file belongs to another benchmark.
enum PromptMatch {
  /// The number of letters and digits below which a prompt is a placeholder that shows nothing.
  private static let minLength = 8

  /// Whether a prompt has a question in it, or is a part of it; `nil` if the texts are too short to show that.
  ///
  /// Case, punctuation, white space and the instruction of short answers are ignored.
  static func isPrompt(_ prompt: String, of question: String) -> Bool? {
    if prompt.hasPrefix(question), !question.isEmpty { return true }
    let (prompt, question) = (
      letters(Question.withoutInstruction(prompt)), letters(Question.withoutInstruction(question))
    )
    guard !question.isEmpty, prompt.count >= minLength else { return nil }
    return prompt.contains(question) || question.contains(prompt)
  }

  private static func letters(_ text: String) -> String {
    PythonText.string(
      text.pythonLower.unicodeScalars.filter { $0.properties.isAlphabetic || $0.properties.numericType != nil })
  }
}
