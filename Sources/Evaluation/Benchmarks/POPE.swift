/// POPE: is an object in the image that is there, or that often stands beside such?
struct POPE: Benchmark {
  private static let questionFile = "pope/llava_pope_test.jsonl"
  private static let images = "pope/val2014"
  private static let categories = ["adversarial", "popular", "random"]

  let name = "pope"
  let answerFolder = "pope/answers"
  let metric = "F1, mean of adversarial, popular and random"
  var files: [DataFile] {
    [DataFile(Self.questionFile, .questions, .truth), DataFile(Self.images, .images)]
      + Self.categories.map { DataFile(Self.labelFile($0), .truth) }
  }

  private static func labelFile(_ category: String) -> String { "pope/coco/coco_pope_\(category).json" }

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.images, in: data, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truths = try truths(in: data)
    var f1: [Measure] = []
    var measures: [Measure] = []
    for category in Self.categories {
      let pairs = sheet.paired(truths.filter { $0.truth.category == category }.map { ($0.id, $0.truth.isYes) })
      // What could not be answered is wrong, whatever is right.
      let answers = pairs.map { answer, isYes in
        (isYes: answer.text.map(YesNo.isYesForPOPE) ?? !isYes, shouldBeYes: isYes)
      }
      let confusion = Confusion(answers)
      let interval = bootstrap(answers.count) { Confusion($0.map { answers[$0] }).f1 }
      func measure(_ name: String, _ share: Double) -> Measure {
        Measure("\(category) \(name)", 100 * share, nil, count: confusion.count, isMain: false)
      }
      f1.append(
        Measure("\(category) F1", 100 * confusion.f1, interval?.scaled(by: 100), count: confusion.count, isMain: false))
      measures.append(.share("\(category) accuracy", confusion.right, of: confusion.count, isMain: false))
      measures.append(measure("precision", confusion.precision))
      measures.append(measure("recall", confusion.recall))
      measures.append(measure("yes ratio", confusion.yesShare))
    }
    return Score([.meanOfParts("F1", f1)] + f1 + measures)
  }

  /// Labels belong to questions by order: the n-th of a category's file to the n-th question of that category.
  ///
  /// The published scorer takes the n-th answer, which is the same for files in the order of the questions.
  private func truths(in data: DataFolder) throws -> [(id: QuestionID, truth: (category: String, isYes: Bool))] {
    var labels: [String: [Bool]] = [:]
    for category in Self.categories {
      try DataRow.readLines(data.path(Self.labelFile(category))) { record in
        labels[category, default: []].append(try record.text("label") != "no")
      }
    }
    var counts: [String: Int] = [:]
    var known: Set<QuestionID> = []
    var truths: [(id: QuestionID, truth: (category: String, isYes: Bool))] = []
    try DataRow.readLines(data.path(Self.questionFile)) { record in
      let (id, category) = (try record.identifier("question_id"), try record.text("category"))
      guard let labels = labels[category] else { throw record.problem("category: found \(category)") }
      guard known.insert(id).inserted else { throw record.problem("question_id: \(id) stands twice") }
      let index = counts[category, default: 0]
      guard index < labels.count else {
        throw record.problem("question \(index + 1) of \(category), for which there are \(labels.count) labels")
      }
      counts[category] = index + 1
      truths.append((id, (category, labels[index])))
    }
    return truths
  }
}

extension Confusion {
  fileprivate init(_ answers: [(isYes: Bool, shouldBeYes: Bool)]) {
    self.init()
    for answer in answers { add(isYes: answer.isYes, shouldBeYes: answer.shouldBeYes) }
  }
}
