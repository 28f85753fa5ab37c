public import Testing

/// Expects two lists of numbers to differ by at most `tolerance`.
public func expectClose(
  _ found: [Float], _ expected: [Float], _ tolerance: Double, _ label: String,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  let difference = Difference.absolute(found, expected)
  #expect(difference.largest <= tolerance, "\(label): \(difference)", sourceLocation: sourceLocation)
}
