internal import ArgumentParser
public import TokenDropping

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
