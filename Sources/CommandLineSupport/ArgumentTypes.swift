public import ArgumentParser
package import BatchInference
public import PDrop

/// Checks that the value of an option, if it is given, is in a range.
///
/// - Throws: `ValidationError` with the range and the value; of a range up to large numbers, with the end that is passed.
package func checkRange(_ option: String, _ value: Int?, _ range: ClosedRange<Int>) throws {
  guard let value, !range.contains(value) else { return }
  let expected =
    range.upperBound < 1 << 20
    ? "\(range.lowerBound) to \(range.upperBound)"
    : value < range.lowerBound ? "at least \(range.lowerBound)" : "at most \(range.upperBound)"
  throw ValidationError("\(option) must be \(expected), found \(value)")
}

/// A number of bytes on the command line: `16GiB`, `16G`, `800 MB`, `1073741824`.
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

/// A comma-separated list of names, such as `none,fastv,pyramiddrop`.
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

/// A comma-separated list of numbers, brackets and spaces allowed: `8,16,24`, `[8, 16, 24]`.
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

/// `auto`, `off`, or the maximum length of a draft.
extension Speculation: ExpressibleByArgument {
  public init?(argument: String) {
    switch argument {
    case "auto": self = .auto
    case "off": self = .off
    default:
      guard let length = Int(argument), (1...Self.maxDraftLength).contains(length) else { return nil }
      self = .fixed(length)
    }
  }

  public var defaultValueDescription: String {
    switch self {
    case .auto: "auto"
    case .off: "off"
    case .fixed(let length): "\(length)"
    }
  }
}

/// The progress display of a batch.
package struct ProgressArguments: ParsableArguments {
  @Option(help: "Progress on stderr: auto (a bar on a terminal, else plain), plain (a line every 30 seconds) or none.")
  package var progress = ProgressStyle.auto

  package init() {}
}

/// Options of the batch engine: batch size, memory limit and speculative decoding.
package struct EngineArguments: ParsableArguments {
  @Option(
    name: [.customShort("b"), .customLong("batch-size")],
    help: """
      Maximum batch size (continuous batching), 1 to 16. Answers do not depend on it. (default: limited by memory)
      """)
  package var batchSize: Int?

  @Option(help: "Memory limit of the process, such as 16GiB. (default: most of the free memory)")
  package var ram: ByteCount?

  @Option(
    help: ArgumentHelp(
      """
      Speculative decoding: drafts from the prompt and earlier answers, verified in one step. auto as long as \
      it pays, off, or the maximum length of a draft, 1 to 15. Answers do not depend on it.
      """, valueName: "auto|off|n"))
  package var speculate = Speculation.auto

  package init() {}

  package func validate() throws {
    guard batchSize.map({ (1...EngineOptions.maxBatchSize).contains($0) }) ?? true else {
      throw ValidationError("--batch-size must be 1 to \(EngineOptions.maxBatchSize), found \(batchSize ?? 0)")
    }
  }

  /// The engine options of these arguments; limits that are not given keep their defaults.
  package func engine(threads: Int) -> EngineOptions {
    var options = EngineOptions(threads: threads)
    if let batchSize { options.batchSize = batchSize }
    options.memoryLimit = ram?.bytes
    options.speculation = speculate
    return options
  }
}
