import Storage

/// A decimal number: `mantissa` times a power of ten.
struct Decimal: Equatable {
  var mantissa: Int128
  var exponent: Int

  /// The value of a JSON number: of a `Double`, its shortest decimal text.
  init?(_ value: JSONValue) {
    switch value {
    case .integer(let value): (mantissa, exponent) = (Int128(value), 0)
    case .number(let value) where value.isFinite:
      let parts = value.description.split(separator: "e")
      let digits = parts[0].split(separator: ".")
      let decimals = digits.count > 1 ? digits[1] : ""
      guard let mantissa = Int128(digits[0] + decimals), let exponent = parts.count > 1 ? Int(parts[1]) : 0 else {
        return nil
      }
      (self.mantissa, self.exponent) = (mantissa, exponent - decimals.utf8.count)
    default: return nil
    }
  }

  /// The number in units of the last of `fractionDigits` decimal places, rounded down and up; nil if it has more than 36
  /// digits.
  func scaled(fractionDigits: Int) -> (floor: Int128, ceiling: Int128)? {
    let shift = exponent + fractionDigits
    if shift >= 0 {
      guard shift <= 18 else { return mantissa == 0 ? (0, 0) : nil }
      let value = mantissa * NumberExpression.power(of: shift)
      return (value, value)
    }
    // A mantissa has at most 19 digits.
    let divisor = NumberExpression.power(of: min(-shift, 30))
    let (quotient, remainder) = mantissa.quotientAndRemainder(dividingBy: divisor)
    return (quotient - (remainder < 0 ? 1 : 0), quotient + (remainder > 0 ? 1 : 0))
  }
}

/// The numbers within bounds that answers can have.
struct NumberBounds {
  struct Bound {
    var value: Decimal
    var isLower: Bool
    var isExclusive: Bool
  }

  /// The lowest and highest number, in units of the last of `fractionDigits` decimal places.
  struct Range: Equatable {
    var low: Int128
    var high: Int128
    var fractionDigits: Int
  }

  /// The numbers within `bounds`, which may be none; nil if a bound is too large to be exact.
  ///
  /// Numbers near a bound have at most 15 digits, so that different texts are different as a `Double`, and comparing
  /// decimals is exact for every reader.
  static func range(_ bounds: [Bound], isInteger: Bool) -> Range? {
    var fractionDigits = 0
    if !isInteger {
      var digits = 1
      for bound in bounds {
        guard let whole = bound.value.scaled(fractionDigits: 0) else { return nil }
        let magnitude = max(whole.floor.magnitude, whole.ceiling.magnitude)
        digits = max(digits, String(magnitude).utf8.count)
      }
      guard digits <= NumberExpression.integerDigits else { return nil }
      fractionDigits = NumberExpression.integerDigits - digits
    }
    let limit = NumberExpression.power(of: NumberExpression.integerDigits + fractionDigits) - 1
    var (low, high): (Int128?, Int128?)
    for bound in bounds {
      guard let (floor, ceiling) = bound.value.scaled(fractionDigits: fractionDigits) else { return nil }
      if bound.isLower {
        low = max(low ?? .min, bound.isExclusive ? floor + 1 : ceiling)
      } else {
        high = min(high ?? .max, bound.isExclusive ? ceiling - 1 : floor)
      }
    }
    if isInteger {
      let range = Int128(Int64.min)...Int128(Int64.max)
      for bound in [low, high] { if let bound, !range.contains(bound) { return nil } }
      return Range(
        low: low ?? min(-limit, max(range.lowerBound, (high ?? 0) - limit)),
        high: high ?? max(limit, min(range.upperBound, (low ?? 0) + limit)), fractionDigits: 0)
    }
    return Range(low: low ?? -limit, high: high ?? limit, fractionDigits: fractionDigits)
  }
}
