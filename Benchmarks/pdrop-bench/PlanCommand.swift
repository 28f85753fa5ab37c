import ArgumentParser
import CommandLineSupport
import Foundation
import Kernels
import LLaVA
import ModelFormats
import PDrop
import Reports
import TokenDropping

/// `pdrop-bench plan`: the cost of schedules by closed formulas for the shape of a model, without running it.
struct PlanCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Prints the cost of schedules, given or solved for a target, without running the model.")

  @OptionGroup(title: "Model") var modelOptions: ModelSourceOptions

  @Option(help: "Policies to compare.")
  var policy = NameList<PolicyName>([.none, .fastv, .pyramiddrop])

  @OptionGroup(title: "Dropping") var policyOptions: PolicyOptions

  @Option(name: [.customShort("p"), .customLong("n-prompt")], help: "Text tokens of the prompt, besides one image.")
  var textTokens = 49

  @Option(
    name: .customLong("visual-tokens"),
    help: "Visual tokens of the image. (default: those of one view, or of 640 x 480 pixels for models with tiles)")
  var visualTokens: Int?

  @Option(name: [.short, .long], help: "Threads for the measurement of a target in seconds. (default: all cores)")
  var threads: Int?

  @Option(name: [.short, .long], help: "Output format.")
  var output = TableFormat.md

  func validate() throws {
    try checkRange("--n-prompt", textTokens, 1...1 << 20)
    try checkRange("--visual-tokens", visualTokens, 1...1 << 20)
  }

  func run() throws {
    // bf16 is what most models have by default.
    let cacheType = modelOptions.cachePrecision.type ?? .bf16
    var rows: [TableRow] = []
    for source in try modelOptions.sources() {
      let (name, configuration) = try modelOptions.shape(source)
      func promptCost(_ policy: any TokenDroppingPolicy) -> PrefillCost {
        let image = configuration.imageForMeasuring(policy.preselection?.packing ?? .unpadded)
        var prompt = PrefillCost(
          configuration.text, textTokens: textTokens, visualTokenCounts: [visualTokens ?? image.tokens],
          viewCount: image.views, cacheType: cacheType)
        prompt.selectionMultiplyAdds = { [layout = image.layout] in
          // The question is short beside the image.
          configuration.selectionMultiplyAdds(
            $0, [layout], question: SelectionQuestion(ofLength: 16, for: $0.method, configuration))
        }
        return prompt
      }
      let timing = try timing(source)
      let recipes = policyOptions.recipe?.recipes ?? []
      for recipe in recipes {
        // Of all recipes, some have no selection or no packing of their paper; the table says which packing it is.
        let repacked =
          recipes.count == 1
          ? try policyOptions.preselect.repacked(recipe)
          : (try? policyOptions.preselect.repacked(recipe)) ?? recipe.policy
        let prompt = promptCost(repacked)
        let planned = try SchedulePlanner(prompt).resolved(repacked)
        rows.append(try PlanRow(name, prompt, planned, nil, recipe).tableRow)
      }
      for policyName in policyOptions.recipe == nil ? policy.names : [] {
        var policy = try policyOptions.forPolicy(policyName).policy(policyName, seed: 0)
        policy = policy.timed(by: timing)
        let prompt = promptCost(policy)
        let planned = try SchedulePlanner(prompt).resolved(policy)
        rows.append(try PlanRow(name, prompt, planned, timing).tableRow)
      }
    }
    try Output().write(output.rendered(rows, name: "pdrop_bench_plan"))
  }

  /// The measured timing of this machine, for a target in seconds; else `nil`.
  private func timing(_ source: ModelSource) throws -> PrefillTiming? {
    guard policyOptions.target.firstToken != nil else { return nil }
    let threads = ThreadCount(requested: threads).count
    guard let precision = modelOptions.precision.names.first else { return nil }
    return try modelOptions.load(source, precision, threads: threads).prefillTiming(threads: threads)
  }
}

/// The cost of one schedule.
private struct PlanRow {
  let tableRow: TableRow

  /// - Parameter recipe: The recipe of the schedule, which is named in place of the policy.
  init(
    _ model: String, _ prompt: PrefillCost, _ policy: any TokenDroppingPolicy, _ timing: PrefillTiming?,
    _ recipe: Recipe? = nil
  ) throws {
    let plan = try prompt.plan(policy)
    let stages = prompt.tokensPerStage(plan)
    let layers = plan.drops.map(\.afterLayer)
    func list(_ numbers: [Int], _ separator: String) -> String { numbers.map(String.init).joined(separator: separator) }
    let fraction = prompt.flopsRatio(plan)
    tableRow = TableRow(
      [
        Field("model", .text(model), heading: "model")
      ]
        + (recipe.map {
          [
            Field("recipe", .text($0.name), heading: "recipe"),
            Field("published", .text($0.published), heading: "published as"),
            Field("packing", .text(policy.preselection?.packing.rawValue ?? ""), heading: "packing"),
          ]
        } ?? []) + [
          Field("policy", .text(policy.name), heading: "policy"),
          Field("strength", .text(Self.strength(policy)), heading: "strength"),
          Field("layers", .integers(layers), heading: "layers", text: list(layers, ",")),
          Field("visual_tokens", .integers(stages), heading: "visual tokens", text: list(stages, "/")),
          Field("tokens_mean_of_layers", prompt.averageTokens(plan), heading: "average tokens (layers)", decimals: 1),
          Field(
            "tokens_mean_of_stages", prompt.stageAverageTokens(plan), heading: "average tokens (stages)", decimals: 1),
          Field("tokens_at_the_end", .integer(stages.last ?? 0), heading: "last stage"),
          Field("gflop", Double(prompt.flops(plan)) / 1e9, heading: "prefill GFLOPs", decimals: 1),
          Field(
            "flops_share", .number(fraction), heading: "prefill FLOPs (% of baseline)",
            text: (100 * fraction).formatted(2) + "%"),
          Field("gflop_paper", prompt.paperFlops(plan) / 1e9, heading: "GFLOPs (paper)", decimals: 1),
          Field("kv_mib", Double(prompt.cacheBytes(plan)) / 0x1p20, heading: "KV cache MiB", decimals: 1),
          Field(
            "first_token_seconds", timing.map { prompt.firstTokenSeconds(plan, $0) }, heading: "TTFT s (estimated)",
            decimals: 3),
        ])
  }

  /// The parameter of the schedule that sets the number of kept tokens, such as `lambda 0.53`.
  private static func strength(_ policy: any TokenDroppingPolicy) -> String {
    if let policy = policy as? Preselected {
      let strength = strength(policy.policy)
      return policy.selection.label + (strength.isEmpty ? "" : ", " + strength)
    }
    if let policy = policy as? FastV { return "r \(policy.r)" }
    guard let staged = policy as? any StagedPolicy else { return "" }
    switch staged.schedule {
    case .geometric(let lambda, _): return "lambda \(lambda)"
    case .listed(_, let ratios), .scaled(_, _, let ratios):
      return "ratios " + ratios.map { "\($0)" }.joined(separator: ",")
    }
  }
}
