import Foundation

/// From an axis's values to positions, with the values that are marked on it.
package struct Scale {
  package struct Tick: Equatable {
    package let value: Double
    package let text: String
  }

  package let domain: ClosedRange<Double>
  package let ticks: [Tick]
  private let isLogarithmic: Bool
  private let positions: (start: Double, end: Double)

  /// - Parameters:
  ///   - values: What the axis has to hold; those that have no logarithm are left out where one is taken.
  ///   - start: The position of the domain's lower end.
  ///   - end: That of its upper end, which may lie before.
  ///   - tickCount: About how many ticks there is room for.
  ///   - endsAtData: Whether the axis ends at the largest value and not at the tick after it.
  package init(
    _ axis: Axis, _ values: [Double], from start: Double, to end: Double, tickCount: Int = 5, endsAtData: Bool = false
  ) {
    let all = (values + axis.reaches).filter { $0.isFinite && (!axis.isLogarithmic || $0 > 0) }
    let (low, high) = (all.min() ?? (axis.isLogarithmic ? 1 : 0), all.max() ?? 1)
    let marks =
      axis.isLogarithmic ? Ticks(logarithmic: low...high, count: tickCount) : Ticks(low...high, count: tickCount)
    let isShortened = endsAtData && high > marks.domain.lowerBound
    domain = isShortened ? marks.domain.lowerBound...high : marks.domain
    ticks = marks.values.filter(domain.contains).map { Tick(value: $0, text: marks.text($0, axis.unit)) }
    isLogarithmic = axis.isLogarithmic
    positions = (start, end)
  }

  /// Where a value lies; beyond the ends for what is beyond the domain.
  package func position(_ value: Double) -> Double {
    let (low, high) = (measure(domain.lowerBound), measure(domain.upperBound))
    return positions.start + (measure(value) - low) / (high - low) * (positions.end - positions.start)
  }

  private func measure(_ value: Double) -> Double {
    isLogarithmic ? log10(max(value, domain.lowerBound / 10)) : value
  }
}

/// Round values over a range.
package struct Ticks {
  package let domain: ClosedRange<Double>
  package let values: [Double]
  /// Between neighbours, for the number of decimals; `nil` where each value has its own.
  private let step: Double?

  /// Multiples of 1, 2 or 5 times a power of ten, from the one below the range to the one above it.
  package init(_ range: ClosedRange<Double>, count: Int) {
    var (low, high) = (range.lowerBound, range.upperBound)
    if low == high {
      let margin = low == 0 ? 1 : abs(low) / 2
      (low, high) = (min(low, max(0, low - margin)), high + margin)
    }
    let step = Self.roundStep((high - low) / Double(max(1, count)))
    // A hair of tolerance, so that 0.3 / 0.1 is 3 and not the next multiple.
    let (first, last) = ((low / step + 1e-9).rounded(.down), (high / step - 1e-9).rounded(.up))
    values = (0...Int(last - first)).map { (first + Double($0)) * step }
    domain = first * step...last * step
    self.step = step
  }

  /// Powers of ten, with 2 and 5 times them where there are few; multiples of one step where there are still fewer.
  package init(logarithmic range: ClosedRange<Double>, count: Int) {
    var (low, high) = (range.lowerBound, range.upperBound)
    if low == high { (low, high) = (low / 2, high * 2) }
    let margin = pow(high / low, 0.04)
    let domain = low / margin...high * margin
    let exponents = Int(log10(low).rounded(.down))...Int(log10(high).rounded(.up))
    func marks(_ factors: [Double]) -> [Double] {
      exponents.flatMap { exponent in factors.map { $0 * pow(10, Double(exponent)) } }.filter(domain.contains)
    }
    let stride = (exponents.count + count) / (count + 1)
    let powers = exponents.filter { $0.isMultiple(of: stride) }.map { pow(10, Double($0)) }.filter(domain.contains)
    let choices = [powers, marks([1, 3]), marks([1, 2, 5])]
    var values = choices.first { $0.count >= 3 } ?? []
    if values.isEmpty {
      let even = Ticks(domain, count: count)
      values = even.values.filter(domain.contains)
      step = even.step
    } else {
      step = nil
    }
    self.values = values
    self.domain = domain
  }

  /// The smallest of 1, 2 and 5 times a power of ten that is not below `least`.
  private static func roundStep(_ least: Double) -> Double {
    let power = pow(10, log10(least).rounded(.down))
    return [1, 2, 5, 10].map { $0 * power }.first { $0 >= least * (1 - 1e-9) } ?? 10 * power
  }

  /// A value as it is written beside its tick: with as many decimals as the step needs, and thousands apart.
  package func text(_ value: Double, _ unit: Axis.Unit) -> String {
    let factor: Double = unit == .percent ? 100 : 1
    let suffix = unit == .percent ? "%" : ""
    let number = value * factor
    guard let step else { return number.readable(3) + suffix }
    if abs(number) >= 1e7 || (number != 0 && step * factor < 1e-4) { return number.significant(3) + suffix }
    let decimals = max(0, Int((-log10(step * factor) - 1e-9).rounded(.up)))
    return number.formatted(decimals: decimals).withThousandsApart + suffix
  }
}

extension Double {
  /// With so many decimals, `0` without a sign.
  func formatted(decimals: Int) -> String {
    let text = String(format: "%.\(decimals)f", self)
    return text.hasPrefix("-") && text.allSatisfy({ "-0.".contains($0) }) ? String(text.dropFirst()) : text
  }

  /// With so many digits that mean something.
  package func significant(_ digits: Int) -> String { String(format: "%.\(digits)g", self) }

  /// With so many digits that mean something, large numbers in full and with their thousands apart.
  func readable(_ digits: Int) -> String {
    guard abs(self) >= 1, abs(self) < 1e15 else { return significant(digits) }
    let whole = Int(log10(abs(self)).rounded(.down)) + 1
    return formatted(decimals: max(0, digits - whole)).withoutTrailingZeros.withThousandsApart
  }

  /// A coordinate in a drawing: a tenth of a pixel is fine enough.
  var coordinate: String {
    let text = formatted(decimals: 1)
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }
}

extension String {
  /// `12345.5` as `12,345.5`; numbers of four digits as they are.
  var withThousandsApart: String {
    let (sign, digits) = hasPrefix("-") ? ("-", dropFirst()) : ("", self[...])
    let whole = digits.prefix { $0.isNumber }
    guard whole.count > 4, !contains("e") else { return self }
    let groups = stride(from: whole.count, to: 0, by: -3).map { end in
      String(whole.dropLast(whole.count - end).suffix(3))
    }
    return sign + groups.reversed().joined(separator: ",") + digits.dropFirst(whole.count)
  }

  /// `12.50` as `12.5` and `12.0` as `12`.
  fileprivate var withoutTrailingZeros: String {
    guard contains(".") else { return self }
    let short = self[..<(lastIndex { $0 != "0" }.map(index(after:)) ?? endIndex)]
    return String(short.last == "." ? short.dropLast() : short)
  }
}

extension Double {
  /// With so many decimals.
  package func formatted(_ decimals: Int) -> String { String(format: "%.\(decimals)f", self) }
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
