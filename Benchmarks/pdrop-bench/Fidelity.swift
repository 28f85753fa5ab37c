import BenchSupport
import CommandLineOptions
import Foundation
import PDrop
import TokenDropping

/// A question about a picture, and its answer if somebody knows it.
struct LabelledQuestion: Decodable {
  var image: String
  var text: String
  var answer: String?

  /// Reads a file with a JSON object on each line.
  static func read(_ path: String) throws -> [LabelledQuestion] {
    guard let bytes = FileManager.default.contents(atPath: path) else {
      throw FileProblem("\(path): cannot be read; give a file of questions")
    }
    return try bytes.split(separator: UInt8(ascii: "\n")).enumerated().map { number, line in
      do { return try JSONDecoder().decode(LabelledQuestion.self, from: line) } catch {
        throw FileProblem("\(path), line \(number + 1): expected an object with image and text")
      }
    }
  }
}

/// The same questions asked of several models under several policies.
struct Fidelity {
  /// A way to answer.
  struct Subject {
    var model: VisionLanguageModel
    var policy: any TokenDroppingPolicy
    var agreement = Agreement()
    var milliseconds = Sample()
  }

  /// The first is what the others are compared with.
  var subjects: [Subject] = []
  let generatedTokens: Int
  let threads: Int

  init(generatedTokens: Int, threads: Int) {
    self.generatedTokens = generatedTokens
    self.threads = threads
  }

  /// Asks all of them a question, in turn.
  mutating func ask(_ question: LabelledQuestion, pictures folder: String) throws {
    var reference: (logits: [Float], answer: String)?
    for index in subjects.indices {
      let answer = try answer(question, folder, subjects[index])
      let first = reference ?? (answer.logits, answer.text)
      reference = first
      subjects[index].agreement.add(
        logits: answer.logits, answer: answer.text, reference: first, label: question.answer)
      subjects[index].milliseconds.append(answer.milliseconds)
    }
  }

  private func answer(
    _ question: LabelledQuestion, _ folder: String, _ subject: Subject
  ) throws -> (logits: [Float], text: String, milliseconds: Double) {
    var options = GenerationOptions()
    options.maxTokens = generatedTokens
    let request = Request(
      prompt: .messages([ChatMessage(question: question.text, pictureCount: 1)]),
      pictures: [.file(URL(filePath: folder).appending(path: question.image).path)], policy: subject.policy,
      options: options)
    let stopwatch = Stopwatch()
    var session = try Session(subject.model, request, threads: threads)
    let logits = session.logits
    while try session.next() != nil {}
    return (logits, session.report.text, stopwatch.milliseconds)
  }

  /// A row for each subject.
  func records(threads: Int) -> [Record] {
    subjects.map { subject in
      let agreement = subject.agreement
      func share(_ name: String, _ hits: Int, heading: String) -> Field {
        let share = Double(hits) / Double(max(1, agreement.questions))
        return Field(name, .number(share), heading: heading, text: (100 * share).formatted(1) + "%")
      }
      let accuracy = agreement.accuracy
      return Record([
        Field("model", .text(subject.model.name), heading: "model"),
        Field("precision", .text(subject.model.precision.name), heading: "precision"),
        Field("policy", .text(subject.policy.name), heading: "policy"),
        Field("questions", .integer(agreement.questions), heading: "questions"),
        share("same_first_token", agreement.sameFirstTokens, heading: "same first token"),
        Field("mean_kl", agreement.meanDivergence, heading: "KL, nats", decimals: 5),
        share("same_answer", agreement.sameAnswers, heading: "same answer"),
        Field(
          "accuracy", accuracy.map { Value.number($0.share) } ?? .none, heading: "right (95% interval)",
          text: accuracy.map { "\(percent($0.share)) (\(percent($0.low)) to \(percent($0.high)))" } ?? ""),
        Field("milliseconds", subject.milliseconds.median, heading: "ms a question", decimals: 1),
        Field("threads", .integer(threads)),
        Field("backend_reason", .text(subject.model.precision.reason), .note(heading: "backend")),
      ])
    }
  }

  private func percent(_ share: Double) -> String { (100 * share).formatted(1) + "%" }
}
