import PDrop

/// What `pdrop-run check --format json` prints about a case; names of stages are those of the reference's files.
struct CheckRecord: Encodable {
  struct Stage: Encodable {
    var stage: CheckStage.Kind
    var run: String?
    var image: String?
    /// The first and the last layer that were compared.
    var layers: [Int]?
    /// The layer in front of which the drop happens.
    var layer: Int?
    /// `equal`, `absolute`, `relative` or `mean`.
    var measure: String
    var tolerance: Double
    /// `null` where sizes differ or something is not a number.
    var difference: Double?
    var agrees: Bool
    /// Indices by axis.
    var at: [String: Int]?
    var expected: String?
    var found: String?

    init(_ result: StageResult) {
      let stage = result.stage
      (self.stage, run, image, layer) = (stage.kind, stage.run, stage.picture, stage.layer)
      layers = stage.layers.map { [$0.lowerBound, $0.upperBound] }
      measure =
        switch result.allowance {
        case .none: "equal"
        case .absolute: "absolute"
        case .relative: "relative"
        case .mean: "mean"
        }
      tolerance = result.allowance.limit
      difference = result.difference.isFinite ? result.difference : nil
      agrees = result.agrees
      at = result.place.map { place in
        Dictionary(place.coordinates.map { ($0.axis, $0.index) }) { first, _ in first }
      }
      (expected, found) = (result.place?.expected, result.place?.found)
    }
  }

  var model: String
  var `case`: String
  var agrees: Bool
  var stages: [Stage]
  var first_departure: Stage?
  var likely_cause: String?
  /// Why the case was not run to its end.
  var end: String?

  init(_ report: CaseReport) {
    (model, self.case, agrees, end) = (report.model, report.name, report.agrees, report.end)
    stages = report.stages.map(Stage.init)
    (first_departure, likely_cause) = (report.departure.map(Stage.init), report.likelyCause)
  }
}
