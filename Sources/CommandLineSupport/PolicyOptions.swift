public import ArgumentParser
import Foundation
public import TokenDropping

extension PositionRule: ExpressibleByArgument {}

/// A recipe by its name, or all of them.
public struct RecipeName: ExpressibleByArgument, Sendable {
  public let recipes: [Recipe]

  public init?(argument: String) {
    recipes = Recipe.all.filter { $0.name == argument || argument == "all" }
    if recipes.isEmpty { return nil }
  }

  public static var allValueStrings: [String] { Recipe.all.map(\.name) }

  /// The recipe.
  ///
  /// - Throws: `ValidationError` for all of them.
  func recipe() throws -> Recipe {
    guard recipes.count == 1 else {
      throw ValidationError("--recipe all is for pdrop-bench plan; expected one recipe")
    }
    return recipes[0]
  }
}

/// Token-dropping policies by their command-line names.
public enum PolicyName: String, CaseIterable, ExpressibleByArgument, Sendable {
  case none, pyramiddrop, fastv, random, uniform
}

/// A ranking by its command-line name.
public struct RankingName: ExpressibleByArgument, Sendable {
  private let name: String

  public init?(argument: String) {
    guard Self.allValueStrings.contains(argument) else { return nil }
    name = argument
  }

  public static var allValueStrings: [String] { Ranking.all(seed: 0).map(\.name) }

  /// The ranking; the seed is used by a randomized one.
  func ranking(seed: UInt64) -> Ranking { Ranking.all(seed: seed).first { $0.name == name } ?? .attention }
}

/// A choice rule by its command-line name.
public enum ChoiceName: String, CaseIterable, ExpressibleByArgument, Sendable {
  case top, coverage

  var rule: ChoiceRule { self == .top ? .top : .coverage() }
}

/// The schedule, ranking and cost target of a policy; the policy itself is a separate option.
public struct PolicyOptions: ParsableArguments {
  @Option(
    name: [.customLong("layer-list"), .customLong("layer_list")],
    help: "Layers after which visual tokens are dropped, such as 8,16,24.")
  public var layerList: NumberList<Int>?

  @Option(
    name: [.customLong("image-token-ratio-list"), .customLong("image_token_ratio_list")],
    help: "Keep ratios of these drops, relative to the original visual tokens, such as 0.5,0.25,0.125.")
  public var ratioList: NumberList<Double>?

  @Option(help: "Keep ratio from one stage to the next, for stages of equal length. (default: 0.5)")
  public var lambda: Double?

  @Option(help: "Number of stages of equal length. (default: 4)")
  public var stages: Int?

  @Option(
    name: [.customLong("fastv-k"), .customLong("fastv_k")],
    help: "FastV: number of layers before the drop. (default: 2)")
  public var fastVK: Int?

  @Option(
    name: [.customLong("fastv-r"), .customLong("fastv_r")],
    help: "FastV: fraction of visual tokens to drop. (default: 0.5)")
  public var fastVR: Double?

  @Option(
    help: """
      Ranking of visual tokens: attention, attention-norope, attention-debiased, value-weighted, key-norm, \
      text-raters, random or uniform. (default: attention, as in the papers)
      """)
  public var rank: RankingName?

  @Option(
    name: .customLong("select"),
    help: "Choice of tokens at a drop: top (largest scores) or coverage (greedy, as in TOPS). (default: top)")
  public var choice: ChoiceName?

  @Flag(
    name: .customLong("mask-padding"), help: "Drop patches that are entirely padding before all others.")
  public var dropsPaddingFirst = false

  @Option(help: "Position ids after a drop: compact (renumbered) or original. (default: depends on the policy)")
  public var positions: PositionRule?

  @Option(
    help: """
      A published schedule, instead of --policy and its options, such as scope-64; pdrop-bench plan --recipe all lists \
      them.
      """)
  public var recipe: RecipeName?

  @OptionGroup public var target: TargetOptions

  @OptionGroup public var preselect: PreselectOptions

  public init() {}

  public func validate() throws {
    guard recipe == nil || isEmptyWithoutRecipe else {
      throw ValidationError("--recipe is a whole schedule; leave out the other options of policies")
    }
    guard !target.isGiven || preselect.leavesSizeToTarget || (lambda == nil && ratioList == nil && fastVR == nil) else {
      throw ValidationError(
        "a target determines the keep ratios; leave out --lambda, --image-token-ratio-list and --fastv-r")
    }
    let solvesRatios = target.isGiven && !preselect.leavesSizeToTarget
    guard (layerList == nil) == (ratioList == nil) || solvesRatios else {
      throw ValidationError("--layer-list and --image-token-ratio-list belong together; give both")
    }
    guard layerList == nil || (lambda == nil && stages == nil) else {
      throw ValidationError("--layer-list replaces --lambda and --stages; give one or the other")
    }
  }

  /// The policy of this name with these options.
  ///
  /// - Parameter seed: The seed of random drops and rankings.
  /// - Throws: `ValidationError` if an option belongs to another policy.
  public func policy(_ name: PolicyName, seed: UInt64) throws -> any TokenDroppingPolicy {
    if let recipe { return try preselect.repacked(recipe.recipe()) }
    return try preselect.preselected(target.target) { try dropping(name, for: $0, seed: seed) }
  }

  /// The policies of these names with the options that apply to each. A recipe takes the place of all but `none`.
  ///
  /// - Throws: `ValidationError` if an option belongs to none of them.
  public func policies(
    _ names: [PolicyName], seed: UInt64
  ) throws -> [(name: PolicyName, policy: any TokenDroppingPolicy)] {
    guard recipe == nil else {
      let recipe = (name: PolicyName.pyramiddrop, policy: try policy(.pyramiddrop, seed: seed))
      return (names.contains(.none) ? [(.none, NoDropping())] : []) + [recipe]
    }
    return try names.map { ($0, try forPolicy($0).policy($0, seed: seed)) }
  }

  /// The policy without the selection before the language model.
  private func dropping(
    _ name: PolicyName, for target: CostTarget?, seed: UInt64
  ) throws -> any TokenDroppingPolicy {
    let isStaged = [.pyramiddrop, .random, .uniform].contains(name)
    if !isStaged, layerList != nil || lambda != nil || stages != nil {
      throw ValidationError(
        "--policy \(name.rawValue) has no stages; leave out --layer-list, --lambda and --stages")
    }
    if name != .fastv, fastVK != nil || fastVR != nil {
      throw ValidationError("--fastv-k and --fastv-r require --policy fastv, found \(name.rawValue)")
    }
    if rank != nil, name != .pyramiddrop, name != .fastv {
      throw ValidationError("--rank requires --policy pyramiddrop or fastv, found \(name.rawValue)")
    }
    if choice != nil, name != .pyramiddrop, name != .fastv {
      throw ValidationError("--select requires --policy pyramiddrop or fastv, found \(name.rawValue)")
    }
    guard !dropsPaddingFirst || name != .none else {
      throw ValidationError("--policy none drops nothing; leave out --mask-padding")
    }
    guard let target else { return untargeted(name, seed: seed) ?? NoDropping() }
    guard let policy = untargeted(name, seed: seed) else {
      throw ValidationError("--policy none drops nothing; leave out the target")
    }
    return TargetedDrop(policy, target)
  }

  /// The policy without its cost target; `nil` for `none`.
  private func untargeted(_ name: PolicyName, seed: UInt64) -> (any AdjustablePolicy)? {
    let ranking = rank?.ranking(seed: seed) ?? .attention
    switch name {
    case .none: return nil
    case .pyramiddrop:
      return PyramidDrop(
        schedule, ranking: ranking, choice: choice?.rule ?? .top, positions: positions ?? .compact,
        dropsPaddingFirst: dropsPaddingFirst)
    case .random:
      return RandomDrop(schedule, seed: seed, positions: positions ?? .compact, dropsPaddingFirst: dropsPaddingFirst)
    case .uniform: return UniformDrop(schedule, positions: positions ?? .compact, dropsPaddingFirst: dropsPaddingFirst)
    case .fastv:
      return FastV(
        k: fastVK ?? 2, r: fastVR ?? 0.5, ranking: ranking, choice: choice?.rule ?? .top,
        positions: positions ?? .original,
        dropsPaddingFirst: dropsPaddingFirst)
    }
  }

  /// Whether no option but the recipe is given.
  private var isEmptyWithoutRecipe: Bool {
    layerList == nil && ratioList == nil && lambda == nil && stages == nil && fastVK == nil && fastVR == nil
      && rank == nil && choice == nil && !dropsPaddingFirst && positions == nil && !target.isGiven
      && preselect.method == nil
  }

  /// The options that apply to a policy, for a command that runs several policies.
  public func forPolicy(_ name: PolicyName) -> PolicyOptions {
    var options = self
    if [.none, .fastv].contains(name) {
      (options.layerList, options.ratioList, options.lambda, options.stages) = (nil, nil, nil, nil)
    }
    if name != .fastv { (options.fastVK, options.fastVR) = (nil, nil) }
    if ![.pyramiddrop, .fastv].contains(name) { (options.rank, options.choice) = (nil, nil) }
    if name == .none {
      options.dropsPaddingFirst = false
      options.target.clear()
    }
    return options
  }

  private var schedule: StageSchedule {
    if let layerList {
      // Without ratios, the cost target determines them.
      let ratios = ratioList?.numbers ?? layerList.numbers.map { _ in 1 }
      return .listed(layers: layerList.numbers, ratios: ratios)
    }
    return .geometric(lambda: lambda ?? 0.5, stages: stages ?? 4)
  }
}

/// The cost target of a prefill; the schedule is solved for it.
public struct TargetOptions: ParsableArguments {
  @Option(
    name: .customLong("target-tokens"), help: "Target: at most this many visual tokens per layer, on average.")
  public var tokens: Double?

  @Option(
    name: .customLong("target-flops"),
    help: "Target: prefill FLOPs relative to those without dropping, such as 45%.")
  public var flops: Fraction?

  @Option(name: .customLong("target-kv"), help: "Target: KV cache size of the prompt, such as 200MiB.")
  public var cache: ByteCount?

  @Option(
    name: .customLong("target-ttft"),
    help: "Target: time to first token, such as 3s; needs a short measurement at start.")
  public var firstToken: Seconds?

  public init() {}

  public func validate() throws {
    guard targets.count <= 1 else {
      throw ValidationError(
        "--target-tokens, --target-flops, --target-kv and --target-ttft exclude each other; give one")
    }
    guard tokens.map({ $0 >= 0 && $0.isFinite }) ?? true else {
      throw ValidationError("--target-tokens must be 0 or more, found \(tokens ?? 0)")
    }
  }

  public var isGiven: Bool { !targets.isEmpty }

  /// Removes the target, for a policy that drops nothing.
  mutating func clear() { (tokens, flops, cache, firstToken) = (nil, nil, nil, nil) }

  /// The cost target; `nil` for none.
  var target: CostTarget? { targets.first }

  private var targets: [CostTarget] {
    [
      tokens.map { .averageTokens($0) }, flops.map { .flops(ratio: $0.value) }, cache.map { .cacheBytes($0.bytes) },
      firstToken.map { .firstToken(seconds: $0.seconds) },
    ].compactMap(\.self)
  }
}

/// A fraction from 0 to 1 on the command line: `45%`, `0.45`.
public struct Fraction: ExpressibleByArgument, Sendable {
  public let value: Double

  public init?(argument: String) {
    let isPercent = argument.hasSuffix("%")
    guard let number = Double(isPercent ? String(argument.dropLast()) : argument) else { return nil }
    // Rounded to 15 decimals, as the quotient 99.99 / 100 is not the number 0.9999.
    value = isPercent ? (number * 1e13).rounded() / 1e15 : number
    guard (0...1).contains(value) else { return nil }
  }
}

/// A time on the command line, in seconds without a unit: `3s`, `250ms`, `1.5`.
public struct Seconds: ExpressibleByArgument, Sendable {
  public let seconds: Double

  public init?(argument: String) {
    let units = [("ms", 1e-3), ("s", 1.0)]
    let unit = units.first { argument.hasSuffix($0.0) }
    guard let number = Double(argument.dropLast(unit?.0.count ?? 0)), number > 0, number.isFinite else { return nil }
    seconds = number * (unit?.1 ?? 1)
  }
}

/// A policy with its options as one argument, such as `pyramiddrop --lambda 0.4`.
public struct NamedSchedule: Sendable {
  /// The policy name and its options, separated by single spaces.
  public let name: String
  public let policy: any TokenDroppingPolicy

  /// A policy without options.
  public init(_ name: PolicyName, _ policy: any TokenDroppingPolicy) {
    (self.name, self.policy) = (name.rawValue, policy)
  }

  /// A policy parsed from the words that could follow `--policy`.
  ///
  /// - Throws: `ValidationError` for an unknown policy or wrong options.
  public init(_ text: String) throws {
    let words = text.split(whereSeparator: \.isWhitespace).map(String.init)
    guard let name = words.first.flatMap(PolicyName.init(rawValue:)) else {
      let names = PolicyName.allCases.map(\.rawValue).joined(separator: ", ")
      throw ValidationError("a schedule begins with one of \(names); found '\(text)'")
    }
    do {
      policy = try PolicyOptions.parse(Array(words.dropFirst())).policy(name, seed: 0)
    } catch {
      throw ValidationError("the schedule '\(text)': \(PolicyOptions.message(for: error))")
    }
    self.name = words.joined(separator: " ")
  }

  /// The options without dashes and policy name, such as `lambda 0.4` or `r 0.75`; empty for no options.
  public var parameters: String {
    let words = name.split(separator: " ")
    guard let policy = words.first else { return "" }
    return words.dropFirst().map { word in
      let option = word.drop { $0 == "-" }
      return option.hasPrefix(policy + "-") ? option.dropFirst(policy.count + 1) : option
    }.joined(separator: " ")
  }
}
