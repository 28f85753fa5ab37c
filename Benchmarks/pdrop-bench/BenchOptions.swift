import ArgumentParser
import BenchSupport
import CommandLineOptions
import Foundation

/// How often to measure, on how many threads, and how to print it.
struct BenchOptions: ParsableArguments {
  @Option(name: [.short, .long], help: "Measured repetitions, after one that warms up.")
  var repetitions = 5

  @Option(name: [.short, .long], help: "Threads to compute on. (default: all cores)")
  var threads: Int?

  @Option(name: [.short, .long], help: "Form of the table.")
  var output = TableFormat.md

  func validate() throws {
    guard repetitions >= 1 else { throw ValidationError("--repetitions must be at least 1, found \(repetitions)") }
    guard threads.map({ (1...1024).contains($0) }) ?? true else {
      throw ValidationError("--threads must be 1 to 1024, found \(threads ?? 0)")
    }
  }

  var threadCount: Int { threads ?? ProcessInfo.processInfo.activeProcessorCount }

  /// Prints the table.
  func print(_ records: [Record], as name: String) throws {
    try Output().write(output.rendered(records, name: name))
  }
}
