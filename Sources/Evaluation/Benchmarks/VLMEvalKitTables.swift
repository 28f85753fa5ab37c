/// AI2D: multiple-choice questions about textbook diagrams.
struct AI2D: Benchmark {
  private static let table = VLMEvalKitTable(file: "ai2d/AI2D_TEST.tsv")

  let name = "ai2d"
  let answerFolder = "ai2d/answers"
  let metricDescription = "accuracy by option letter"
  let files = table.files

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try Self.table.questions(in: data, prompt: { try $0.multipleChoicePrompt() }, body)
  }

  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let pairs = answers.paired(try Self.table.references(in: data) { try $0.string("answer") })
    return Score([
      .percentage(
        "accuracy", pairs.map { pair in pair.answer.text.map { OptionLetter.isNamed(pair.reference, by: $0) } ?? false }
      )
    ])
  }
}

/// ChartQA: the test questions, written by people (human) or generated from captions (augmented).
struct ChartQA: Benchmark {
  private static let table = VLMEvalKitTable(file: "chartqa/ChartQA_TEST.tsv")

  let name = "chartqa"
  let answerFolder = "chartqa/answers"
  let metricDescription = "relaxed accuracy: overall, human, augmented"
  let files = table.files

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try Self.table.questions(in: data, prompt: { try $0.shortAnswerPrompt() }, body)
  }

  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let references = try Self.table.references(in: data, columns: ["answer", "split"]) { row in
      (answers: try row.answers(), split: try row.string("split"))
    }
    let results = answers.paired(references).map { answer, reference in
      let isCorrect = answer.text.map { text in reference.answers.contains { isRelaxedMatch(text, $0) } } ?? false
      return (isCorrect: isCorrect, split: reference.split)
    }
    return Score(
      [.percentage("relaxed accuracy", results.map(\.isCorrect))]
        + ["human", "augmented"].map { split in
          .percentage(split, results.filter { $0.split.hasSuffix(split) }.map(\.isCorrect))
        })
  }
}

/// DocVQA and InfoVQA: questions about scanned documents and infographics.
struct DocumentQuestions: Benchmark {
  static let docVQA = DocumentQuestions(name: "docvqa", table: VLMEvalKitTable(file: "docvqa/DocVQA_VAL.tsv"))
  static let infoVQA = DocumentQuestions(name: "infovqa", table: VLMEvalKitTable(file: "infovqa/InfoVQA_VAL.tsv"))

  let name: String
  let table: VLMEvalKitTable

  var answerFolder: String { name + "/answers" }
  var metricDescription: String { "ANLS" }
  var files: [DataFile] { table.files }

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try table.questions(in: data, prompt: { try $0.shortAnswerPrompt() }, body)
  }

  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let pairs = answers.paired(try table.references(in: data) { try $0.answers() })
    return Score([.mean("ANLS", pairs.map { pair in pair.answer.text.map { anls($0, pair.reference) } ?? 0 })])
  }
}

/// MMStar: multiple-choice questions that cannot be answered without the image, in six categories.
struct MMStar: Benchmark {
  private static let table = VLMEvalKitTable(file: "mmstar/MMStar.tsv")

  let name = "mmstar"
  let answerFolder = "mmstar/answers"
  let metricDescription = "accuracy by option letter, mean of the categories"
  let files = table.files

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try Self.table.questions(in: data, prompt: { try $0.multipleChoicePrompt() }, body)
  }

  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let references = try Self.table.references(in: data, columns: ["answer", "category"]) { row in
      (answer: try row.string("answer"), category: try row.string("category"))
    }
    let results = answers.paired(references).map { answer, reference in
      (
        isCorrect: answer.text.map { OptionLetter.isNamed(reference.answer, by: $0) } ?? false,
        category: reference.category
      )
    }
    let categories = grouped(results, by: \.category).map { group in
      Metric.percentage(group.key, group.items.map(\.isCorrect), isMain: false)
    }
    return Score(
      [.meanOfParts("mean of categories", categories), .percentage("accuracy", results.map(\.isCorrect))] + categories)
  }
}

/// OCR-VQA: questions about book covers.
struct OCRVQA: Benchmark {
  private static let table = VLMEvalKitTable(file: "ocrvqa/OCRVQA_TESTCORE.tsv")

  let name = "ocrvqa"
  let answerFolder = "ocrvqa/answers"
  let metricDescription = "exact match"
  let files = table.files

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try Self.table.questions(in: data, prompt: { try $0.shortAnswerPrompt() }, body)
  }

  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let pairs = answers.paired(try Self.table.references(in: data) { try $0.answers() })
    return Score([
      .percentage(
        "accuracy",
        pairs.map { pair in pair.answer.text.map { text in pair.reference.contains { isExactMatch(text, $0) } } ?? false
        })
    ])
  }
}
