import CommandLineSupport
import Kernels
import LLaVA
import ModelFormats
import PDrop
import TokenDropping

/// A method of the comparison at equal cost: a policy whose strength a target determines.
struct CostMethod: Hashable {
  let title: String
  /// The policy and its options on the command line, without the target.
  let words: String

  /// All methods: drops inside the decoder, selections before it, and both.
  static let all = drops + selections + combined

  static let drops = [
    CostMethod(title: "FastV", words: "fastv"),
    CostMethod(title: "PyramidDrop", words: "pyramiddrop"),
    CostMethod(title: "PyramidDrop, early", words: "pyramiddrop --layer-list 2,10,20"),
    CostMethod(
      title: "PyramidDrop, early, coverage",
      words: "pyramiddrop --layer-list 2,10,20 --rank text-raters --select coverage"),
  ]

  static let selections = [
    CostMethod(title: "class attention", words: "none --preselect class-attention"),
    CostMethod(title: "SCOPE", words: "none --preselect scope"),
    CostMethod(title: "DivPrune", words: "none --preselect divprune"),
    CostMethod(title: "VScan's halves", words: "none --preselect local-global"),
    CostMethod(title: "MMTok", words: "none --preselect mmtok"),
    CostMethod(title: "CDPruner", words: "none --preselect cdpruner"),
    CostMethod(title: "TOPS before the decoder", words: "none --preselect tops"),
  ]

  static let combined = [
    CostMethod(title: "SCOPE + PyramidDrop", words: "pyramiddrop --preselect scope"),
    CostMethod(title: "DivPrune + PyramidDrop", words: "pyramiddrop --preselect divprune"),
    CostMethod(title: "VScan's halves + PyramidDrop", words: "pyramiddrop --preselect local-global"),
    CostMethod(
      title: "TOPS", words: "pyramiddrop --preselect tops --rank text-raters --select coverage"),
  ]

  /// The prefill FLOPs of the comparison, relative to no dropping.
  static let shares = [0.67, 0.5, 0.33, 0.25, 0.15, 0.1]

  /// The schedule for a share of the prefill FLOPs; `nil` if the method cannot cost as little.
  ///
  /// - Parameter textTokens: Text tokens of the longest prompt, besides one image.
  func schedule(_ share: Double, for model: VisionLanguageModel, textTokens: Int) throws -> PaperSchedule? {
    let schedule = PaperSchedule.method(self, share: share)
    let configuration = model.llava.configuration
    let image = configuration.imageForMeasuring()
    var prompt = PrefillCost(
      configuration.text, textTokens: textTokens, visualTokenCounts: [image.tokens], viewCount: image.views,
      cacheType: model.precision.cacheType)
    prompt.selectionMultiplyAdds = { [layout = image.layout] in
      configuration.selectionMultiplyAdds(
        $0, [layout], question: SelectionQuestion(ofLength: textTokens, for: $0.method, configuration))
    }
    do { _ = try SchedulePlanner(prompt).resolved(NamedSchedule(schedule.words).policy) } catch is TargetError {
      return nil
    }
    return schedule
  }
}
