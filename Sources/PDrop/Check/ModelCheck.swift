internal import Kernels
internal import LLaVA

/// Runs cases of a reference as a user would run them and compares every stage that the reference stores.
package struct ModelCheck: Sendable {
  private let model: VisionLanguageModel
  private let folder: ReferenceFolder
  private let threads: Int

  package init(_ model: VisionLanguageModel, _ folder: ReferenceFolder, threads: Int) {
    (self.model, self.folder, self.threads) = (model, folder, threads)
  }

  /// Finds out whether a case can be read and is of the model's sizes.
  package func validate(_ name: String) throws(ReferenceError) {
    _ = try ReferenceCase(name, of: folder, for: model)
  }

  /// Runs a case under each of its policies; what comes before the decoder is compared in the first run.
  ///
  /// - Throws: `ReferenceError` for a case that cannot be read or does not fit the model, `ImageError` for a picture.
  package func report(on name: String) throws -> CaseReport {
    let expected = try ReferenceCase(name, of: folder, for: model)
    let prompt = prompt(of: expected)
    var sheet = CheckSheet()
    try sheet.comparePrompt(expected, text: model.rendered(prompt), tokens: model.tokens(of: prompt))
    var end: String?
    for (index, run) in expected.runs.enumerated() {
      do {
        let (tensors, report) = try self.run(run, prompt, expected)
        if index == 0 {
          let compute = Compute(workers: Workers(count: threads))
          sheet.comparePictures(expected, tensors, report, model.llava, on: compute)
        }
        sheet.compareRun(run, tensors, report, pictures: expected.pictures)
      } catch let error as SequenceError {
        // Tokens that are not the reference's may not even make a sequence; those that are must.
        guard sheet.hasDeparted else { throw ReferenceError.doesNotFit(file: expected.file, reason: "\(error)") }
        end = "\(error)"
        break
      }
    }
    return CaseReport(model: model, name: name, stages: sheet.results, end: end)
  }

  private func prompt(of expected: ReferenceCase) -> Request.Prompt {
    guard let question = expected.question else { return .rendered(expected.prompt) }
    return Request(question: question, pictures: expected.pictures.map { .file($0.path) }).prompt
  }

  /// A run to the reference's last token, end tokens like any other.
  private func run(
    _ run: ReferenceCase.Run, _ prompt: Request.Prompt, _ expected: ReferenceCase
  ) throws -> (TraceTensors, RunReport) {
    var options = GenerationOptions()
    options.maxTokens = run.tokens.count
    options.ignoresEndToken = true
    var request = Request(
      prompt: prompt, pictures: expected.pictures.map { .file($0.path) }, policy: run.policy, options: options)
    request.recordsTensors = true
    var session = try Session(model, request, threads: threads)
    // Logits that are no numbers end the answer early, and are compared like others.
    do { while try session.next() != nil {} } catch is GenerationError {}
    guard let tensors = session.tensors else { preconditionFailure("the request asked for tensors") }
    return (tensors, session.report)
  }
}
