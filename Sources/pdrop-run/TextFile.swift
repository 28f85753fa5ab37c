import CommandLineOptions
import Foundation

/// Text that a user names by its file.
enum TextFile {
  /// The text of a file, or of standard input for `-`.
  static func read(_ path: String) throws(FileProblem) -> String {
    let data: Data
    if path == "-" {
      data = FileHandle.standardInput.readDataToEndOfFile()
    } else {
      do { data = try Data(contentsOf: URL(filePath: path)) } catch {
        throw FileProblem("\(path): the file cannot be read; does it exist?")
      }
    }
    guard let text = String(data: data, encoding: .utf8) else { throw FileProblem("\(path): expected UTF-8 text") }
    return text
  }
}
