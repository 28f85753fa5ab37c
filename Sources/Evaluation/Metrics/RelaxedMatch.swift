internal import Foundation

/// ChartQA's relaxed match: a number within 5% of the right one, or the same text but for case.
///
/// Source: Masry et al. 2022, ChartQA, section 5.1, after Methani et al. 2020.
package func isRelaxedMatch(_ answer: String, _ reference: String) -> Bool {
  let (answer, reference) = (plain(answer), plain(reference))
  // Nothing is within 5% of zero.
  if let found = number(answer), let right = number(reference), right != 0 {
    return abs(found - right) / abs(right) <= 0.05
  }
  return answer == reference
}

/// The number that a text says; with a percent sign at its end, a hundredth of it.
private func number(_ text: String) -> Double? {
  var digits = text[...]
  while digits.last == "%" { digits.removeLast() }
  guard digits.allSatisfy({ $0.isNumber || "+-.e".contains($0) }), let number = Double(digits) else { return nil }
  return digits.endIndex < text.endIndex ? number / 100 : number
}
