package import TokenDropping

/// Where a sequence's visual tokens stand, and which position each of its rows has, as tokens are dropped.
package struct SequenceLayout: Sendable, Equatable {
  /// The tokens of one picture that are still there.
  package struct VisualBlock: Sendable, Equatable {
    /// The row of the first one.
    package var start: Int
    /// Which of the picture's own tokens they are, ascending, 0 the picture's first.
    package var tokens: [Int]

    package var rows: Range<Int> { start..<start + tokens.count }
  }

  package private(set) var visualBlocks: [VisualBlock]
  /// The position of each row, counted from the first row.
  package private(set) var positions: [Int]

  /// - Parameters:
  ///   - rowCount: Text and visual tokens together.
  ///   - visualSpans: The rows of each picture, in order.
  package init(rowCount: Int, visualSpans: [Range<Int>] = []) {
    positions = Array(0..<rowCount)
    visualBlocks = visualSpans.map { VisualBlock(start: $0.lowerBound, tokens: Array(0..<$0.count)) }
  }

  package var rowCount: Int { positions.count }

  /// Drops visual tokens.
  ///
  /// - Parameters:
  ///   - kept: For each picture which of its present tokens stay, ascending, 0 its first that is still there.
  ///   - rule: Whether the rows that stay are numbered anew.
  /// - Returns: The rows that stay, ascending.
  package mutating func keep(_ kept: [[Int]], positions rule: PositionRule) -> [Int] {
    precondition(kept.count == visualBlocks.count, "keep: \(kept.count) lists for \(visualBlocks.count) pictures")
    var rows: [Int] = []
    var next = 0
    for index in visualBlocks.indices {
      let block = visualBlocks[index]
      rows.append(contentsOf: next..<block.start)
      visualBlocks[index].start = rows.count
      visualBlocks[index].tokens = kept[index].map { block.tokens[$0] }
      rows.append(contentsOf: kept[index].map { block.start + $0 })
      next = block.rows.upperBound
    }
    rows.append(contentsOf: next..<rowCount)
    switch rule {
    case .compact: positions = Array(0..<rows.count)
    case .original: positions = rows.map { positions[$0] }
    }
    return rows
  }
}
