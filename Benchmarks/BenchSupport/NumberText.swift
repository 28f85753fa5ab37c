internal import Foundation

extension Double {
  /// With so many decimals.
  package func formatted(_ decimals: Int) -> String { String(format: "%.\(decimals)f", self) }

  /// With so many digits that mean something.
  package func significant(_ digits: Int) -> String { String(format: "%.\(digits)g", self) }
}

extension Value {
  /// As CSV and people read it; numbers as short as they can be read back.
  var plainText: String {
    switch self {
    case .text(let text): text
    case .integer(let integer): "\(integer)"
    case .number(let number): "\(number)"
    case .numbers(let numbers): "[" + numbers.map { Value.number($0).json }.joined(separator: ", ") + "]"
    case .integers(let integers): "\(integers)"
    case .none: ""
    }
  }

  /// As JSON; what JSON has no number for is null.
  var json: String {
    switch self {
    case .text(let text): text.quotedAsJSON
    case .integer(let integer): "\(integer)"
    case .number(let number): number.isFinite ? "\(number)" : "null"
    case .numbers, .integers: plainText
    case .none: "null"
    }
  }
}

extension String {
  /// The text as a string of JSON.
  var quotedAsJSON: String {
    var quoted = "\""
    for scalar in unicodeScalars {
      switch scalar {
      case "\"": quoted += "\\\""
      case "\\": quoted += "\\\\"
      case "\n": quoted += "\\n"
      case "\t": quoted += "\\t"
      case _ where scalar.value < 0x20: quoted += String(format: "\\u%04x", scalar.value)
      default: quoted.unicodeScalars.append(scalar)
      }
    }
    return quoted + "\""
  }
}
