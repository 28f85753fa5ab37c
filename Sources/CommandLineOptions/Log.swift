internal import Foundation

/// Lines for people, on stderr; stdout is for data.
public enum Log {
  /// The longest line written, in characters of Unicode; a damaged file's names may have any length.
  private static let lengthLimit = 4000

  /// Writes one line, whatever the text holds; where stderr takes none, it is lost.
  public static func write(_ line: String) {
    try? FileHandle.standardError.write(contentsOf: Data((oneLine(line) + "\n").utf8))
  }

  public static func error(_ message: String) { write("error: " + message) }

  /// A warning that may come at any time, from any thread; on a terminal it takes the place of a line that shows progress.
  public static func warning(_ message: String) {
    if isatty(STDERR_FILENO) != 0 { try? FileHandle.standardError.write(contentsOf: Data("\r\u{1B}[K".utf8)) }
    write("warning: " + message)
  }

  /// The text with whatever breaks lines, steers terminals or turns the writing direction spelled as an escape, since file
  /// names and contents of files come from others.
  public static func oneLine(_ text: String) -> String {
    var line = ""
    for scalar in text.unicodeScalars.prefix(lengthLimit) {
      let category = scalar.properties.generalCategory
      let isPlain = category != .control && category != .lineSeparator && category != .paragraphSeparator
      if isPlain, !scalar.properties.isBidiControl {
        line.unicodeScalars.append(scalar)
      } else {
        line += scalar.escaped(asASCII: true)
      }
    }
    return text.unicodeScalars.count > lengthLimit ? line + " …" : line
  }
}
