import Storage

/// A set of code points without surrogates, as disjoint ranges in order.
struct CodePointSet: Sendable, Hashable {
  private(set) var ranges: [ClosedRange<UInt32>]

  init(_ ranges: [ClosedRange<UInt32>]) {
    var result: [ClosedRange<UInt32>] = []
    for range in ranges.flatMap(Self.withoutSurrogates).sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = result.last, range.lowerBound <= last.upperBound + 1 {
        result[result.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
      } else {
        result.append(range)
      }
    }
    self.ranges = result
  }

  init(_ scalars: Unicode.Scalar...) { self.init(scalars.map { $0.value...$0.value }) }

  static let all = CodePointSet([0...0x10FFFF])
  static let ascii = CodePointSet([0...0x7F])

  var isEmpty: Bool { ranges.isEmpty }

  var complement: CodePointSet {
    var result: [ClosedRange<UInt32>] = []
    var next: UInt32 = 0
    for range in ranges {
      if range.lowerBound > next { result.append(next...range.lowerBound - 1) }
      next = range.upperBound + 1
    }
    if next <= 0x10FFFF { result.append(next...0x10FFFF) }
    return CodePointSet(result)
  }

  func union(_ other: CodePointSet) -> CodePointSet { CodePointSet(ranges + other.ranges) }

  func intersection(_ other: CodePointSet) -> CodePointSet { complement.union(other.complement).complement }

  func subtracting(_ other: CodePointSet) -> CodePointSet { complement.union(other).complement }

  private static func withoutSurrogates(_ range: ClosedRange<UInt32>) -> [ClosedRange<UInt32>] {
    var result: [ClosedRange<UInt32>] = []
    if range.lowerBound < 0xD800 { result.append(range.lowerBound...min(range.upperBound, 0xD7FF)) }
    if range.upperBound > 0xDFFF { result.append(max(range.lowerBound, 0xE000)...range.upperBound) }
    return result
  }

  // MARK: - As bytes

  /// The code points in UTF-8.
  var utf8: ByteExpression { .choice(ranges.flatMap(Self.sequences)) }

  /// The code points within a JSON string, each written in one way: UTF-8, or the shortest escape where one is needed.
  var json: ByteExpression {
    let escaped = CodePointSet([0...0x1F, 0x22...0x22, 0x5C...0x5C])
    let escapes = intersection(escaped).ranges.joined().compactMap { Unicode.Scalar($0) }
    return .choice(
      subtracting(escaped).ranges.flatMap(Self.sequences) + escapes.map { .literal(JSONValue.escaped($0)) })
  }

  /// The sequences of byte ranges that encode a range of code points.
  ///
  /// Source: Thompson's grep as described by Cox 2010, Regular Expression Matching in the Wild.
  private static func sequences(_ range: ClosedRange<UInt32>) -> [ByteExpression] {
    let (low, high) = (range.lowerBound, range.upperBound)
    for end: UInt32 in [0x7F, 0x7FF, 0xFFFF] where low <= end && end < high {
      return sequences(low...end) + sequences(end + 1...high)
    }
    if high > 0x7F {
      for i: UInt32 in 1..<4 {
        let rest: UInt32 = 1 << (6 * i) - 1
        if low & ~rest == high & ~rest { continue }
        if low & rest != 0 { return sequences(low...(low | rest)) + sequences((low | rest) + 1...high) }
        if high & rest != rest { return sequences(low...(high & ~rest) - 1) + sequences((high & ~rest)...high) }
      }
    }
    return [.sequence(zip(encoded(low), encoded(high)).map { .byte(in: $0...$1) })]
  }

  private static func encoded(_ value: UInt32) -> [UInt8] {
    // Ranges never end at a surrogate.
    Unicode.Scalar(value).map { Array(String(Character($0)).utf8) } ?? []
  }
}
