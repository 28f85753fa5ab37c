/// Expressions of JSON numbers.
enum NumberExpression {
  /// The maximum number of digits before the decimal point, so that every integer is exact as a `Double`.
  static let integerDigits = 15

  /// Integers of at most 15 digits.
  static var integer: ByteExpression {
    .sequence([
      .optional(.byte("-")),
      .choice([
        .byte("0"),
        .sequence([.byte(in: 0x31...0x39), .repeated(.digit, minimum: 0, maximum: integerDigits - 1)]),
      ]),
    ])
  }

  static var number: ByteExpression {
    .sequence([
      integer,
      .optional(.sequence([.byte("."), .repeated(.digit, minimum: 1, maximum: 16)])),
      .optional(
        .sequence([
          .bytes(ByteSet("eE".utf8)), .optional(.bytes(ByteSet("+-".utf8))), .repeated(.digit, minimum: 1, maximum: 2),
        ])),
    ])
  }

  /// Numbers from `low` to `high`, in units of the last of `fractionDigits` decimal places, without exponents.
  static func numbers(from low: Int128, to high: Int128, fractionDigits: Int) -> ByteExpression {
    var signs: [ByteExpression] = []
    if high >= 0 { signs.append(magnitudes(from: max(0, low), to: high, fractionDigits)) }
    if low <= 0 {
      signs.append(.sequence([.byte("-"), magnitudes(from: max(0, -high), to: -low, fractionDigits)]))
    }
    return .choice(signs)
  }

  private static func magnitudes(from low: Int128, to high: Int128, _ fractionDigits: Int) -> ByteExpression {
    var alternatives: [ByteExpression] = []
    let unit = power(of: fractionDigits)
    // By the number of digits before the point; a number with one may start with 0.
    var (start, end) = (Int128(0), 10 * unit)
    while start <= high {
      let (first, last) = (max(low, start), min(high, end - 1))
      if first <= last {
        let digits = (digits(of: first, fractionDigits), digits(of: last, fractionDigits))
        alternatives.append(strings(digits.0[...], digits.1[...], true, true, digits.0.count - fractionDigits))
      }
      (start, end) = (end, end * 10)
    }
    return .choice(alternatives)
  }

  static func power(of exponent: Int) -> Int128 { (0..<exponent).reduce(1) { power, _ in power * 10 } }

  /// The decimal digits of a number, with at least one before the decimal places.
  private static func digits(of value: Int128, _ fractionDigits: Int) -> [UInt8] {
    let digits = Array(String(value).utf8)
    return Array(repeating: UInt8(ascii: "0"), count: max(0, fractionDigits + 1 - digits.count)) + digits
  }

  /// The strings of digits between two of equal length, with a point after `point` of them; decimal places that are 0 may
  /// be left out from the end.
  ///
  /// - Parameters:
  ///   - isLow: Whether the digits so far are those of `low`.
  ///   - isHigh: Whether they are those of `high`.
  private static func strings(
    _ low: ArraySlice<UInt8>, _ high: ArraySlice<UInt8>, _ isLow: Bool, _ isHigh: Bool, _ point: Int
  ) -> ByteExpression {
    guard let lowest = low.first, let highest = high.first else { return .sequence([]) }
    let (nine, zero) = (UInt8(ascii: "9"), UInt8(ascii: "0"))
    let canEnd = point <= 0 && (!isLow || low.allSatisfy { $0 == zero })
    if !isLow, !isHigh {
      // Any digits.
      guard point > 0 else {
        let decimals = ByteExpression.repeated(.digit, minimum: point == 0 ? 1 : 0, maximum: low.count)
        return point == 0 ? .optional(.sequence([.byte("."), decimals])) : decimals
      }
      return .sequence([
        .repeated(.digit, minimum: point, maximum: point),
        strings(low.dropFirst(point), high.dropFirst(point), false, false, 0),
      ])
    }
    let first = isLow ? lowest : zero
    let last = isHigh ? highest : nine
    func rest(_ isLow: Bool, _ isHigh: Bool) -> ByteExpression {
      strings(low.dropFirst(), high.dropFirst(), isLow, isHigh, point - 1)
    }
    func digit(_ range: ClosedRange<UInt8>, _ isLow: Bool, _ isHigh: Bool) -> ByteExpression {
      .sequence([.byte(in: range), rest(isLow, isHigh)])
    }
    var alternatives: [ByteExpression] = []
    if isLow, isHigh, first == last {
      alternatives.append(digit(first...first, true, true))
    } else {
      if isLow { alternatives.append(digit(first...first, true, false)) }
      if isHigh { alternatives.append(digit(last...last, false, true)) }
      let (low, high) = (isLow ? first + 1 : first, isHigh ? last - 1 : last)
      if low <= high { alternatives.append(digit(low...high, false, false)) }
    }
    let digits = ByteExpression.choice(alternatives)
    let decimals = point == 0 ? ByteExpression.sequence([.byte("."), digits]) : digits
    return canEnd ? .optional(decimals) : decimals
  }
}
