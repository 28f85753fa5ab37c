/// AI2D: questions with options about diagrams of schoolbooks.
struct AI2D: Benchmark {
  private static let table = QuestionTable(file: "ai2d/AI2D_TEST.tsv")

  let name = "ai2d"
  let answerFolder = "ai2d/answers"
  let metric = "the option's letter"
  let files = table.files

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try Self.table.questions(in: data, text: { try $0.choiceQuestion() }, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let pairs = sheet.paired(try Self.table.truths(in: data) { try $0.text("answer") })
    return Score([
      .share(
        "accuracy", pairs.map { pair in pair.answer.text.map { OptionLetter.isNamed(pair.truth, by: $0) } ?? false })
    ])
  }
}

/// ChartQA's test questions: those that people asked, and those made from captions.
struct ChartQA: Benchmark {
  private static let table = QuestionTable(file: "chartqa/ChartQA_TEST.tsv")

  let name = "chartqa"
  let answerFolder = "chartqa/answers"
  let metric = "relaxed accuracy: overall, human, augmented"
  let files = table.files

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try Self.table.questions(in: data, text: { try $0.shortQuestion() }, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truths = try Self.table.truths(in: data, columns: ["answer", "split"]) { row in
      (answers: try row.answers(), split: try row.text("split"))
    }
    let results = sheet.paired(truths).map { answer, truth in
      let isRight = answer.text.map { text in truth.answers.contains { isRelaxedMatch(text, $0) } } ?? false
      return (isRight: isRight, split: truth.split)
    }
    return Score(
      [.share("relaxed accuracy", results.map(\.isRight))]
        + ["human", "augmented"].map { split in
          .share(split, results.filter { $0.split.hasSuffix(split) }.map(\.isRight))
        })
  }
}

/// DocVQA and InfoVQA: questions about scanned documents and infographics.
struct DocumentQuestions: Benchmark {
  static let docVQA = DocumentQuestions(name: "docvqa", table: QuestionTable(file: "docvqa/DocVQA_VAL.tsv"))
  static let infoVQA = DocumentQuestions(name: "infovqa", table: QuestionTable(file: "infovqa/InfoVQA_VAL.tsv"))

  let name: String
  let table: QuestionTable

  var answerFolder: String { name + "/answers" }
  var metric: String { "ANLS" }
  var files: [DataFile] { table.files }

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try table.questions(in: data, text: { try $0.shortQuestion() }, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let pairs = sheet.paired(try table.truths(in: data) { try $0.answers() })
    return Score([.mean("ANLS", pairs.map { pair in pair.answer.text.map { editSimilarity($0, pair.truth) } ?? 0 })])
  }
}

/// MMStar: questions with options that need the image, in six categories.
struct MMStar: Benchmark {
  private static let table = QuestionTable(file: "mmstar/MMStar.tsv")

  let name = "mmstar"
  let answerFolder = "mmstar/answers"
  let metric = "the option's letter, mean of the categories"
  let files = table.files

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try Self.table.questions(in: data, text: { try $0.choiceQuestion() }, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truths = try Self.table.truths(in: data, columns: ["answer", "category"]) { row in
      (answer: try row.text("answer"), category: try row.text("category"))
    }
    let results = sheet.paired(truths).map { answer, truth in
      (isRight: answer.text.map { OptionLetter.isNamed(truth.answer, by: $0) } ?? false, category: truth.category)
    }
    let categories = grouped(results, by: \.category).map { group in
      Measure.share(group.key, group.items.map(\.isRight), isMain: false)
    }
    return Score(
      [.meanOfParts("mean of categories", categories), .share("accuracy", results.map(\.isRight))] + categories)
  }
}

/// OCR-VQA: questions about book covers.
struct OCRVQA: Benchmark {
  private static let table = QuestionTable(file: "ocrvqa/OCRVQA_TESTCORE.tsv")

  let name = "ocrvqa"
  let answerFolder = "ocrvqa/answers"
  let metric = "exact match"
  let files = table.files

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try Self.table.questions(in: data, text: { try $0.shortQuestion() }, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let pairs = sheet.paired(try Self.table.truths(in: data) { try $0.answers() })
    return Score([
      .share(
        "accuracy",
        pairs.map { pair in pair.answer.text.map { text in pair.truth.contains { isExactMatch(text, $0) } } ?? false })
    ])
  }
}
