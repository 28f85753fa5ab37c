package import PDrop

/// A picture's kept map with its captions, to be drawn with a panel for each stage.
package struct KeptMapFigure: Sendable {
  package var title: String
  package var map: KeptMap
  /// Whether each patch has the colour of its score.
  package var showsScores: Bool

  /// - Parameter title: Such as `bike.png, pyramiddrop`.
  package init(_ title: String, _ map: KeptMap, showsScores: Bool = false) {
    (self.title, self.map, self.showsScores) = (title, map, showsScores)
  }

  /// What a panel shows: `after layer 8: 288 of 576 tokens (50%)`; `nil` for all tokens.
  package func caption(_ stage: KeptMap.Stage?) -> String {
    let newlines = map.newlines
    guard let stage else {
      let part = newlines.isEmpty ? "" : ", \(newlines.count) of them newlines"
      return "all \(map.tokenCount) tokens\(part)"
    }
    let share = (100 * Double(stage.keptCount) / Double(max(1, map.tokenCount))).readable(3)
    let kept = newlines.count { stage.tokens[$0].isKept }
    let part = newlines.isEmpty ? "" : ", \(kept) of \(newlines.count) newlines"
    return "after layer \(stage.layer): \(stage.keptCount) of \(map.tokenCount) tokens (\(share)%)\(part)"
  }

  /// What the colours of a stage mean.
  package func scaleNote(_ stage: KeptMap.Stage) -> String? {
    guard showsScores, let scale = HeatScale(stage) else { return nil }
    let (lowest, highest) = (Double(scale.lowest).significant(2), Double(scale.highest).significant(2))
    let (less, kind) = (scale.isCut ? " or less" : "", scale.isLogarithmic ? " (log scale)" : "")
    return "scores: dark \(lowest)\(less), bright \(highest)\(kind)"
  }

  /// Everything in a few lines of text, for a PNG file's description.
  package var summary: String {
    ([title, caption(nil)] + map.stages.map { caption($0) }).joined(separator: "\n")
  }
}

extension KeptMapFigure: Encodable {
  private struct Region: Encodable {
    var name: String
    var rows: Int
    var columns: Int
  }

  private struct Stage: Encodable {
    var layer: Int
    var kept: [Int]
    /// For each region, how many tokens of its rows and of its columns stay.
    var kept_per_row: [[Int]]
    var kept_per_column: [[Int]]
  }

  private enum CodingKeys: String, CodingKey { case title, tokens, regions, stages }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(title, forKey: .title)
    try container.encode(map.tokenCount, forKey: .tokens)
    try container.encode(
      map.regions.map { Region(name: $0.name, rows: $0.rows, columns: $0.columns) }, forKey: .regions)
    try container.encode(
      map.stages.map { stage in
        let counts = map.regions.indices.map { map.keptCounts(stage, inRegion: $0) }
        return Stage(
          layer: stage.layer, kept: stage.tokens.indices.filter { stage.tokens[$0].isKept },
          kept_per_row: counts.map(\.rows), kept_per_column: counts.map(\.columns))
      }, forKey: .stages)
  }
}
