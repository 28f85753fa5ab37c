/// Wall time since it was made.
package struct Stopwatch: Sendable {
  private let start = ContinuousClock.now

  package init() {}

  package var milliseconds: Double { (ContinuousClock.now - start).milliseconds }
}

extension Duration {
  package var milliseconds: Double { Double(components.seconds) * 1e3 + Double(components.attoseconds) * 1e-15 }
}

/// The wall time that `body` takes, in milliseconds.
package func milliseconds<Failure: Error>(_ body: () throws(Failure) -> Void) throws(Failure) -> Double {
  let stopwatch = Stopwatch()
  try body()
  return stopwatch.milliseconds
}
