/// A share and its 95% interval.
///
/// Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.
package func proportion(_ hits: Int, of count: Int) -> (share: Double, low: Double, high: Double) {
  let (n, share, z) = (Double(count), Double(hits) / Double(count), normalQuantile)
  let middle = (share + z * z / (2 * n)) / (1 + z * z / n)
  let half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)).squareRoot()
  return (share, max(0, middle - half), min(1, middle + half))
}

/// How many standard deviations on either side of the mean hold 95% of a normal distribution.
let normalQuantile = 1.959964
