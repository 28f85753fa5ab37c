public import ArgumentParser

/// A list of numbers as people write it: `8,16,24`, `[8, 16, 24]`.
public struct NumberList<Number: LosslessStringConvertible & Sendable>: ExpressibleByArgument, Sendable {
  public var numbers: [Number]

  public init(_ numbers: [Number]) { self.numbers = numbers }

  public var defaultValueDescription: String { numbers.map { "\($0)" }.joined(separator: ",") }

  public init?(argument: String) {
    var text = Substring(argument.filter { !$0.isWhitespace })
    if text.hasPrefix("["), text.hasSuffix("]"), text.count >= 2 { text = text.dropFirst().dropLast() }
    let parts = text.split(separator: ",", omittingEmptySubsequences: false)
    numbers = parts.compactMap { Number(String($0)) }
    guard numbers.count == parts.count else { return nil }
  }
}
