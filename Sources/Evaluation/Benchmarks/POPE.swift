import Storage

/// POPE: yes-or-no questions about objects that are in the image, or that often occur together with them.
struct POPE: Benchmark {
  private static let questionFile = "pope/llava_pope_test.jsonl"
  private static let images = "pope/val2014"
  private static let categories = ["adversarial", "popular", "random"]

  let name = "pope"
  let answerFolder = "pope/answers"
  let metricDescription = "F1, mean of adversarial, popular and random"
  var files: [DataFile] {
    [DataFile(Self.questionFile, .questions, .groundTruth), DataFile(Self.images, .images)]
      + Self.categories.map { DataFile(Self.labelFile($0), .groundTruth) }
  }

  private static func labelFile(_ category: String) -> String { "pope/coco/coco_pope_\(category).json" }

  func choices(of question: Question) -> [String] { YesNo.choices }

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.images, in: data, body)
  }

  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let pairs = try answers.paired(
      try references(in: data), of: data.path(Self.questionFile), requiresPrompts: true)
    var f1: [Metric] = []
    var metrics: [Metric] = []
    for category in Self.categories {
      // A question without an answer counts as wrong, whatever its label.
      let outcomes = pairs.filter { $0.reference.category == category }.map { answer, reference in
        (predicted: answer.text.map(YesNo.isYesForPOPE) ?? !reference.isYes, actual: reference.isYes)
      }
      if outcomes.isEmpty { continue }
      let confusion = ConfusionMatrix(outcomes)
      let interval = bootstrap(outcomes.count) { ConfusionMatrix($0.map { outcomes[$0] }).f1 }
      func metric(_ name: String, _ ratio: Double) -> Metric {
        Metric("\(category) \(name)", 100 * ratio, nil, count: confusion.count, isMain: false)
      }
      f1.append(
        Metric("\(category) F1", 100 * confusion.f1, interval?.scaled(by: 100), count: confusion.count, isMain: false))
      metrics.append(.percentage("\(category) accuracy", confusion.correct, of: confusion.count, isMain: false))
      metrics.append(metric("precision", confusion.precision))
      metrics.append(metric("recall", confusion.recall))
      metrics.append(metric("yes ratio", confusion.yesRatio))
    }
    let outcomes = pairs.compactMap { answer, reference in
      Outcome(answer, isCorrect: answer.text.map(YesNo.isYesForPOPE) == reference.isYes)
    }
    let missing = Self.categories.filter { category in !pairs.contains { $0.reference.category == category } }
    return Score(
      [.meanOfParts("F1", f1)] + f1 + metrics,
      notes: missing.isEmpty
        ? []
        : ["pope: no questions of \(missing.joined(separator: ", ")), so the mean does not include these categories"],
      outcomes: outcomes)
  }

  private struct LabelKey: Hashable {
    var image: ByteString
    var question: ByteString

    init(image: String, question: String) {
      (self.image, self.question) = (ByteString(image), ByteString(Question.withoutInstruction(question)))
    }
  }

  /// The label of each question: the label in the category's file with the same image and text.
  ///
  /// The published scorer gives the n-th answer of a category its n-th label instead, which is the same only for
  /// files in the same order. The files of labels have other ids, and the newer ones have more questions.
  private func references(in data: DataFolder) throws -> [Reference<(category: String, isYes: Bool)>] {
    var labels: [String: [LabelKey: Bool]] = [:]
    for category in Self.categories { labels[category] = try Self.labels(category, in: data) }
    var references: [Reference<(category: String, isYes: Bool)>] = []
    var seen: Set<QuestionID> = []
    try DataValue.readLines(data.path(Self.questionFile)) { entry in
      let (id, category) = (try entry.identifier("question_id"), try entry.string("category"))
      guard let labels = labels[category] else {
        throw entry.error("category: expected \(Remedy.list(Self.categories)), found \(category.excerpt)")
      }
      guard seen.insert(id).inserted else {
        throw entry.error("question_id: \(id.description.excerpt) occurs twice")
      }
      let (image, text) = (try entry.string("image"), try entry.string("text"))
      guard let isYes = labels[LabelKey(image: image, question: text)] else {
        throw entry.error(
          "expected a question with a label in \(Self.labelFile(category)), found none for the image \(image.excerpt) "
            + "and the question \(Question.withoutInstruction(text).excerpt)")
      }
      references.append(Reference(id, question: text, (category, isYes)))
    }
    return references
  }

  private static func labels(_ category: String, in data: DataFolder) throws -> [LabelKey: Bool] {
    var labels: [LabelKey: Bool] = [:]
    try DataValue.readLines(data.path(labelFile(category))) { entry in
      let label = try entry.string("label")
      guard let isYes = ["yes": true, "no": false][PythonText.stripped(label).lowercased()] else {
        throw entry.error("label: expected yes or no, found \(label.excerpt)")
      }
      let key = LabelKey(image: try entry.string("image"), question: try entry.string("text"))
      if let other = labels.updateValue(isYes, forKey: key), other != isYes {
        throw entry.error("the question \(key.question.description.excerpt) about this image has both labels")
      }
    }
    return labels
  }
}

extension ConfusionMatrix {
  fileprivate init(_ outcomes: [(predicted: Bool, actual: Bool)]) {
    self.init()
    for outcome in outcomes { add(predicted: outcome.predicted, actual: outcome.actual) }
  }
}
