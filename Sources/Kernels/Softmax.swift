/// Replaces values by e to their power, divided by the sum of all such powers.
///
/// - Parameter x: Any finite numbers, at least one.
///
/// Error: within 1e-6 of the true value, relative, for values at most 8 below the largest; further down, rounding the
/// distance from the largest adds half a unit in its last place (2e-6 at 40 below).
/// Source: the usual form that subtracts the largest value first.
package func softmax(_ x: inout MutableSpan<Float>) {
  let largest = maximum(x.span)
  for i in x.indices { x[i] = exponential(x[i] - largest) }
  let scale = 1 / sum(x.span)
  for i in x.indices { x[i] = x[i] * scale }
}
