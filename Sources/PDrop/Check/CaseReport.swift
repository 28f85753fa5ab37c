/// What came of a case: every stage's comparison, and the first that departs with its likely cause.
package struct CaseReport: Sendable {
  package let model: String
  package let name: String
  /// In the order of the pipeline.
  package let stages: [StageResult]
  /// Why the run ended before its last stage.
  package let end: String?
  /// The first stage that departs.
  package let departure: StageResult?
  /// What most likely made it depart, in one sentence.
  package let likelyCause: String?

  package var agrees: Bool { departure == nil }

  init(model: VisionLanguageModel, name: String, stages: [StageResult], end: String?) {
    (self.model, self.name, self.stages, self.end) = (model.name, name, stages, end)
    let first = stages.firstIndex { !$0.agrees }
    departure = first.map { stages[$0] }
    likelyCause = first.map { LikelyCause(of: stages[$0], behind: stages[..<$0], model).sentence }
  }
}
