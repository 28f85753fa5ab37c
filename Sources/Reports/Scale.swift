import Foundation

/// The map from the values of an axis to positions in a drawing, and the ticks of the axis.
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
  ///   - values: The values to cover; a logarithmic axis ignores those that are not positive.
  ///   - start: The position of the lower end of the domain.
  ///   - end: The position of the upper end; may be less than `start`.
  ///   - tickCount: The approximate number of ticks.
  ///   - endsAtData: Whether the domain ends at the largest value instead of the next tick.
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

  /// The position of a value; outside of the ends for values outside of the domain.
  package func position(_ value: Double) -> Double {
    let (low, high) = (measure(domain.lowerBound), measure(domain.upperBound))
    return positions.start + (measure(value) - low) / (high - low) * (positions.end - positions.start)
  }

  private func measure(_ value: Double) -> Double {
    isLogarithmic ? log10(max(value, domain.lowerBound / 10)) : value
  }
}

/// Round tick values over a range.
package struct Ticks {
  package let domain: ClosedRange<Double>
  package let values: [Double]
  /// The distance of neighbours, which sets the number of decimals; `nil` if each value has its own format.
  private let step: Double?

  /// Multiples of 1, 2 or 5 times a power of ten, from the one below the range to the one above it.
  package init(_ range: ClosedRange<Double>, count: Int) {
    var (low, high) = (range.lowerBound, range.upperBound)
    if low == high {
      let margin = low == 0 ? 1 : abs(low) / 2
      (low, high) = (min(low, max(0, low - margin)), high + margin)
    }
    let step = Self.roundStep((high - low) / Double(max(1, count)))
    // The tolerance makes 0.3 / 0.1 count as 3 instead of the next multiple.
    let (first, last) = ((low / step + 1e-9).rounded(.down), (high / step - 1e-9).rounded(.up))
    values = (0...Int(last - first)).map { (first + Double($0)) * step }
    domain = first * step...last * step
    self.step = step
  }

  /// Powers of ten; if these are few, also 2 and 5 times them; if still few, multiples of one step.
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

  /// The smallest number of the form 1, 2 or 5 times a power of ten that is at least `least`.
  private static func roundStep(_ least: Double) -> Double {
    let power = pow(10, log10(least).rounded(.down))
    return [1, 2, 5, 10].map { $0 * power }.first { $0 >= least * (1 - 1e-9) } ?? 10 * power
  }

  /// The text of a tick, with the decimals that the step needs and a thousands separator.
  package func text(_ value: Double, _ unit: Axis.Unit) -> String {
    let factor: Double = unit == .percent ? 100 : 1
    let suffix = unit == .percent ? "%" : ""
    let number = value * factor
    guard let step else { return number.readable(3) + suffix }
    if abs(number) >= 1e7 || (number != 0 && step * factor < 1e-4) { return number.significant(3) + suffix }
    let decimals = max(0, Int((-log10(step * factor) - 1e-9).rounded(.up)))
    return number.formatted(decimals).withThousandsSeparators + suffix
  }
}

/// One number format for all values of a column or an axis.
struct NumberFormat {
  private let unit: Axis.Unit
  /// `nil` for a logarithmic axis: each value has its own four significant digits.
  private let decimals: Int?

  /// The fewest decimals that show all values: up to 1 for percentages, else up to four digits of the largest value.
  init(_ values: [Double], _ axis: Axis) {
    unit = axis.unit
    guard unit == .percent || !axis.isLogarithmic else {
      decimals = nil
      return
    }
    let numbers = values.filter(\.isFinite).map { axis.unit == .percent ? 100 * $0 : $0 }
    let largest = numbers.map(abs).max() ?? 0
    let most = unit == .percent ? 1 : largest > 0 ? max(0, 3 - Int(log10(largest).rounded(.down))) : 0
    guard most <= 6, largest < 1e15 else {
      decimals = nil
      return
    }
    // Rounded to `most` decimals first: what is not shown needs no further decimals.
    let shown = numbers.map { ($0, Double($0.formatted(most))) }
    decimals = (0...most).first { count in shown.allSatisfy { Double($0.formatted(count)) == $1 } }
  }

  func text(_ value: Double) -> String {
    let number = unit == .percent ? 100 * value : value
    return (decimals.map { number.formatted($0).withThousandsSeparators } ?? number.readable(4))
      + (unit == .percent ? "%" : "")
  }
}

extension Double {
  /// The number with a fixed number of decimals; zero has no sign.
  package func formatted(_ decimals: Int) -> String {
    let text = String(format: "%.\(decimals)f", self)
    return text.hasPrefix("-") && text.allSatisfy({ "-0.".contains($0) }) ? String(text.dropFirst()) : text
  }

  /// The number with a fixed number of significant digits.
  package func significant(_ digits: Int) -> String { String(format: "%.\(digits)g", self) }

  /// The number with a maximum number of significant digits; large numbers in full, with thousands separators.
  func readable(_ digits: Int) -> String {
    guard abs(self) >= 1, abs(self) < 1e15 else { return significant(digits) }
    let whole = Int(log10(abs(self)).rounded(.down)) + 1
    return formatted(max(0, digits - whole)).withoutTrailingZeros.withThousandsSeparators
  }

  /// A coordinate in a drawing, rounded to a tenth of a pixel.
  var coordinate: String {
    let text = formatted(1)
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }
}

extension String {
  /// `12345.5` as `12,345.5`; numbers of four digits are unchanged.
  var withThousandsSeparators: String {
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

extension Value {
  /// The text in CSV and human-readable tables; numbers have the fewest digits that restore them.
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

  /// The value in JSON; non-finite numbers are null.
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
  /// The text as a JSON string, quotes included.
  var quotedAsJSON: String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    guard let data = try? encoder.encode(self) else { preconditionFailure("quotedAsJSON: a string that is not JSON") }
    return String(decoding: data, as: UTF8.self)
  }
}
