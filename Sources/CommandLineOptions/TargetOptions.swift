public import ArgumentParser
internal import Foundation
internal import TokenDropping

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
