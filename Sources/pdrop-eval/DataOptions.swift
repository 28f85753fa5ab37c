import ArgumentParser
import CommandLineOptions
import Evaluation
import Foundation

/// Where the benchmarks are, and which of them are meant.
struct DataOptions: ParsableArguments {
  @Option(help: "Folder of the benchmarks, laid out as LLaVA's playground/data/eval.")
  var data: String

  @Option(
    help: ArgumentHelp("Benchmarks, separated by commas. (default: all that are there)", valueName: "name,..."),
    transform: Self.names)
  var benchmark: [String]?

  private static func names(_ text: String) throws -> [String] {
    let names = text.split(separator: ",").map(String.init)
    for name in names where Benchmarks.named(name) == nil {
      let known = Benchmarks.all.map(\.name).joined(separator: ", ")
      throw ValidationError("--benchmark '\(name)' is not known; use some of \(known)")
    }
    return names
  }

  /// The benchmarks that are named, or all.
  var benchmarks: [any Benchmark] { benchmark?.compactMap(Benchmarks.named) ?? Benchmarks.all }

  /// - Throws: `FileProblem` when there is no such folder.
  func folder() throws -> DataFolder {
    let kind = try? FileManager.default.attributesOfItem(atPath: data + "/.")[.type] as? FileAttributeType
    guard kind == .typeDirectory else { throw FileProblem("\(data): no such folder; give that of the benchmarks") }
    return DataFolder(data)
  }
}
