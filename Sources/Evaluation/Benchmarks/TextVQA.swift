import Foundation
import Storage

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
      if !hasOCR { question.text = Self.withoutOCR(question.text) }
      try body(question)
    }
  }

  /// Scores by image and question text.
  ///
  /// An image has several questions, and a few of them twice: as in the source, each answer to those counts. Unlike in
  /// the source, a question without an answer counts as wrong, and of more answers than questions the last ones count.
  ///
  /// Source: LLaVA's `llava/eval/eval_textvqa.py`.
  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let groundTruth = try GroundTruth(data.path(Self.groundTruthFile))
    var scores: [Key: [Double]] = [:]
    for answer in answers.items {
      let key = try groundTruth.key(answer, in: answers)
      scores[key, default: []].append(answer.text.map { groundTruth.questions[key]?.accuracy.value(of: $0) ?? 0 } ?? 0)
    }
    let counted = groundTruth.keys.flatMap { key -> [Double] in
      let (count, found) = (groundTruth.questions[key]?.count ?? 0, scores[key] ?? [])
      let missing = answers.countsMissing ? max(0, count - found.count) : 0
      return found.suffix(count) + Array(repeating: 0, count: missing)
    }
    return Score([.mean("accuracy", counted)])
  }

  private struct Key: Hashable {
    var image: QuestionID
    var question: ByteString

    init(_ image: QuestionID, _ question: String) {
      (self.image, self.question) = (image, ByteString(question.pythonLower))
    }
  }

  /// The annotations of the validation split.
  private struct GroundTruth {
    let path: String
    private(set) var questions: [Key: (accuracy: SoftAccuracy, count: Int)] = [:]
    /// The keys in file order.
    private(set) var keys: [Key] = []
    private var images: Set<QuestionID> = []
    /// The image of each question number, with which ids are easily confused.
    private var imagesByNumber: [QuestionID: QuestionID] = [:]

    init(_ path: String) throws {
      self.path = path
      for entry in try DataValue.read(path).list("data") {
        let image = try entry.identifier("image_id")
        let key = Key(image, try entry.string("question"))
        let answers = try entry.strings("answers")
        guard answers.count == 10 else { throw entry.error("answers: expected 10, found \(answers.count)") }
        let count = questions[key]?.count ?? 0
        if count == 0 { keys.append(key) }
        questions[key] = (SoftAccuracy(annotations: answers), count + 1)
        images.insert(image)
        if entry.has("question_id") { imagesByNumber[try entry.identifier("question_id")] = image }
      }
    }

    /// The key of the question that an answer belongs to.
    func key(_ answer: Answer, in answers: AnswerSet) throws(DataError) -> Key {
      let candidates = TextVQA.questions(in: answer.prompt)
      guard let first = candidates.first else {
        throw answers.error(
          answer,
          "prompt: expected a question, OCR tokens and an instruction on lines of their own, found "
            + answer.prompt.excerpt)
      }
      if let key = candidates.map({ Key(answer.id, $0) }).first(where: { questions[$0] != nil }) { return key }
      let id = answer.id.description.excerpt
      if images.contains(answer.id) {
        throw answers.error(answer, "\(path) has no question \(first.excerpt) about the image \(id)")
      }
      if let image = imagesByNumber[answer.id] {
        throw answers.error(
          answer,
          "question_id: expected the id of the image, \(image.description.excerpt), found TextVQA's number of "
            + "the question, \(id)")
      }
      throw answers.error(answer, "question_id: \(id) is not an image of \(path)")
    }
  }

  /// The prompt without its OCR tokens, which may have line feeds in them.
  private static func withoutOCR(_ prompt: String) -> String {
    let lines = PythonText.lines(prompt)
    guard let start = lines.firstIndex(where: { $0.hasPrefix(ocrPrefix) }), let instruction = lines.last else {
      return prompt
    }
    if start > 0 { return (lines[..<start] + [instruction]).joined(separator: "\n") }
    return lines.suffix(2).joined(separator: "\n")
  }

  /// The texts that may be the question in a prompt of one of LLaVA's formats, the most probable first.
  ///
  /// The source splits prompts at every line feed, and fails for OCR tokens that have one.
  static func questions(in prompt: String) -> [String] {
    if prompt.hasPrefix("OCR tokens: ") {
      guard let start = prompt.range(of: "Question: "),
        let end = prompt.range(of: " Short answer:", range: start.upperBound..<prompt.endIndex)
      else { return [] }
      return [String(prompt[start.upperBound..<end.lowerBound])]
    }
    let lines = PythonText.lines(prompt)
    guard lines.count > 1 else { return [] }
    if lines.count > 2, prompt.hasPrefix(ocrPrefix) { return [lines[lines.count - 2]] }
    let end = lines.firstIndex { $0.hasPrefix(ocrPrefix) } ?? lines.count - 1
    return [lines[0], lines[..<end].joined(separator: "\n")]
  }
}
