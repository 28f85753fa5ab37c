internal import Foundation

/// What is right in MME: a text file beside each picture, with a question, a tab and Yes or No on each line.
struct MMETruth {
  struct Key: Hashable {
    var category: String
    /// The text file's name.
    var file: String
    var question: String
  }

  struct Picture {
    var category: String
    var questions: [(key: Key, isYes: Bool)]
  }

  private static let ending = "Please answer yes or no."

  private(set) var pictures: [Picture] = []
  private var answers: [Key: Bool] = [:]

  init(in folder: String, categories: [String]) throws(DataProblem) {
    for category in categories {
      let path = folder + "/" + category
      let separate = path + "/questions_answers_YN"
      let texts = FileManager.default.fileExists(atPath: separate) ? separate : path
      let names = (try? FileManager.default.contentsOfDirectory(atPath: texts)) ?? []
      for name in names.sorted() where name.hasSuffix(".txt") { try read(texts + "/" + name, name, category) }
    }
  }

  private mutating func read(_ path: String, _ name: String, _ category: String) throws(DataProblem) {
    guard let text = FileManager.default.contents(atPath: path).flatMap({ String(data: $0, encoding: .utf8) }) else {
      throw DataProblem(path, "expected a text in UTF-8")
    }
    var picture = Picture(category: category, questions: [])
    for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
      let line = line.trimmingCharacters(in: .whitespaces)
      if line.isEmpty { continue }
      let parts = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
      guard parts.count == 2, let isYes = ["yes": true, "no": false][parts[1].lowercased()] else {
        throw DataProblem(path, at: "line \(index + 1)", "expected a question, a tab and Yes or No")
      }
      let key = Key(category: category, file: name, question: parts[0])
      picture.questions.append((key, isYes))
      answers[key] = isYes
    }
    pictures.append(picture)
  }

  /// Which question is answered.
  ///
  /// LLaVA's prompt has an instruction of its own in place of the benchmark's, which stands behind one space or two.
  ///
  /// - Throws: `DataProblem` where there is no such question.
  func key(_ answer: Answer, in path: String) throws(DataProblem) -> Key {
    let parts = answer.id.description.split(separator: "/")
    guard parts.count > 1 else {
      throw DataProblem(path, "question_id: expected category/file, found \(answer.id)")
    }
    let file = String(parts[parts.count - 1].prefix { $0 != "." }) + ".txt"
    let asked = answer.prompt.replacing(Question.shortly, with: "").trimmingCharacters(in: .whitespacesAndNewlines)
    let forms = asked.contains(Self.ending) ? [asked] : [" ", "  "].map { asked + $0 + Self.ending }
    let keys = forms.map { Key(category: String(parts[0]), file: file, question: $0) }
    guard let key = keys.first(where: { answers[$0] != nil }) else {
      throw DataProblem(path, "\(answer.id) has a question that is not in \(file): \(asked.prefix(80))")
    }
    return key
  }

  /// - Precondition: The key is one that `key` returned.
  func isYes(_ key: Key) -> Bool { answers[key] ?? false }
}
