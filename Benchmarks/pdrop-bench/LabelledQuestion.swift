import CommandLineOptions
import Foundation
import PDrop

/// A question about a picture, and its answer if somebody knows it.
struct LabelledQuestion: Decodable {
  var image: String
  var text: String
  var answer: String?
  /// The kind of question, if somebody has sorted them.
  var category: String?

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

  /// One question about every picture of a folder.
  static func about(picturesIn folder: String, _ text: String) throws -> [LabelledQuestion] {
    let pictures = try VisionLanguageModel.pictures(inFolder: folder)
    guard !pictures.isEmpty else { throw FileProblem("\(folder): there are no pictures in it") }
    return pictures.map { LabelledQuestion(image: $0, text: text) }
  }
}
