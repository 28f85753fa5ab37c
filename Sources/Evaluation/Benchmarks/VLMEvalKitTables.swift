/// A benchmark of one VLMEvalKit table: the prompt and the scoring of its rows.
struct TableBenchmark: Benchmark {
  let name: String
  let metricDescription: String
  let table: VLMEvalKitTable
  /// The prompt of a row.
  let prompt: @Sendable (TSVReader.Row, VLMEvalKitTable) throws -> String
  /// The score of a set of answers.
  let scoring: @Sendable (AnswerSet, VLMEvalKitTable, DataFolder) throws -> Score
  /// Whether questions have options with letters.
  var isMultipleChoice = false

  var answerFolder: String { name + "/answers" }
  var files: [DataFile] { table.files }

  func choices(of question: Question) -> [String] {
    isMultipleChoice ? Question.optionLetters(in: question.text) : []
  }

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try table.questions(in: data, prompt: { try prompt($0, table) }, body)
  }

  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score { try scoring(answers, table, data) }
}

extension TableBenchmark {
  /// Multiple-choice questions about textbook diagrams.
  static let ai2d = TableBenchmark(
    name: "ai2d", metricDescription: "accuracy by option letter", table: VLMEvalKitTable(file: "ai2d/AI2D_TEST.tsv"),
    prompt: { try $1.multipleChoicePrompt($0) },
    scoring: { answers, table, data in
      let choices = try table.choices(in: data) { _ in }
      let results = ChoiceResults(try answers.paired(choices, of: data.path(table.file)))
      return Score(
        [.percentage("accuracy", results.results.map(\.isCorrect))], notes: results.notes("ai2d"),
        outcomes: results.outcomes)
    }, isMultipleChoice: true)

  /// The test questions of ChartQA, written by people (human) or generated from captions (augmented).
  static let chartQA = TableBenchmark(
    name: "chartqa", metricDescription: "relaxed accuracy: overall, human, augmented",
    table: VLMEvalKitTable(file: "chartqa/ChartQA_TEST.tsv"), prompt: { row, _ in try row.shortAnswerPrompt() },
    scoring: { answers, table, data in
      let references = try table.references(in: data, columns: ["answer", "split"]) { row in
        (answers: try row.answers(), split: try row.string("split"))
      }
      let results = try answers.paired(references, of: data.path(table.file)).map { answer, reference in
        (isCorrect: matches(reference.answers, answer, by: isRelaxedMatch), split: reference.split)
      }
      return Score(
        [.percentage("relaxed accuracy", results.map(\.isCorrect))]
          + ["human", "augmented"].map { split in
            Metric.percentage(split, results.filter { $0.split.hasSuffix(split) }.map(\.isCorrect))
          }.ofAnyQuestions)
    })

  /// Questions about scanned documents.
  static let docVQA = documents("docvqa", "docvqa/DocVQA_VAL.tsv")
  /// Questions about infographics.
  static let infoVQA = documents("infovqa", "infovqa/InfoVQA_VAL.tsv")

  private static func documents(_ name: String, _ file: String) -> TableBenchmark {
    TableBenchmark(
      name: name, metricDescription: "ANLS; a similarity of exactly 0.5 counts, as in the published code",
      table: VLMEvalKitTable(file: file),
      prompt: { row, _ in try row.shortAnswerPrompt() },
      scoring: { answers, table, data in
        let references = try table.references(in: data) { try $0.answers() }
        let pairs = try answers.paired(references, of: data.path(table.file))
        func similarities(countsHalf: Bool) -> [Double] {
          pairs.map { pair in pair.answer.text.map { anls($0, pair.reference, countsHalf: countsHalf) } ?? 0 }
        }
        return Score([
          .mean("ANLS", similarities(countsHalf: true)),
          .mean("ANLS, 0.5 counts as 0", similarities(countsHalf: false), isMain: false),
        ])
      })
  }

  /// Multiple-choice questions that cannot be answered without the image, in six categories.
  static let mmStar = TableBenchmark(
    name: "mmstar", metricDescription: "accuracy by option letter, mean of the categories",
    table: VLMEvalKitTable(file: "mmstar/MMStar.tsv"), prompt: { try $1.multipleChoicePrompt($0) },
    scoring: { answers, table, data in
      let choices = try table.choices(in: data, columns: ["category"]) { try $0.string("category") }
      let results = ChoiceResults(try answers.paired(choices, of: data.path(table.file)))
      let categories = grouped(results.results, by: \.value).map { group in
        Metric.percentage(group.key, group.items.map(\.isCorrect), isMain: false)
      }
      let accuracy = Metric.percentage("accuracy", results.results.map(\.isCorrect))
      return Score(
        [.meanOfParts("mean of categories", categories), accuracy] + categories, notes: results.notes("mmstar"),
        outcomes: results.outcomes)
    }, isMultipleChoice: true)

  /// Questions about book covers.
  static let ocrVQA = TableBenchmark(
    name: "ocrvqa", metricDescription: "exact match", table: VLMEvalKitTable(file: "ocrvqa/OCRVQA_TESTCORE.tsv"),
    prompt: { row, _ in try row.shortAnswerPrompt() },
    scoring: { answers, table, data in
      let references = try table.references(in: data) { try $0.answers() }
      let pairs = try answers.paired(references, of: data.path(table.file))
      return Score([.percentage("accuracy", pairs.map { matches($0.reference, $0.answer, by: isExactMatch) })])
    })

  /// Whether an answer matches any of its references.
  private static func matches(
    _ references: [String], _ answer: Answer, by match: (String, String) -> Bool
  ) -> Bool {
    answer.text.map { text in references.contains { match(text, $0) } } ?? false
  }
}
