public import ArgumentParser
import Foundation
public import TokenDropping

extension PositionRule: ExpressibleByArgument {}

/// The policies by their names on the command line.
public enum PolicyName: String, CaseIterable, ExpressibleByArgument, Sendable {
  case none, pyramiddrop, fastv, random, uniform
}

/// The rankings by their names on the command line.
public struct RankingName: ExpressibleByArgument, Sendable {
  private let name: String

  public init?(argument: String) {
    guard Self.allValueStrings.contains(argument) else { return nil }
    name = argument
  }

  public static var allValueStrings: [String] { Ranking.all(seed: 0).map(\.name) }

  /// The ranking, with a seed for one that draws lots.
  func ranking(seed: UInt64) -> Ranking { Ranking.all(seed: seed).first { $0.name == name } ?? .attention }
}

/// How a policy drops; which policy is another option.
public struct PolicyOptions: ParsableArguments {
  @Option(
    name: [.customLong("layer-list"), .customLong("layer_list")],
    help: "Drop after these many layers, such as 8,16,24.")
  public var layerList: NumberList<Int>?

  @Option(
    name: [.customLong("image-token-ratio-list"), .customLong("image_token_ratio_list")],
    help: "Shares of the original visual tokens to keep there, such as 0.5,0.25,0.125.")
  public var ratioList: NumberList<Double>?

  @Option(help: "Keep this share of the visual tokens from stage to stage, in equal stages. (default: 0.5)")
  public var lambda: Double?

  @Option(help: "Number of equal stages. (default: 4)")
  public var stages: Int?

  @Option(
    name: [.customLong("fastv-k"), .customLong("fastv_k")], help: "FastV: layers that see all tokens. (default: 2)")
  public var fastVK: Int?

  @Option(
    name: [.customLong("fastv-r"), .customLong("fastv_r")], help: "FastV: share of tokens dropped. (default: 0.5)")
  public var fastVR: Double?

  @Option(
    help: """
      What tokens are ranked by: attention, attention-norope, attention-debiased, value-weighted, key-norm, random or \
      uniform. (default: attention, as in the papers)
      """)
  public var rank: RankingName?

  @Flag(
    name: .customLong("mask-padding"), help: "Drop patches that lie wholly in an image's padding before all others.")
  public var dropsPaddingFirst = false

  @Option(help: "Positions after a drop: compact or original. (default: the method's own)")
  public var positions: PositionRule?

  @OptionGroup public var target: TargetOptions

  public init() {}

  public func validate() throws {
    guard !target.isGiven || (lambda == nil && ratioList == nil && fastVR == nil) else {
      throw ValidationError(
        "a target finds how much to drop; leave out --lambda, --image-token-ratio-list and --fastv-r")
    }
    guard (layerList == nil) == (ratioList == nil) || target.isGiven else {
      throw ValidationError("--layer-list and --image-token-ratio-list belong together; give both")
    }
    guard layerList == nil || (lambda == nil && stages == nil) else {
      throw ValidationError("--layer-list says all that --lambda and --stages say; give one or the other")
    }
  }

  /// The policy of this name with these options.
  ///
  /// - Throws: `ValidationError` when an option belongs to another policy.
  public func policy(_ name: PolicyName, seed: UInt64) throws -> any TokenDroppingPolicy {
    let isStaged = [.pyramiddrop, .random, .uniform].contains(name)
    if !isStaged, layerList != nil || lambda != nil || stages != nil {
      throw ValidationError(
        "--policy \(name.rawValue) has no stages; --layer-list, --lambda and --stages are pyramiddrop's")
    }
    if name != .fastv, fastVK != nil || fastVR != nil {
      throw ValidationError("--fastv-k and --fastv-r go with --policy fastv, not \(name.rawValue)")
    }
    if rank != nil, name != .pyramiddrop, name != .fastv {
      throw ValidationError("--rank goes with --policy pyramiddrop or fastv, not \(name.rawValue)")
    }
    guard !dropsPaddingFirst || name != .none else {
      throw ValidationError("--policy none drops nothing; leave out --mask-padding")
    }
    guard let target = target.target else { return plain(name, seed: seed) ?? NoDropping() }
    guard let policy = plain(name, seed: seed) else {
      throw ValidationError("--policy none drops nothing; leave out the target")
    }
    return TargetedDrop(policy, target)
  }

  /// The policy as its options say, without a target; `nil` for none.
  private func plain(_ name: PolicyName, seed: UInt64) -> (any AdjustablePolicy)? {
    let ranking = rank?.ranking(seed: seed) ?? .attention
    switch name {
    case .none: return nil
    case .pyramiddrop:
      return PyramidDrop(
        schedule, ranking: ranking, positions: positions ?? .compact, dropsPaddingFirst: dropsPaddingFirst)
    case .random:
      return RandomDrop(schedule, seed: seed, positions: positions ?? .compact, dropsPaddingFirst: dropsPaddingFirst)
    case .uniform: return UniformDrop(schedule, positions: positions ?? .compact, dropsPaddingFirst: dropsPaddingFirst)
    case .fastv:
      return FastV(
        k: fastVK ?? 2, r: fastVR ?? 0.5, ranking: ranking, positions: positions ?? .original,
        dropsPaddingFirst: dropsPaddingFirst)
    }
  }

  /// The options that mean something to a policy, for a command that runs several.
  public func forPolicy(_ name: PolicyName) -> PolicyOptions {
    var options = self
    if [.none, .fastv].contains(name) {
      (options.layerList, options.ratioList, options.lambda, options.stages) = (nil, nil, nil, nil)
    }
    if name != .fastv { (options.fastVK, options.fastVR) = (nil, nil) }
    if ![.pyramiddrop, .fastv].contains(name) { options.rank = nil }
    if name == .none {
      options.dropsPaddingFirst = false
      options.target.clear()
    }
    return options
  }

  private var schedule: StageSchedule {
    if let layerList {
      // Without ratios, these are found for a target.
      let ratios = ratioList?.numbers ?? layerList.numbers.map { _ in 1 }
      return .listed(layers: layerList.numbers, ratios: ratios)
    }
    return .geometric(lambda: lambda ?? 0.5, stages: stages ?? 4)
  }
}

/// What a prompt may cost; schedules are found so that it costs no more.
public struct TargetOptions: ParsableArguments {
  @Option(
    name: .customLong("target-tokens"), help: "Drop so that layers see at most this many visual tokens on average.")
  public var tokens: Double?

  @Option(
    name: .customLong("target-flops"),
    help: "Drop so that the prompt costs this share of what it costs without, such as 45%.")
  public var flops: Share?

  @Option(name: .customLong("target-kv"), help: "Drop so that the prompt's keys and values fit, such as 200MiB.")
  public var cache: ByteCount?

  @Option(
    name: .customLong("target-ttft"),
    help: "Drop so that the first token comes within this time, such as 3s, by a short measurement.")
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

  /// Takes the target back, for a policy that drops nothing.
  mutating func clear() { (tokens, flops, cache, firstToken) = (nil, nil, nil, nil) }

  /// The target, if one is given.
  var target: CostTarget? { targets.first }

  private var targets: [CostTarget] {
    [
      tokens.map { .averageTokens($0) }, flops.map { .flops(share: $0.share) }, cache.map { .cacheBytes($0.bytes) },
      firstToken.map { .firstToken(seconds: $0.seconds) },
    ].compactMap(\.self)
  }
}

/// A share as people write it: `45%`, `0.45`.
public struct Share: ExpressibleByArgument, Sendable {
  public let share: Double

  public init?(argument: String) {
    let isPercent = argument.hasSuffix("%")
    guard let number = Double(isPercent ? String(argument.dropLast()) : argument) else { return nil }
    share = isPercent ? number / 100 : number
    guard (0...1).contains(share) else { return nil }
  }
}

/// A time as people write it: `3s`, `250ms`, `1.5`.
public struct Seconds: ExpressibleByArgument, Sendable {
  public let seconds: Double

  public init?(argument: String) {
    let units = [("ms", 1e-3), ("s", 1.0)]
    let unit = units.first { argument.hasSuffix($0.0) }
    guard let number = Double(argument.dropLast(unit?.0.count ?? 0)), number > 0, number.isFinite else { return nil }
    seconds = number * (unit?.1 ?? 1)
  }
}

/// A policy with its options as one argument, such as `pyramiddrop --lambda 0.4`: what would follow `--policy`.
public struct NamedSchedule: Sendable {
  /// The words as they were given.
  public let name: String
  public let policy: any TokenDroppingPolicy

  /// What a policy is called where it stands alone.
  public init(_ name: PolicyName, _ policy: any TokenDroppingPolicy) {
    (self.name, self.policy) = (name.rawValue, policy)
  }

  /// - Throws: `ValidationError` that says what is wrong with the words.
  public init(_ text: String) throws {
    let words = text.split(whereSeparator: \.isWhitespace).map(String.init)
    guard let name = words.first.flatMap(PolicyName.init(rawValue:)) else {
      let known = PolicyName.allCases.map(\.rawValue).joined(separator: ", ")
      throw ValidationError("a schedule begins with one of \(known); found '\(text)'")
    }
    do {
      policy = try PolicyOptions.parse(Array(words.dropFirst())).policy(name, seed: 0)
    } catch {
      throw ValidationError("the schedule '\(text)': \(PolicyOptions.message(for: error))")
    }
    self.name = words.joined(separator: " ")
  }

  /// The options without dashes and the policy's name: `lambda 0.4`, `r 0.75`; empty where there are none.
  public var parameters: String {
    let words = name.split(separator: " ")
    guard let policy = words.first else { return "" }
    return words.dropFirst().map { word in
      let option = word.drop { $0 == "-" }
      return option.hasPrefix(policy + "-") ? option.dropFirst(policy.count + 1) : option
    }.joined(separator: " ")
  }
}
