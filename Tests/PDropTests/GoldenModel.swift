@testable import PDrop
import TestSupport

extension VisionLanguageModel {
  /// A tiny model of the goldens, with changed options.
  static func golden(_ name: String, _ change: (inout Options) -> Void = { _ in }) throws -> VisionLanguageModel {
    var options = Options()
    change(&options)
    return try VisionLanguageModel(directory: Goldens.path("models/\(name)"), options: options)
  }

  /// The report of a session that answers a request.
  func report(_ request: Request) throws -> RunReport {
    var session = try Session(self, request, threads: 2)
    while try session.next() != nil {}
    return session.report
  }
}
