import Foundation

/// TextVQA's validation questions, with the tokens that an OCR program read in the prompt, as LLaVA's published numbers have
/// them, or without.
struct TextVQA: Benchmark {
  let hasOCR: Bool

  private static let questionFile = "textvqa/llava_textvqa_val_v051_ocr.jsonl"
  private static let truthFile = "textvqa/TextVQA_0.5.1_val.json"
  private static let images = "textvqa/train_images"
  private static let ocrMark = "Reference OCR token:"

  var name: String { hasOCR ? "textvqa" : "textvqa-no-ocr" }
  var answerFolder: String { name + "/answers" }
  var metric: String { "soft accuracy over 10 annotators, \(hasOCR ? "OCR tokens in the prompt" : "no OCR tokens")" }
  var files: [DataFile] {
    [DataFile(Self.questionFile, .questions), DataFile(Self.truthFile, .truth), DataFile(Self.images, .images)]
  }

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.images, in: data) { question in
      var question = question
      if !hasOCR {
        let lines = question.text.split(separator: "\n", omittingEmptySubsequences: false)
        question.text = lines.filter { !$0.hasPrefix(Self.ocrMark) }.joined(separator: "\n")
      }
      try body(question)
    }
  }

  /// Source: LLaVA's `llava/eval/eval_textvqa.py`, but that a question without an answer counts.
  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truths = try Self.truths(in: data)
    var answered: Set<Key> = []
    var scores: [Double] = []
    for answer in sheet.answers {
      guard let question = Self.question(in: answer.prompt) else {
        throw DataError(
          sheet.path, "the prompt of \(answer.id) has not the form of TextVQA's: \(answer.prompt.prefix(80))")
      }
      let key = Key(id: answer.id, question: question.lowercased())
      guard let truth = truths[key] else {
        throw DataError(sheet.path, "\(answer.id) has a question that is not in \(Self.truthFile): \(question)")
      }
      answered.insert(key)
      scores.append(answer.text.map(truth.value) ?? 0)
    }
    if sheet.countsMissing { scores += Array(repeating: 0, count: truths.count - answered.count) }
    return Score([.mean("accuracy", scores)])
  }

  private struct Key: Hashable {
    var id: QuestionID
    var question: String
  }

  private static func truths(in data: DataFolder) throws -> [Key: SoftScore] {
    let records = try DataRow.read(data.path(truthFile)).list("data")
    return Dictionary(
      try records.map { record in
        let key = Key(id: try record.identifier("image_id"), question: try record.text("question").lowercased())
        let answers = try record.texts("answers")
        guard answers.count == 10 else { throw record.problem("answers: expected 10, found \(answers.count)") }
        return (key, SoftScore(annotations: answers))
      }, uniquingKeysWith: { $1 })
  }

  /// The question in a prompt of one of the forms that LLaVA has asked it in.
  static func question(in prompt: String) -> String? {
    let lines = prompt.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    if prompt.hasPrefix("OCR tokens: ") {
      guard let start = prompt.range(of: "Question: "),
        let end = prompt.range(of: " Short answer:", range: start.upperBound..<prompt.endIndex)
      else { return nil }
      return String(prompt[start.upperBound..<end.lowerBound])
    }
    if lines.count == 3, prompt.contains(ocrMark + " ") { return prompt.hasPrefix(ocrMark) ? lines[1] : lines[0] }
    return lines.count == 2 ? lines[0] : nil
  }
}
