internal import Kernels

/// Range checks of a configuration file's values.
struct ValueCheck {
  var file: String
  /// Names the section of the file that the keys belong to, with its dot; empty for the top.
  var section = ""

  /// Checks for a section within this one.
  func section(_ name: String) -> ValueCheck { ValueCheck(file: file, section: section + name + ".") }

  func fault(_ key: String, _ expected: String, _ found: String) -> CheckpointError {
    .badValue(file: file, key: section + key, expected: expected, found: found)
  }

  func integer(_ key: String, _ value: Int, in range: ClosedRange<Int>) throws(CheckpointError) -> Int {
    guard range.contains(value) else {
      throw fault(key, "a number from \(range.lowerBound) to \(range.upperBound)", "\(value)")
    }
    return value
  }

  /// An axis of a weight.
  func size(_ key: String, _ value: Int) throws(CheckpointError) -> Int { try integer(key, value, in: 1...(1 << 20)) }

  func epsilon(_ key: String, _ value: Double) throws(CheckpointError) -> Float {
    guard value >= 0, value < 1 else { throw fault(key, "a small positive number", "\(value)") }
    return Float(value)
  }

  /// A number that is at least `least` and not infinite.
  func number(_ key: String, _ value: Double?, atLeast least: Double) throws(CheckpointError) -> Double {
    guard let value, value >= least, value.isFinite else {
      throw fault(key, "a number of at least \(least)", value.map { "\($0)" } ?? "nothing")
    }
    return value
  }

  func theta(_ key: String, _ value: Double) throws(CheckpointError) -> Double {
    guard value > 1, value.isFinite else { throw fault(key, "a number above 1", "\(value)") }
    return value
  }

  func activation(_ key: String, _ value: String) throws(CheckpointError) -> Activation {
    guard let activation = Activation(rawValue: value) else {
      throw fault(key, "'quick_gelu', 'gelu' or 'silu'", "'\(value)'")
    }
    return activation
  }
}
