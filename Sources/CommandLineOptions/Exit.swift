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
      case is DropPolicyError, is PromptError, is ValidationError: .usage
      case let error where RecordFailure(error).reason == .targetUnreachable: .usage
      case is ModelError, is ImageError, is PictureReferenceError, is TraceError, is ReferenceError,
        is BundledModel.NotFound, is FileProblem, is BatchError:
        .file
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
    // Whoever reads our output may stop reading; that ends the program without a word, as for any filter.
    _ = signal(SIGPIPE, SIG_DFL)
    do {
      var command = try parseAsRoot()
      try command.run()
      Foundation.exit(ExitStatus.success.rawValue)
    } catch {
      Foundation.exit(report(error))
    }
  }

  /// Prints what ended the program, if that is still to be said, and returns the exit status.
  private static func report(_ error: any Error) -> Int32 {
    if let code = error as? ExitCode { return code.rawValue }
    switch exitCode(for: error) {
    case .success:
      do { try Output().write(fullMessage(for: error) + "\n") } catch { return report(error) }
      return ExitStatus.success.rawValue
    case .validationFailure:
      let message = message(for: error)
      Log.error(message.split(separator: "\n").joined(separator: " "))
      let usage = fullMessage(for: error).dropFirst((_errorPrefix + message).count)
      for line in usage.split(separator: "\n") { Log.write(String(line)) }
      return ExitStatus.usage.rawValue
    default:
      Log.error("\(error)")
      return ExitStatus(error).rawValue
    }
  }
}
