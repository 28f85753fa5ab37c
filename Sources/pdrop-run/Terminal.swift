import CommandLineOptions
import Foundation

/// The terminal of a chat, if it has one: prompts and notes are for people only.
struct Terminal {
  private let isPresent = isatty(STDIN_FILENO) != 0 && isatty(STDERR_FILENO) != 0

  /// The next line of standard input, without its end; `nil` at the end of input.
  func readLine() -> String? {
    if isPresent { write("> ") }
    let line = Swift.readLine()
    // Whatever comes next begins a line of its own.
    if isPresent, line == nil { write("\n") }
    return line
  }

  /// Says something about the chat.
  func note(_ text: String) {
    if isPresent { Log.write("(\(text))") }
  }

  private func write(_ text: String) { try? FileHandle.standardError.write(contentsOf: Data(text.utf8)) }
}
