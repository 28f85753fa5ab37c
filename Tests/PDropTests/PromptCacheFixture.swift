import Foundation
import PDrop
import Synchronization
import TestSupport
import TokenDropping

/// A folder for a prompt cache, its warnings, and golden models that use it.
class PromptCacheFixture {
  let folder: TemporaryFolder
  let warnings = Warnings()

  /// The warnings of a cache, one line each.
  final class Warnings: Sendable {
    private let state = Mutex<[String]>([])
    var lines: [String] { state.withLock { $0 } }
    func add(_ line: String) { state.withLock { $0.append(line) } }
  }

  init() throws { folder = try TemporaryFolder() }

  var cache: String { folder.path("cache") }
  func names(_ kind: String = "") throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: cache).filter { $0.hasPrefix("pdrop-\(kind)") }.sorted()
  }

  /// Loads a golden model, by default in int8 and with a prompt cache.
  func load(
    _ name: String = "tiny-llava-1.5", _ directory: String? = nil, isCached: Bool = true, limit: Int = 1 << 30,
    change: (inout VisionLanguageModel.Options) -> Void = { _ in }
  ) throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    options.precision = .int8
    if isCached {
      options.promptCache = PromptCacheOptions(directory: cache, byteLimit: limit) { [warnings] in warnings.add($0) }
    }
    change(&options)
    return try VisionLanguageModel(directory: directory ?? Goldens.path("models/\(name)"), options: options)
  }

  static let images = ["shapes_640x480.png", "gray_300x400.png", "scene_500x375_420.jpg"]
    .map { Goldens.path("images/\($0)") }
  static let policy = PyramidDrop(.listed(layers: [1, 2], ratios: [0.5, 0.25]))

  func request(
    _ images: [Request.Image], question: String = "What is this?", policy: any TokenDroppingPolicy = policy
  ) -> Request {
    let marks = images.map { _ in "<image>" }.joined(separator: "\n")
    var request = Request(
      prompt: .rendered("USER: \(marks)\n\(question) ASSISTANT:"), images: images, policy: policy)
    request.options.maxTokens = 3
    request.options.ignoresEOS = true
    request.options.contextLength = 8192
    return request
  }

  /// The logits of every token and the report of every answer, without times.
  func answer(
    _ model: VisionLanguageModel, _ request: Request, speculation: Speculation = .off
  ) throws -> [String] {
    var session = try Session(model, request, threads: 2, speculation: speculation)
    var results: [String] = []
    repeat {
      repeat { results.append("\(session.logits.map(\.bitPattern).hashValue)") } while try session.next() != nil
      var report = session.report
      (report.timings, report.peakResidentBytes) = (RunReport.Timings(), 0)
      let encoder = JSONEncoder()
      encoder.outputFormatting = .sortedKeys
      results.append(String(decoding: try encoder.encode(report), as: UTF8.self))
    } while session.startNextAnswer()
    return results
  }

  func answer(
    _ model: VisionLanguageModel, question: String = "What is this?", policy: any TokenDroppingPolicy = policy
  ) throws -> [String] {
    try answer(model, request([.file(Self.images[0])], question: question, policy: policy))
  }
}
