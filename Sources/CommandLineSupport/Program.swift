public import ArgumentParser
import BatchInference
import Foundation
import ImageProcessing
public import PDrop
public import Storage
import Synchronization
import TokenDropping
import Verification

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
    guard !(error is ValidationError) else {
      self = .usage
      return
    }
    self =
      switch (error as? any UserFacingError)?.category {
      case .usage: .usage
      case .model, .resource: .file
      case .input, .internal, nil: .someFailed
      }
  }
}

/// A file named on the command line that cannot be used.
public struct FileArgumentError: UserFacingError {
  public let problem: String

  public init(_ problem: String) { self.problem = problem }

  public var category: ErrorCategory { .resource }
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
      Log.error(errorText(error))
      return ExitStatus(error).rawValue
    }
  }
}

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

/// SIGINT and SIGTERM during a batch: the first lets what is running finish, the second ends the program.
package enum StopSignal {
  /// The signal that came, or 0.
  private static let first = Atomic<Int32>(0)

  /// Whether nothing new is to be begun.
  package static var isWanted: Bool { first.load(ordering: .relaxed) != 0 }

  /// From now on handles the signals.
  package static func install() {
    // Made here, not for the first time in the handler.
    first.store(0, ordering: .relaxed)
    for number in [SIGINT, SIGTERM] {
      _ = signal(number) { number in
        let exchange = StopSignal.first.compareExchange(expected: 0, desired: number, ordering: .relaxed)
        guard !exchange.exchanged else { return }
        _ = signal(number, SIG_DFL)
        raise(number)
      }
    }
  }

  /// Ends the program by the signal, which tells a shell's loop to end as well.
  package static func endProgram() -> Never {
    let number = first.load(ordering: .relaxed)
    _ = signal(number, SIG_DFL)
    raise(number)
    exit(128 + number)
  }
}

/// SIGINT, as Ctrl-C sends it: stops an answer that is on its way, and at any other time the program.
package enum Interruption {
  private static let idle = 0
  private static let answering = 1
  private static let wanted = 2
  private static let state = Atomic(idle)

  /// Whether the answer on its way is to stop.
  package static var isWanted: Bool { state.load(ordering: .relaxed) == wanted }

  /// From now on handles the signal.
  package static func install() {
    // Made here, not for the first time in the handler.
    state.store(idle, ordering: .relaxed)
    _ = signal(SIGINT) { number in
      let exchange = Interruption.state.compareExchange(
        expected: Interruption.answering, desired: Interruption.wanted, ordering: .relaxed)
      guard !exchange.exchanged else { return }
      _ = signal(number, SIG_DFL)
      raise(number)
    }
  }

  /// Runs `body` as an answer: the first signal is for it, a second ends the program.
  package static func watching<Result>(_ body: () throws -> Result) rethrows -> Result {
    state.store(answering, ordering: .relaxed)
    defer { state.store(idle, ordering: .relaxed) }
    return try body()
  }
}
