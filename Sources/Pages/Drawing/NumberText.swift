internal import Foundation

extension Double {
  /// With so many decimals, `0` without a sign.
  func formatted(decimals: Int) -> String {
    let text = String(format: "%.\(decimals)f", self)
    return text.hasPrefix("-") && text.allSatisfy({ "-0.".contains($0) }) ? String(text.dropFirst()) : text
  }

  /// With so many digits that mean something.
  func significant(_ digits: Int) -> String { String(format: "%.\(digits)g", self) }

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
