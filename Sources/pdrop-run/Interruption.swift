import Foundation
import Synchronization

/// SIGINT, as Ctrl-C sends it: stops an answer that is on its way, and at any other time the program.
enum Interruption {
  private static let idle = 0
  private static let answering = 1
  private static let wanted = 2
  private static let state = Atomic(idle)

  /// Whether the answer on its way is to stop.
  static var isWanted: Bool { state.load(ordering: .relaxed) == wanted }

  /// From now on handles the signal.
  static func install() {
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
  static func watching<Result>(_ body: () throws -> Result) rethrows -> Result {
    state.store(answering, ordering: .relaxed)
    defer { state.store(idle, ordering: .relaxed) }
    return try body()
  }
}
