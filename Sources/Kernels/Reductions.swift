/// How many sums run side by side in a fold, so that it vectorises and gives the same bits on every CPU.
typealias Lanes = InlineArray<32, Float>

/// The sum of all values.
package func sum(_ x: Span<Float>) -> Float { fold(x, start: 0, +, combine: +) }

/// The sum of the squares of all values.
package func sumOfSquares(_ x: Span<Float>) -> Float { fold(x, start: 0, { $0 + $1 * $1 }, combine: +) }

/// The largest value; minus infinity of none.
package func maximum(_ x: Span<Float>) -> Float { fold(x, start: -.infinity, larger, combine: larger) }

@inline(__always)
private func larger(_ a: Float, _ b: Float) -> Float { b > a ? b : a }

/// Folds blocks of 32 values into lanes, the lanes into one value, then the rest one by one.
@inline(__always)
private func fold(
  _ x: Span<Float>, start: Float, _ step: (Float, Float) -> Float, combine: (Float, Float) -> Float
) -> Float {
  var lanes = Lanes(repeating: start)
  let blocks = x.count / 32
  for b in 0..<blocks {
    let block = x.row(b, columns: 32)
    for l in 0..<32 { lanes[l] = step(lanes[l], block[l]) }
  }
  var width = 16
  while width > 0 {
    for l in 0..<width { lanes[l] = combine(lanes[l], lanes[l + width]) }
    width /= 2
  }
  var result = lanes[0]
  for i in blocks * 32..<x.count { result = step(result, x[i]) }
  return result
}
