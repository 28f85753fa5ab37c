public import ArgumentParser

/// Names separated by commas, such as `none,fastv,pyramiddrop`.
public struct NameList<Name>: ExpressibleByArgument, Sendable
where Name: CaseIterable & RawRepresentable & Sendable, Name.RawValue == String {
  public var names: [Name]

  public init(_ names: [Name]) { self.names = names }

  public init?(argument: String) {
    let parts = argument.split(separator: ",", omittingEmptySubsequences: false)
    names = parts.compactMap { Name(rawValue: String($0)) }
    guard names.count == parts.count else { return nil }
  }

  public static var allValueStrings: [String] { Name.allCases.map(\.rawValue) }

  public var defaultValueDescription: String { names.map(\.rawValue).joined(separator: ",") }
}
