import BenchSupport
import CommandLineOptions
import Evaluation
import Foundation
import PDrop
import TokenDropping

/// The same questions asked of several models under several schedules.
struct Fidelity {
  /// A way to answer, and how it did.
  struct Subject {
    /// Which of the models.
    var model: Int
    var schedule: NamedSchedule
    /// The schedule's, with what it needs to know of the machine.
    var policy: any TokenDroppingPolicy
    var agreement = Agreement()
    /// The same for each kind of question.
    var families: [String: Agreement] = [:]
    /// Whether it was right, for each question that has an answer.
    var right: [Bool] = []
    /// From the picture to the end of the answer.
    var milliseconds = Sample()
    /// Operations of the prompt, ranking included, counted at the kernels.
    var promptFlops = Sample()
    var cacheBytes = Sample()
  }

  let models: [VisionLanguageModel]
  /// The first is what the others are compared with.
  private(set) var subjects: [Subject]
  let generatedTokens: Int
  let threads: Int

  /// Every model under every schedule, in order.
  init(models: [VisionLanguageModel], schedules: [NamedSchedule], generatedTokens: Int, threads: Int) {
    self.models = models
    subjects = models.indices.flatMap { index in
      schedules.map { schedule in
        Subject(model: index, schedule: schedule, policy: models[index].timed(schedule.policy, threads: threads))
      }
    }
    self.generatedTokens = generatedTokens
    self.threads = threads
  }

  /// Asks all of them a question, in turn; a model encodes the picture once.
  mutating func ask(_ question: LabelledQuestion, pictures folder: String) throws {
    let path = URL(filePath: folder).appending(path: question.image).path
    var reference: Agreement.Answer?
    var picture: (model: Int, EncodedPicture)?
    for index in subjects.indices {
      let subject = subjects[index]
      let encoded =
        try picture?.model == subject.model
        ? picture?.1 : models[subject.model].encode(.file(path), threads: threads)
      guard let encoded else { continue }
      picture = (subject.model, encoded)
      let (answer, report, time) = try answer(question, encoded, subject)
      let first = reference ?? answer
      reference = first
      subjects[index].agreement.add(answer, reference: first, label: question.answer)
      if let family = question.category {
        subjects[index].families[family, default: Agreement()].add(answer, reference: first, label: question.answer)
      }
      if let label = question.answer { subjects[index].right.append(isExactMatch(answer.text, label)) }
      subjects[index].milliseconds.append(time + encoded.milliseconds.total)
      subjects[index].promptFlops.append(Double(report.flops.prefill + report.flops.rank))
      subjects[index].cacheBytes.append(Double(report.cacheBytes))
    }
  }

  private func answer(
    _ question: LabelledQuestion, _ picture: EncodedPicture, _ subject: Subject
  ) throws -> (answer: Agreement.Answer, report: RunReport, milliseconds: Double) {
    var options = GenerationOptions()
    options.maxTokens = generatedTokens
    let request = Request(
      prompt: .messages([ChatMessage(question: question.text, pictureCount: 1)]), pictures: [.features(picture)],
      policy: subject.policy, options: options)
    let stopwatch = Stopwatch()
    var session = try Session(models[subject.model], request, threads: threads)
    let logits = session.logits
    while try session.next() != nil {}
    let report = session.report
    return (
      Agreement.Answer(logits: logits, tokens: report.tokens, text: report.text), report, stopwatch.milliseconds
    )
  }
}
