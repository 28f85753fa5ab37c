package import Foundation
package import PDrop
package import TestSupport

/// The trace of a run, written to files and read back.
package struct Trace {
  package let report: RunReport
  package let tensors: GoldenTensors

  package init(of request: Request, _ model: VisionLanguageModel, threads: Int = 2) throws {
    var session = try Session(model, request, threads: threads)
    while try session.next() != nil {}
    let folder = FileManager.default.temporaryDirectory.appending(path: "trace-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    try session.writeTrace(to: folder.path(percentEncoded: false))
    report = try JSONDecoder().decode(RunReport.self, from: Data(contentsOf: folder.appending(path: "trace.json")))
    tensors = try GoldenTensors(folder.appending(path: "trace.safetensors"))
  }

  /// The trace of a run of a golden case.
  ///
  /// - Parameter folder: The folder that the paths of images are relative to.
  package init(
    of golden: GoldenCase, _ run: GoldenCase.Run, _ model: VisionLanguageModel, folder: URL = Goldens.folder
  ) throws {
    var options = GenerationOptions()
    options.maxTokens = golden.newTokens
    options.ignoresEOS = true
    var request = Request(
      prompt: .rendered(golden.prompt),
      images: golden.images.map { .file(folder.appending(path: $0).path(percentEncoded: false)) },
      policy: run.policy.policy, options: options)
    request.recordsTensors = true
    try self.init(of: request, model)
  }
}
