import CommandLineOptions
import Evaluation
import Foundation
import PDrop

/// What gave a file of answers, kept beside it: answers to be gone on with must be of the same kind, and a table says whose
/// they are.
struct RunRecord: Codable, Equatable {
  var model: String
  var policy: RunReport.Policy
  var precision: String
  var image_mode: String
  var template: String
  var max_tokens: Int
  /// Where only some of the questions are asked.
  var limit: Int?

  init(_ model: VisionLanguageModel, _ base: Request, limit: Int?) throws {
    self.model = model.name
    policy = try BatchRunDescription(model, base, threads: 1).policy
    precision = model.precision.name
    image_mode = model.preprocessor.mode.rawValue
    template = model.template.name
    max_tokens = base.options.maxTokens
    self.limit = limit
  }

  /// The record of an answer file; `nil` where it has none, as those that other programs wrote.
  init?(of answers: String) {
    guard let data = FileManager.default.contents(atPath: Self.path(answers)),
      let record = try? JSONDecoder().decode(Self.self, from: data)
    else { return nil }
    self = record
  }

  private static func path(_ answers: String) -> String {
    URL(filePath: answers).deletingPathExtension().path(percentEncoded: false) + ".run.json"
  }

  /// Notes the record beside answers.
  ///
  /// - Throws: `FileProblem` where there are answers of another kind already, unless they are to be removed.
  func write(beside answers: String, overwrites: Bool) throws {
    let exists = FileManager.default.fileExists(atPath: answers)
    if exists, !overwrites, let earlier = RunRecord(of: answers), earlier != self {
      throw FileProblem(
        "\(answers): has answers of other options (\(earlier.line)); remove them with --overwrite, or give another --output "
          + "or --name")
    }
    try OutputFile.write(try JSONLine.encode(self), to: Self.path(answers))
  }

  private var line: String {
    (try? JSONLine.encode(self)).map { String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .newlines) } ?? model
  }
}

/// Files that are written as a whole, in folders that need not be there.
enum OutputFile {
  static func write(_ data: Data, to path: String) throws(FileProblem) {
    try makeFolder(of: path)
    do { try data.write(to: URL(filePath: path), options: .atomic) } catch {
      throw FileProblem("\(path): cannot be written (\(error.localizedDescription))")
    }
  }

  static func makeFolder(of path: String) throws(FileProblem) {
    let folder = URL(filePath: path).deletingLastPathComponent()
    do { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) } catch {
      throw FileProblem("\(folder.path): the folder cannot be made (\(error.localizedDescription))")
    }
  }
}
