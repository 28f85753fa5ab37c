import Foundation
import TestSupport
import Testing

/// A folder with questions about the bundled images, and the arguments of runs that answer them.
struct BatchFolder: ~Copyable {
  static let samples = Goldens.folder.deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Models/samples").path
  static let question = "What number is at the top right?"

  let folder: TemporaryFolder
  let input: String
  let output: String

  /// - Parameter count: The number of questions; 4, 9, 11 and 12 are invalid, each for a different reason.
  init(count: Int) throws {
    let folder = try TemporaryFolder()
    let text = try folder.write("text.png", "no image")
    let lines = (1...max(1, count)).map { number in
      let name = #""question_id": "q\#(number)", "text": "\#(Self.question) \#(number)""#
      return switch number {
      case 4: #"{\#(name), "image": "none.png"}"#
      case 9: #"{\#(name), "image": "\#(text)"}"#
      case 11: #"{\#(name), "image""#
      case 12: #"{\#(name), "image": 7}"#
      default: #"{\#(name), "image": "\#(["bike", "river", "shapes"][number % 3]).png"}"#
      }
    }
    input = try folder.write("questions.jsonl", (count == 0 ? [] : lines).joined(separator: "\n") + "\n")
    output = folder.path("answers.jsonl")
    self.folder = folder
  }

  /// The arguments of the program.
  func arguments(_ more: [String] = [], output: String? = nil) -> [String] {
    ["-t", "1", "-n", "4", "--input", input, "--image-folder", Self.samples, "--output", output ?? self.output]
      + ["--no-timings", "--progress", "none"] + more
  }

  func bytes(_ path: String? = nil) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(filePath: path ?? output))) }

  func lines(_ path: String? = nil) throws -> [String] {
    String(decoding: try bytes(path), as: UTF8.self).split(separator: "\n").map(String.init)
  }
}
