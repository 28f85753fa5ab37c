public import ArgumentParser

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
