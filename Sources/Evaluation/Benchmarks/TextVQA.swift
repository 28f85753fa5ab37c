import Foundation

/// TextVQA: the questions of the validation split.
///
/// LLaVA's published numbers have OCR tokens in the prompt.
struct TextVQA: Benchmark {
  /// Whether the prompts contain OCR tokens.
  let hasOCR: Bool

  private static let questionFile = "textvqa/llava_textvqa_val_v051_ocr.jsonl"
  private static let groundTruthFile = "textvqa/TextVQA_0.5.1_val.json"
  private static let images = "textvqa/train_images"
  private static let ocrPrefix = "Reference OCR token:"

  var name: String { hasOCR ? "textvqa" : "textvqa-no-ocr" }
  var answerFolder: String { name + "/answers" }
  var metricDescription: String {
    "soft accuracy over 10 annotators, \(hasOCR ? "OCR tokens in the prompt" : "no OCR tokens")"
  }
  var files: [DataFile] {
    [
      DataFile(Self.questionFile, .questions), DataFile(Self.groundTruthFile, .groundTruth),
      DataFile(Self.images, .images),
    ]
  }

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.images, in: data) { question in
      var question = question
      if !hasOCR {
        let lines = question.text.split(separator: "\n", omittingEmptySubsequences: false)
        question.text = lines.filter { !$0.hasPrefix(Self.ocrPrefix) }.joined(separator: "\n")
      }
      try body(question)
    }
  }

  /// Scores by image and question text.
  ///
  /// Unlike in the source, a question without an answer counts as wrong.
  ///
  /// Source: LLaVA's `llava/eval/eval_textvqa.py`.
  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let references = try Self.references(in: data)
    var answered: Set<Key> = []
    var scores: [Double] = []
    for answer in answers.items {
      guard let question = Self.question(in: answer.prompt) else {
        throw DataError(
          answers.path, "the prompt of \(answer.id) does not have a TextVQA format: \(answer.prompt.prefix(80))")
      }
      let key = Key(id: answer.id, question: question.lowercased())
      guard let reference = references[key] else {
        throw DataError(answers.path, "\(answer.id) has a question that is not in \(Self.groundTruthFile): \(question)")
      }
      answered.insert(key)
      scores.append(answer.text.map(reference.value) ?? 0)
    }
    if answers.countsMissing { scores += Array(repeating: 0, count: references.count - answered.count) }
    return Score([.mean("accuracy", scores)])
  }

  private struct Key: Hashable {
    var id: QuestionID
    var question: String
  }

  private static func references(in data: DataFolder) throws -> [Key: SoftAccuracy] {
    let records = try DataValue.read(data.path(groundTruthFile)).list("data")
    return Dictionary(
      try records.map { entry in
        let key = Key(id: try entry.identifier("image_id"), question: try entry.string("question").lowercased())
        let answers = try entry.strings("answers")
        guard answers.count == 10 else { throw entry.error("answers: expected 10, found \(answers.count)") }
        return (key, SoftAccuracy(annotations: answers))
      }, uniquingKeysWith: { $1 })
  }

  /// The question in a prompt of one of LLaVA's formats; `nil` for any other text.
  static func question(in prompt: String) -> String? {
    let lines = prompt.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    if prompt.hasPrefix("OCR tokens: ") {
      guard let start = prompt.range(of: "Question: "),
        let end = prompt.range(of: " Short answer:", range: start.upperBound..<prompt.endIndex)
      else { return nil }
      return String(prompt[start.upperBound..<end.lowerBound])
    }
    if lines.count == 3, prompt.contains(ocrPrefix + " ") { return prompt.hasPrefix(ocrPrefix) ? lines[1] : lines[0] }
    return lines.count == 2 ? lines[0] : nil
  }
}
