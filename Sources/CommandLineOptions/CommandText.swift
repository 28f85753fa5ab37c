internal import Foundation

/// The command line that the program was started with, as a shell would take it.
public enum CommandText {
  public static var current: String { text(CommandLine.arguments) }

  /// The words with quotes around those that a shell would take apart; the program by its name alone.
  static func text(_ arguments: [String]) -> String {
    let program = arguments.first.map { URL(filePath: $0).lastPathComponent }
    return ([program].compactMap(\.self) + arguments.dropFirst().map(quoted)).joined(separator: " ")
  }

  private static func quoted(_ word: String) -> String {
    let plain = word.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_./,:=+%@".contains($0)) }
    return plain && !word.isEmpty ? word : "'" + word.replacing("'", with: #"'\''"#) + "'"
  }
}
