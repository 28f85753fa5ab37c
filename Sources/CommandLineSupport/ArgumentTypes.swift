public import ArgumentParser
package import BatchInference

/// A number of bytes as people write it: `16GiB`, `16G`, `800 MB`, `1073741824`.
public struct ByteCount: ExpressibleByArgument, Sendable, Equatable {
  public let bytes: Int

  private static let units: [(name: String, bytes: Double)] = [
    ("kib", 0x1p10), ("mib", 0x1p20), ("gib", 0x1p30), ("tib", 0x1p40), ("kb", 1e3), ("mb", 1e6), ("gb", 1e9),
    ("tb", 1e12), ("k", 0x1p10), ("m", 0x1p20), ("g", 0x1p30), ("t", 0x1p40), ("b", 1),
  ]

  public init?(argument: String) {
    let text = argument.lowercased().filter { !$0.isWhitespace }
    let unit = Self.units.first { text.hasSuffix($0.name) }
    guard let number = Double(text.dropLast(unit?.name.count ?? 0)), number > 0 else { return nil }
    let bytes = number * (unit?.bytes ?? 1)
    guard bytes < 0x1p62 else { return nil }
    self.bytes = Int(bytes)
  }
}

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

/// How many records are answered together, in how much memory, and how their progress is shown.
package struct EngineArguments: ParsableArguments {
  @Option(help: "Progress on stderr: auto, a bar on a terminal; plain, a line every 30 seconds; none.")
  package var progress = ProgressStyle.auto

  @Option(
    name: [.customShort("b"), .customLong("batch-size")],
    help: "Most records to answer together, 1 to 16; answers do not depend on it. (default: as many as fit)")
  package var batchSize: Int?

  @Option(help: "Memory for all that the program holds, such as 16GiB. (default: most of what is free)")
  package var ram: ByteCount?

  package init() {}

  package func validate() throws {
    guard batchSize.map({ (1...EngineOptions.largestBatchSize).contains($0) }) ?? true else {
      throw ValidationError("--batch-size must be 1 to \(EngineOptions.largestBatchSize), found \(batchSize ?? 0)")
    }
  }

  /// How the records are answered.
  package func engine(threads: Int) -> EngineOptions {
    var options = EngineOptions(threads: threads)
    if let batchSize { options.batchSize = batchSize }
    options.memoryLimit = ram?.bytes
    return options
  }
}
