public import ArgumentParser
import BatchInference
import Foundation
import ImageProcessing
public import PDrop
public import Storage
import Synchronization
import TokenDropping
import Verification

/// The exit statuses of the programs.
public enum ExitStatus: Int32, Sendable {
  case success = 0
  /// Some records failed.
  case someFailed = 1
  /// The command line is invalid.
  case usage = 2
  /// The model or a file is unusable.
  case file = 3

  /// The exit status for an error that ends the program.
  public init(_ error: any Error) {
    guard !(error is ValidationError) else {
      self = .usage
      return
    }
    self =
      switch (error as? any UserFacingError)?.category {
      case .usage: .usage
      case .resource where error is RecordFailure: .someFailed
      case .model, .resource: .file
      case .input, .internal, nil: .someFailed
      }
  }
}

/// An unusable file named on the command line.
public struct FileArgumentError: UserFacingError {
  public let problem: String

  public init(_ problem: String) { self.problem = problem }

  public var category: ErrorCategory { .resource }
}

extension ParsableCommand {
  /// Runs the program: output on stdout, one error line on stderr, and an `ExitStatus`.
  public static func runProgram() -> Never {
    ProcessFaults.fillStandardFiles()
    // A closed output pipe ends the process silently, as for any filter.
    _ = signal(SIGPIPE, SIG_DFL)
    // Ctrl-\ ends the process; Swift's handler prints a backtrace and goes on.
    _ = signal(SIGQUIT, SIG_DFL)
    ProcessFaults.exit(with: ExitStatus.file.rawValue)
    do {
      var command = try parseAsRoot()
      try command.run()
      Foundation.exit(ExitStatus.success.rawValue)
    } catch {
      Foundation.exit(report(error))
    }
  }

  /// Prints the error that ended the program, unless it was reported before, and returns the exit status.
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
      Log.error(errorText(error))
      return ExitStatus(error).rawValue
    }
  }
}

/// The command line of this process in shell syntax.
public enum CommandText {
  public static var current: String { text(CommandLine.arguments) }

  /// The arguments, quoted where a shell requires it; the program without its folder.
  static func text(_ arguments: [String]) -> String {
    let program = arguments.first.map { URL(filePath: $0).lastPathComponent }
    return ([program].compactMap(\.self) + arguments.dropFirst().map(quoted)).joined(separator: " ")
  }

  private static func quoted(_ word: String) -> String {
    let plain = word.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_./,:=+%@".contains($0)) }
    return plain && !word.isEmpty ? word : "'" + word.replacing("'", with: #"'\''"#) + "'"
  }
}

/// Stop signals: during work in progress the first requests a stop, the second ends the process.
package enum StopSignal {
  private static let idle: Int32 = -1
  private static let working: Int32 = 0

  /// `idle`, `working`, or the number of the signal that arrived during the work.
  private static let state = Atomic(idle)

  /// Whether the work in progress should stop.
  package static var isRequested: Bool { state.load(ordering: .relaxed) > working }

  /// Handles SIGINT and SIGTERM from now on; all that follows is work in progress.
  package static func install() { handle([SIGINT, SIGTERM], from: working) }

  /// Handles SIGINT, as sent by Ctrl-C, from now on: it stops the body of `interruptible`, and ends the process at any
  /// other time.
  package static func installInterrupt() { handle([SIGINT], from: idle) }

  private static func handle(_ signals: [Int32], from initial: Int32) {
    // Also initialises the static, which is not safe inside a signal handler.
    state.store(initial, ordering: .relaxed)
    for number in signals {
      _ = signal(number) { number in
        let exchange = StopSignal.state.compareExchange(
          expected: StopSignal.working, desired: number, ordering: .relaxed)
        guard !exchange.exchanged else { return }
        _ = signal(number, SIG_DFL)
        raise(number)
      }
    }
  }

  /// Runs `body` as the work in progress.
  package static func interruptible<Result>(_ body: () throws -> Result) rethrows -> Result {
    state.store(working, ordering: .relaxed)
    defer { state.store(idle, ordering: .relaxed) }
    return try body()
  }

  /// Ends the process by the signal that arrived, so that a shell loop around it ends as well.
  package static func endProcess() -> Never {
    let number = state.load(ordering: .relaxed)
    _ = signal(number, SIG_DFL)
    raise(number)
    exit(128 + number)
  }
}
