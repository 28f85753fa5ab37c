import ArgumentParser
import BenchSupport
import CommandLineOptions
import ModelFormats
import PDrop

/// Names separated by commas, such as `none,fastv,pyramiddrop`.
struct NameList<Name>: ExpressibleByArgument, Sendable
where Name: CaseIterable & RawRepresentable & Sendable, Name.RawValue == String {
  var names: [Name]

  init(_ names: [Name]) { self.names = names }

  init?(argument: String) {
    let parts = argument.split(separator: ",", omittingEmptySubsequences: false)
    names = parts.compactMap { Name(rawValue: String($0)) }
    guard names.count == parts.count else { return nil }
  }

  static var allValueStrings: [String] { Name.allCases.map(\.rawValue) }

  var defaultValueDescription: String { names.map(\.rawValue).joined(separator: ",") }
}

extension PublishedShape: ExpressibleByArgument {}
extension TableFormat: ExpressibleByArgument {}
