import Foundation
import PDrop
import Storage

/// Encoder of the output lines of a batch, each in the format of its question.
struct AnswerLines: Sendable {
  let model: String
  /// Whether lines contain times; without them, equal runs give equal bytes.
  var keepsTimes = true
  /// The words for remedies in error messages.
  var spelling: @Sendable (Remedy) -> String = { $0.description }

  /// The line for a record, line feed included.
  func line(_ record: BatchRecord, _ outcome: Result<RunReport, RecordFailure>) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      let line =
        switch record.family {
        case .llava: try encoder.encode(AnswerLine(record, outcome, self))
        case .openAI: try encoder.encode(CompletionLine(record, outcome, self))
        }
      return [UInt8](line) + [UInt8(ascii: "\n")]
    } catch {
      preconditionFailure("record \(record.number): times and FLOPs are finite, but \(error)")
    }
  }

  func metadata(_ report: RunReport, _ record: BatchRecord) -> AnswerMetadata {
    AnswerMetadata(
      policy: report.policy, timings: keepsTimes ? report.timings : nil, flops: report.flops,
      paperFlops: report.paperFlops,
      baselineFlops: report.baselineFlops, sequenceLength: report.sequenceLength,
      generatedTokens: report.generatedTokenCount, visualTokens: report.visualTokensPerStage,
      finishReason: report.finishReason, imageHash: record.imageHash.map { String($0, radix: 16) })
  }
}

/// The policy and the cost of an answer.
struct AnswerMetadata: Encodable {
  /// The policy for this record; with a cost target, records have different schedules.
  var policy: RunReport.Policy
  var timings: RunReport.Timings?
  var flops: RunReport.Flops
  var paperFlops: Double
  var baselineFlops: Int
  var sequenceLength: Int
  var generatedTokens: Int
  var visualTokens: [Int]
  var finishReason: RunReport.FinishReason?
  /// The hash of the question's texts, in an answer that does not contain them.
  var promptHash: String?
  /// The hash of the names of the question's images.
  var imageHash: String?

  enum CodingKeys: String, CodingKey {
    case policy, flops
    case promptHash = "prompt_hash"
    case imageHash = "image_hash"
    case timings = "timings_ms"
    case paperFlops = "flops_paper"
    case baselineFlops = "flops_prefill_without_dropping"
    case sequenceLength = "sequence_length"
    case generatedTokens = "generated_tokens"
    case visualTokens = "visual_tokens"
    case finishReason = "finish_reason"
  }
}

/// Log-probabilities in the form of OpenAI's chat completions.
struct ChoiceLogprobs: Encodable {
  var content: [TokenLogprob]
}

/// An answer to the prompt of a record.
private struct RecordAnswer {
  /// Without white space at both ends.
  let text: String
  let logprobs: ChoiceLogprobs?
  let finishReason: RunReport.FinishReason?

  private init(_ text: String, _ logprobs: [TokenLogprob]?, _ finishReason: RunReport.FinishReason?) {
    self.text = text.trimmingCharacters(in: .whitespacesAndNewlines)
    self.logprobs = logprobs.map(ChoiceLogprobs.init)
    self.finishReason = finishReason
  }

  /// All answers of a report.
  static func answers(_ report: RunReport) -> [RecordAnswer] {
    [RecordAnswer(report.text, report.logprobs, report.finishReason)]
      + (report.alternatives ?? []).map { RecordAnswer($0.text, $0.logprobs, $0.finishReason) }
  }
}

/// A line of LLaVA's answer files, with either `text` or `error`.
private struct AnswerLine: Encodable {
  struct Failure: Encodable {
    var code: RecordFailure.Reason
    var message: String
  }

  enum CodingKeys: String, CodingKey {
    case prompt, text, category, metadata, error, logprobs, alternatives
    case choiceLogprobs = "choice_logprobs"
    case questionID = "question_id"
    case answerID = "answer_id"
    case modelID = "model_id"
  }

  let record: BatchRecord
  let model: String
  var text: String?
  /// The texts of the other answers, if several were asked for.
  var alternatives: [String]?
  var logprobs: ChoiceLogprobs?
  var choiceLogprobs: [String: Double]?
  var metadata: AnswerMetadata?
  var error: Failure?

  init(_ record: BatchRecord, _ outcome: Result<RunReport, RecordFailure>, _ lines: AnswerLines) {
    self.record = record
    model = lines.model
    switch outcome {
    case .success(let report):
      let answers = RecordAnswer.answers(report)
      (text, logprobs, metadata) = (answers[0].text, answers[0].logprobs, lines.metadata(report, record))
      choiceLogprobs = report.choiceLogprobs
      if answers.count > 1 { alternatives = answers.dropFirst().map(\.text) }
    case .failure(let failure):
      error = Failure(code: failure.reason, message: failure.message(spelling: lines.spelling))
    }
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(record.identifier, forKey: .questionID)
    try container.encodeIfPresent(record.question, forKey: .prompt)
    try container.encodeIfPresent(text, forKey: .text)
    try container.encodeIfPresent(alternatives, forKey: .alternatives)
    try container.encodeIfPresent(logprobs, forKey: .logprobs)
    try container.encodeIfPresent(choiceLogprobs, forKey: .choiceLogprobs)
    // Distinguishes answers to the same question_id.
    try container.encode("\(record.number)", forKey: .answerID)
    try container.encode(model, forKey: .modelID)
    try container.encodeIfPresent(record.category, forKey: .category)
    try container.encodeIfPresent(metadata, forKey: .metadata)
    try container.encodeIfPresent(error, forKey: .error)
  }
}

/// A line of OpenAI's batch output; an error has a response without a body, as in vLLM.
private struct CompletionLine: Encodable {
  struct Response: Encodable {
    var statusCode: Int
    var requestID: String
    var body: Completion?

    enum CodingKeys: String, CodingKey {
      case body
      case statusCode = "status_code"
      case requestID = "request_id"
    }

    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(statusCode, forKey: .statusCode)
      try container.encode(requestID, forKey: .requestID)
      try container.encode(body, forKey: .body)
    }
  }

  struct Failure: Encodable {
    var code: RecordFailure.Reason
    var message: String
    var type: String
  }

  enum CodingKeys: String, CodingKey {
    case id, response, error
    case customID = "custom_id"
  }

  let record: BatchRecord
  let response: Response
  let error: Failure?

  init(_ record: BatchRecord, _ outcome: Result<RunReport, RecordFailure>, _ lines: AnswerLines) {
    self.record = record
    let id = "pdrop-batch-\(record.number)"
    switch outcome {
    case .success(let report):
      response = Response(
        statusCode: 200, requestID: id, body: Completion(record, report, lines))
      error = nil
    case .failure(let failure):
      let isRecordError = failure.reason.isRecordError
      response = Response(statusCode: isRecordError ? 400 : 500, requestID: id)
      error = Failure(
        code: failure.reason, message: failure.message(spelling: lines.spelling),
        type: isRecordError ? "BadRequestError" : "InternalServerError")
    }
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(CompletionID(number: record.number).text, forKey: .id)
    try container.encode(record.identifier, forKey: .customID)
    try container.encode(response, forKey: .response)
    try container.encode(error, forKey: .error)
  }
}

/// The `id` of a line of OpenAI's batch output, which holds the number of its record.
struct CompletionID {
  private static let start = "pdrop-"
  var number: Int

  init(number: Int) { self.number = number }

  init?(_ text: String) {
    guard text.hasPrefix(Self.start), let number = Int(text.dropFirst(Self.start.count)) else { return nil }
    self.number = number
  }

  var text: String { Self.start + "\(number)" }
}

/// OpenAI's chat completion object.
private struct Completion: Encodable {
  struct Choice: Encodable {
    struct Message: Encodable {
      let role = "assistant"
      var content: String
    }

    var index: Int
    var message: Message
    var logprobs: ChoiceLogprobs?
    var finishReason: RunReport.FinishReason?

    enum CodingKeys: String, CodingKey {
      case index, message, logprobs
      case finishReason = "finish_reason"
    }
  }

  struct Usage: Encodable {
    var promptTokens: Int
    var completionTokens: Int
    var totalTokens: Int

    enum CodingKeys: String, CodingKey {
      case promptTokens = "prompt_tokens"
      case completionTokens = "completion_tokens"
      case totalTokens = "total_tokens"
    }
  }

  var id: String
  let object = "chat.completion"
  var created: Int
  var model: String
  var choices: [Choice]
  var usage: Usage
  var metadata: AnswerMetadata

  init(_ record: BatchRecord, _ report: RunReport, _ lines: AnswerLines) {
    id = "chatcmpl-\(record.number)"
    created = lines.keepsTimes ? Int(Date().timeIntervalSince1970) : 0
    model = lines.model
    choices = RecordAnswer.answers(report).enumerated().map { index, answer in
      Choice(
        index: index, message: .init(content: answer.text), logprobs: answer.logprobs, finishReason: answer.finishReason
      )
    }
    let (prompt, generated) = (report.sequenceLength, report.generatedTokenCount)
    usage = Usage(promptTokens: prompt, completionTokens: generated, totalTokens: prompt + generated)
    metadata = lines.metadata(report, record)
    metadata.promptHash = record.questionHash.map { String($0, radix: 16) }
  }
}
