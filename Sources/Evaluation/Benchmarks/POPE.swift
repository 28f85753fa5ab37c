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

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.images, in: data, body)
  }

  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let references = try references(in: data)
    var f1: [Metric] = []
    var metrics: [Metric] = []
    for category in Self.categories {
      let pairs = answers.paired(
        references.filter { $0.reference.category == category }.map { ($0.id, $0.reference.isYes) })
      // A question without an answer counts as wrong, whatever its label.
      let outcomes = pairs.map { answer, isYes in
        (predicted: answer.text.map(YesNo.isYesForPOPE) ?? !isYes, actual: isYes)
      }
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
    return Score([.meanOfParts("F1", f1)] + f1 + metrics)
  }

  /// The label of each question: the n-th label of a category belongs to its n-th question.
  ///
  /// The published scorer uses the n-th answer instead, which is the same for files in question order.
  private func references(in data: DataFolder) throws -> [(id: QuestionID, reference: (category: String, isYes: Bool))]
  {
    var labels: [String: [Bool]] = [:]
    for category in Self.categories {
      try DataValue.readLines(data.path(Self.labelFile(category))) { entry in
        labels[category, default: []].append(try entry.string("label") != "no")
      }
    }
    var counts: [String: Int] = [:]
    var seen: Set<QuestionID> = []
    var references: [(id: QuestionID, reference: (category: String, isYes: Bool))] = []
    try DataValue.readLines(data.path(Self.questionFile)) { entry in
      let (id, category) = (try entry.identifier("question_id"), try entry.string("category"))
      guard let labels = labels[category] else {
        throw entry.error("category: expected \(Self.categories.joined(separator: ", ")), found \(category)")
      }
      guard seen.insert(id).inserted else { throw entry.error("question_id: \(id) occurs twice") }
      let index = counts[category, default: 0]
      guard index < labels.count else {
        throw entry.error("question \(index + 1) of \(category), which has only \(labels.count) labels")
      }
      counts[category] = index + 1
      references.append((id, (category, labels[index])))
    }
    return references
  }
}

extension ConfusionMatrix {
  fileprivate init(_ outcomes: [(predicted: Bool, actual: Bool)]) {
    self.init()
    for outcome in outcomes { add(predicted: outcome.predicted, actual: outcome.actual) }
  }
}
