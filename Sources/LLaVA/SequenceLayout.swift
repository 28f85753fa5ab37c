package import TokenDropping

/// Rows of the visual tokens and positions of all rows of a sequence, updated by every drop.
package struct SequenceLayout: Sendable, Equatable {
  /// The remaining tokens of one image.
  package struct VisualBlock: Sendable, Equatable {
    /// Indices of the remaining tokens, ascending, among all tokens of the image.
    package var tokens: [Int]
    /// Row of each remaining token, ascending. Text may be between them, as the markers of tiles are.
    package var rows: [Int]
    /// The row after the image's place in the prompt, whether its last token remains or not.
    package var end: Int

    /// Row of the first remaining token.
    package var start: Int { rows.first ?? end }
  }

  package private(set) var visualBlocks: [VisualBlock]
  /// Position of each row for RoPE, relative to the first row of the sequence, `[T]`.
  package private(set) var positions: [Int]

  /// - Parameters:
  ///   - rowCount: Number of text and visual tokens.
  ///   - visualSpans: The rows of each image, in order.
  package init(rowCount: Int, visualSpans: [Range<Int>] = []) {
    positions = Array(0..<rowCount)
    visualBlocks = visualSpans.map {
      VisualBlock(tokens: Array(0..<$0.count), rows: Array($0), end: $0.upperBound)
    }
  }

  /// The layout of a prompt before any drop; `nil` unless it has one placeholder for each span of each image.
  ///
  /// - Parameters:
  ///   - visualTokenCounts: Number of tokens of each image that enter the decoder.
  ///   - spans: Number of tokens at each placeholder of each image before any is selected; `nil` for one placeholder for
  ///     each image.
  ///   - selected: Indices of the tokens of each image that enter the decoder, ascending; `nil` for the first ones.
  package init?(
    _ tokens: [Int], placeholder: Int, visualTokenCounts: [Int], spans: [[Int]]? = nil, selected: [[Int]]? = nil
  ) {
    let selected = selected ?? visualTokenCounts.map { Array(0..<$0) }
    let spans = spans ?? visualTokenCounts.map { [$0] }
    guard selected.map(\.count) == visualTokenCounts, spans.count == selected.count,
      tokens.count(where: { $0 == placeholder }) == spans.reduce(0, { $0 + $1.count })
    else { return nil }
    var blocks: [VisualBlock] = []
    var (row, rest) = (0, tokens[...])
    func skipText() {
      let text = rest.prefix { $0 != placeholder }.count
      (row, rest) = (row + text, rest.dropFirst(text))
    }
    for (image, spans) in zip(selected, spans) {
      var (rows, next, last) = ([Int](), 0, 0)
      for (index, span) in spans.enumerated() {
        skipText()
        rest = rest.dropFirst()
        last += span
        // Tokens that are selected from an image in one span may have any indices.
        let end = index == spans.count - 1 ? image.count : image[next...].firstIndex { $0 >= last } ?? image.count
        rows += row..<row + end - next
        (row, next) = (row + end - next, end)
      }
      blocks.append(VisualBlock(tokens: image, rows: rows, end: row))
    }
    positions = Array(0..<row + rest.count)
    visualBlocks = blocks
  }

  package var rowCount: Int { positions.count }

  /// The position of the token after the last row.
  package var nextPosition: Int { (positions.last ?? -1) + 1 }

  /// Start and length of each run of an image's tokens, in order; an image without tokens has one of length 0.
  package var visualSpans: [[Int]] {
    visualBlocks.flatMap { block in
      var spans: [[Int]] = block.rows.isEmpty ? [[block.end, 0]] : []
      for row in block.rows {
        if let last = spans.last, row == last[0] + last[1] {
          spans[spans.count - 1][1] += 1
        } else {
          spans.append([row, 1])
        }
      }
      return spans
    }
  }

  /// The rows of text, ascending.
  var textRows: [Int] {
    let visual = Set(visualBlocks.flatMap(\.rows))
    return positions.indices.filter { !visual.contains($0) }
  }

  /// Drops visual tokens.
  ///
  /// - Parameters:
  ///   - kept: Indices of each image's tokens to keep, ascending, among its remaining tokens.
  ///   - rule: Whether the kept rows are renumbered.
  /// - Returns: The kept rows, ascending.
  package mutating func keep(_ kept: [[Int]], positions rule: PositionRule) -> [Int] {
    precondition(kept.count == visualBlocks.count, "keep: \(kept.count) lists for \(visualBlocks.count) images")
    var remains = [Bool](repeating: true, count: rowCount)
    for (block, kept) in zip(visualBlocks, kept) {
      for row in block.rows { remains[row] = false }
      for token in kept { remains[block.rows[token]] = true }
    }
    let rows = remains.indices.filter { remains[$0] }
    // The new row of each old one, or that of the next one that remains.
    var place: [Int] = []
    place.reserveCapacity(rowCount + 1)
    var next = 0
    for remains in remains {
      place.append(next)
      if remains { next += 1 }
    }
    place.append(next)
    for index in visualBlocks.indices {
      let block = visualBlocks[index]
      visualBlocks[index].tokens = kept[index].map { block.tokens[$0] }
      visualBlocks[index].rows = kept[index].map { place[block.rows[$0]] }
      visualBlocks[index].end = place[block.end]
    }
    switch rule {
    case .compact: positions = Array(0..<rows.count)
    case .original: positions = rows.map { positions[$0] }
    }
    return rows
  }
}
