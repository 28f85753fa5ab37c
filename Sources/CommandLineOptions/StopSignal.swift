internal import Foundation
internal import Synchronization

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
