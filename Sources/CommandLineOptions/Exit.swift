public import ArgumentParser
internal import Foundation
internal import PDrop
internal import TokenDropping

/// What the program's exit status says.
public enum ExitStatus: Int32, Sendable {
  case success = 0
  /// Some records could not be answered.
  case someFailed = 1
  /// The command line was wrong.
  case usage = 2
  /// The model, or a file, could not be used.
  case file = 3

  /// The status for an error that ends the program.
  public init(_ error: any Error) {
    self =
      switch error {
      case is DropPolicyError, is ValidationError: .usage
      case is ModelError, is ImageError, is TraceError, is BundledModel.NotFound, is FileProblem: .file
      default: .someFailed
      }
  }
}

/// A file named on the command line that cannot be used.
public struct FileProblem: Error, CustomStringConvertible {
  public let description: String

  public init(_ description: String) { self.description = description }
}

extension ParsableCommand {
  /// Runs the program: output on stdout, one line on stderr for an error, and the exit status of `ExitStatus`.
  public static func runProgram() -> Never {
    do {
      var command = try parseAsRoot()
      try command.run()
      Foundation.exit(ExitStatus.success.rawValue)
    } catch let code as ExitCode {
      Foundation.exit(code.rawValue)
    } catch {
      let parserCode = exitCode(for: error)
      if parserCode.isSuccess {
        print(fullMessage(for: error))
        Foundation.exit(ExitStatus.success.rawValue)
      }
      if parserCode == .validationFailure {
        Log.write(fullMessage(for: error))
        Foundation.exit(ExitStatus.usage.rawValue)
      }
      Log.error("\(error)")
      Foundation.exit(ExitStatus(error).rawValue)
    }
  }
}

/// Lines for people, on stderr; stdout is for data.
public enum Log {
  public static func write(_ line: String) { FileHandle.standardError.write(Data((line + "\n").utf8)) }

  public static func error(_ message: String) { write("error: " + message) }
}
