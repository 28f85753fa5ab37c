import ArgumentParser
import CommandLineOptions
import Foundation
import PDrop

/// Answers the questions of a file one after the other; a question that fails gets an error record and the rest goes on.
struct BatchRun {
  var model: VisionLanguageModel
  /// How every question is asked.
  var base: Request
  var threads: Int
  var files: BatchOptions

  /// A line of LLaVA's question files.
  private struct Question: Decodable {
    var question_id: Identifier
    var image: String?
    var text: String
  }

  /// A line of LLaVA's answer files; of `text` and `error` there is one.
  private struct AnswerLine: Encodable {
    struct Metadata: Encodable {
      var timings_ms: RunReport.Timings
      var flops: RunReport.Flops
      var flops_paper: Double
      var sequence_length: Int
      var visual_tokens: [Int]
      var finish_reason: RunReport.FinishReason?
    }

    struct Failure: Encodable {
      var message: String
    }

    var question_id: Identifier?
    var prompt: String?
    var text: String?
    var answer_id: String
    var model_id: String
    var metadata: Metadata?
    var error: Failure?
  }

  /// - Throws: `ExitCode` 1 when some questions could not be answered.
  func run() throws {
    // JSON may hold the other characters that end lines in Unicode.
    let lines = try TextFile.read(files.input ?? "-")
      .split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" }
    let output = try Output(path: files.output ?? "-")
    var (questions, failures) = (0, 0)
    for (index, line) in lines.enumerated() where !line.allSatisfy(\.isWhitespace) {
      let answer = answer(String(line), number: index + 1)
      questions += 1
      if let error = answer.error {
        failures += 1
        Log.error("line \(index + 1): \(error.message)")
      }
      try output.write(JSONLine.encode(answer))
    }
    if failures > 0 {
      Log.write("\(failures) of \(questions) questions could not be answered; their records say why")
      throw ExitCode(ExitStatus.someFailed.rawValue)
    }
  }

  private func answer(_ line: String, number: Int) -> AnswerLine {
    var result = AnswerLine(answer_id: "\(number)", model_id: model.name)
    do {
      let question: Question
      do { question = try JSONDecoder().decode(Question.self, from: Data(line.utf8)) } catch {
        throw FileProblem("expected a JSON object with question_id and text, found \(line.prefix(60))")
      }
      result.question_id = question.question_id
      result.prompt = question.text
      let folder = files.imageFolder.map { $0 + "/" } ?? ""
      var request = base
      request.pictures = question.image.map { [.file(folder + $0)] } ?? []
      request.prompt = .messages([ChatMessage(question: question.text, pictureCount: request.pictures.count)])
      var session = try Session(model, request, threads: threads)
      while try session.next() != nil {}
      let report = session.report
      result.text = report.text.trimmingCharacters(in: .whitespacesAndNewlines)
      result.metadata = AnswerLine.Metadata(
        timings_ms: report.milliseconds, flops: report.flops, flops_paper: report.paperFlops,
        sequence_length: report.sequenceLength, visual_tokens: report.visualTokensPerStage,
        finish_reason: report.finishReason)
    } catch {
      result.error = AnswerLine.Failure(message: "\(error)")
    }
    return result
  }
}

/// A question's name, a number or a text, written back as it was read.
enum Identifier: Codable {
  case number(Int)
  case text(String)

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let number = try? container.decode(Int.self) {
      self = .number(number)
    } else {
      self = .text(try container.decode(String.self))
    }
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .number(let number): try container.encode(number)
    case .text(let text): try container.encode(text)
    }
  }
}
